"""Sixty mistakes at the command line that both editions are given, spelled as in the first."""

from __future__ import annotations

from pathlib import Path

from edition_cells import EVALUATE, GOOD, OWN, SHARED, Batch, lines

# Studies whose second variant is wrong, in one field: of several, any may be the one that is named.
_WRONG = """
    rate: patchout.kind=unstructured patchout.rate=0.999
    beyond: patchout.kind=time patchout.rate=1.5
    columns: patchout.kind=time patchout.time=8
    rows: patchout.kind=structured patchout.time=1 patchout.frequency=9
    patches: patchout.kind=unstructured patchout.patches=65
    kind: patchout.kind=diagonal
    field: model.nam=1
    option: +cnn model.name=cnn6 model.rho=3
    dropping: +cnn model.name=cnn6 patchout.kind=time patchout.rate=0.5
    one_class: training.loss=ce
    inner: training.select=inner
    averaged: training.tested=swa
    weighted: training.epoch_clips=10
    crop: data.crop=random data.storage=prepared
    no_file: init.source=checkpoint
    lost_file: init.source=checkpoint init.checkpoint=gone.pt
    no_fit: init.source=checkpoint init.checkpoint=INPUTS/files/cnn6.pth
    unmeant: init.checkpoint=gone.pt
    metrics: metrics=["mAPP"]
    stages: patchout.kind=time patchout.rate=0.5 patchout.stages=1"""
_TEXT = GOOD.text()
STUDIES = {
    **{name: Batch(name, f"a:\nb: {line}", SHARED).text() for name, line in lines(_WRONG)},
    "named": _TEXT,
    "seeds": _TEXT.replace("good", "seeds").replace("(0,)", '("a",)'),
    "folds": _TEXT.replace("good", "folds").replace("seeds=", "folds=(1, 2), seeds="),
    "metric": _TEXT.replace("good", "metric").replace('"mAP"', '"AUC"'),
    "unknown": _TEXT.replace("question=", "qestion="),
    "alone": Batch("alone", "a:", SHARED).text(),
    "syntax": "x = 1\ny = (\n",
    "none": "x = 1\n",
    "raises": "def f():\n    return 1 / 0\n\n\nf()\n",
    "exits": "import sys\nsys.exit(0)\n",
    "imports": "import nothing_there\n",
}
_SET = """training.epoch=3 trainin.epochs=3 salt.x=3 model.name=passt_micr patchout.kind=tim
    data.name=audiosett training.epochs =3 training.epochs=many training.epochs=NaN
    training.learning_rate=Infinity training.epochs=0 model.stride=[6 frontend.deviation=0
    engine.loaders=-1 training.select=frist"""
_PREDICT = f"predict --checkpoint {OWN[0]} INPUTS/files"
MISTAKES = [
    *(f"plan {name}.py --out runs" for name in STUDIES),
    *(f"plan good.py --out runs --set {word}" for word in _SET.split()),
    *f"""\
plan good.py --data esc50
plan good.py --data esc51=/data
plan good.py --data synthetic=/data
plan good.py --data esc50=gone --set data.name=esc50
plan good.py --seeds 0
plan good.py --folds 2
plan good.py --device tpu
plan good.py --name a/b
plan good.py --variant c
plan good.py --variant a --no-baseline
plan good.py --out good.py
plan good.py --out good.py/runs
plan good.py --workers 0
plan good.py --nonsense
run good.py --workers -2
run good.py --timeout 0
run good.py --memory 0
run good.py --memory inf
run good.py --retry bogus
plan quik
plan no.py
report quik --runs empty --out reports
report --no-baseline
report --variant a
list nothing
status good.py --out good.py
records diff 0000 1111 --out empty
records clean --out gone
search good.py --storage nowhere://x --trials 1
compare passt_s
compare passt_s past_s
compare passt_s passt_s
compare passt_s passt_s:strid=3
compare passt_s passt_s:stride=wide
compare passt_micro passt_micro:patchout.kind=none
weights get nothing
weights export gone.safetensors x.pt
weights export {OWN[2]} x.pt
predict --checkpoint none.pt INPUTS/files/a.wav
predict --checkpoint passt_30sec INPUTS/files/a.wav
predict --checkpoint INPUTS/files/a.wav INPUTS/files/a.wav
predict --checkpoint INPUTS/files/empty.pt INPUTS/files/a.wav
predict --checkpoint INPUTS/files/page.pt INPUTS/files/a.wav
predict --checkpoint INPUTS/files/other.pt INPUTS/files/a.wav
{_PREDICT}/gone.wav
{_PREDICT}/broken.wav
{_PREDICT}/a.wav --hop 0
{_PREDICT}/a.wav --device abacus
{_PREDICT}/a.wav --labels no.txt
{EVALUATE} {OWN[0]} --data synthetic
{EVALUATE} INPUTS/files/scenes.safetensors --data synthetic --metrics mAPP
{EVALUATE} INPUTS/files/scenes.safetensors --data synthetic --split tset
{EVALUATE} esc50_fold1 --data esc50=INPUTS/esc50
{EVALUATE} openmic --data openmic=INPUTS/openmic --metrics mAP
data check manifest
data check nothing=.
data check manifest=gone
data check synthetic=.
data check manifest=INPUTS/empty
data check esc50=INPUTS/esc50 --fold 9
data check manifest=INPUTS/manifest --rate 10
data check manifest=INPUTS/manifest-16000 --rate 32000
data check manifest=INPUTS/manifest-16000 --seconds 0
data prepare manifest=INPUTS/manifest --rate 16000 --format zip""".splitlines(),
]


def write_wrong_studies(folder: Path, inputs: Path) -> None:
    """Writes the study files with mistakes, and an empty store."""
    (folder / "empty").mkdir()
    for name, text in STUDIES.items():
        (folder / f"{name}.py").write_text(text.replace("INPUTS", str(inputs)))
