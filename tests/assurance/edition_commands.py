"""Commands that both editions are given: predictions of every weight format, and mistakes.

INPUTS stands for the folder of edition_inputs.py. All are spelled as in the first edition.
"""

from __future__ import annotations

from pathlib import Path

from edition_cells import Batch, lines

_OWN = [
    f"INPUTS/files/own{family}-{loss}.safetensors"
    for family in ("", "-panns_micro", "-cp_resnet", "-mobilenetv3", "-ast", "-cnn6")
    for loss in ("bce", "ce")
]
_PUBLISHED = """passt_s_swa_p16_s16_128_ap473 passt_s_swa_p16_128_ap476 passt_20sec stfthop160
    openmic fsd50k-n esc50_fold1 ensemble_s16_14"""
_FOREIGN = """p.safetensors legacy.pt no-names.pt lightning.ckpt ast.pth cnn6.pth cnn10.pth
    cnn14.pth deit.pth vit.pth"""
_SOUNDS = "INPUTS/files/a.wav INPUTS/files/b.wav"
PREDICTIONS = [
    *(f"predict --checkpoint {name} {_SOUNDS} --format json"
      for name in (*_OWN, *_PUBLISHED.split())),
    *(f"predict --checkpoint INPUTS/files/{name} {_SOUNDS} --format json"
      for name in _FOREIGN.split()),
    f"predict --checkpoint {_OWN[0]} --checkpoint {_OWN[0]} {_SOUNDS} --format json",
    f"predict --checkpoint {_OWN[0]} {_SOUNDS} --format csv --hop 0.3",
    f"predict --checkpoint {_OWN[0]} {_SOUNDS} --top 2",
    f"predict --checkpoint INPUTS/files/no-names.pt {_SOUNDS} --labels INPUTS/files/names.txt",
]  # fmt: skip
_EVALUATE = "evaluate --out runs --reports reports --checkpoint"
EVALUATIONS = [
    f"{_EVALUATE} INPUTS/files/scenes.safetensors --data synthetic --batch 40",
    f"{_EVALUATE} {_OWN[1]} --data manifest=INPUTS/manifest --labels classes.txt",
    f"{_EVALUATE} {_OWN[1]} --data manifest=INPUTS/manifest --labels classes.txt --split valid",
    f"{_EVALUATE} {_OWN[1]} --data esc50=INPUTS/esc50 --fold 1 --metrics mAP --labels esc50.txt",
    f"{_EVALUATE} ensemble_s16_14 --data audioset=INPUTS/audioset-hdf5",
    f"{_EVALUATE} openmic --data openmic=INPUTS/openmic",
]
PREPARATIONS = """\
data prepare manifest=INPUTS/manifest --rate 16000 --out samples
data prepare manifest=INPUTS/manifest --rate 16000 --out packed --format hdf5
data prepare openmic=INPUTS/openmic-hdf5 --rate 8000 --seconds 0.5 --out short
data check manifest=INPUTS/manifest --json --decode
data check manifest=INPUTS/manifest-16000 --json --decode
data check audioset=INPUTS/audioset-hdf5 --json --decode --rate 32000
data check fsd50k=INPUTS/fsd50k --json
data check esc50=INPUTS/esc50 --json --fold 2
weights export INPUTS/files/scenes.safetensors official.pt""".splitlines()

_SHARED = "+short +micro frontend.hop=250 data.train_clips=32 data.test_clips=32"
_GOOD = Batch("good", "a:\nb: salt=1", _SHARED)
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
_TEXT = _GOOD.text()
STUDIES = {
    **{name: Batch(name, f"a:\nb: {line}", _SHARED).text() for name, line in lines(_WRONG)},
    "named": _TEXT,
    "seeds": _TEXT.replace("good", "seeds").replace("(0,)", '("a",)'),
    "folds": _TEXT.replace("good", "folds").replace("seeds=", "folds=(1, 2), seeds="),
    "metric": _TEXT.replace("good", "metric").replace('"mAP"', '"AUC"'),
    "unknown": _TEXT.replace("question=", "qestion="),
    "alone": Batch("alone", "a:", _SHARED).text(),
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
_PREDICT = f"predict --checkpoint {_OWN[0]} INPUTS/files"
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
weights export {_OWN[2]} x.pt
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
{_EVALUATE} {_OWN[0]} --data synthetic
{_EVALUATE} INPUTS/files/scenes.safetensors --data synthetic --metrics mAPP
{_EVALUATE} INPUTS/files/scenes.safetensors --data synthetic --split tset
{_EVALUATE} esc50_fold1 --data esc50=INPUTS/esc50
{_EVALUATE} openmic --data openmic=INPUTS/openmic --metrics mAP
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


def write_studies(folder: Path, inputs: Path) -> None:
    """Writes the study files, an empty store, and class names."""
    (folder / "empty").mkdir()
    (folder / "classes.txt").write_text("bell\nengine\nvoice\n")
    (folder / "esc50.txt").write_text("dog\nrain\nsea_waves\n")
    for name, text in {"good": _TEXT, **STUDIES}.items():
        (folder / f"{name}.py").write_text(text.replace("INPUTS", str(inputs)))
