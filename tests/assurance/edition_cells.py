"""What both editions train and are asked: each option of model, patchout, front end, data, engine.

A cell is a line: its name and its fields, as the first edition spells them with --set; ``+name``
stands for the fields of `NAMED`, INPUTS for the folder of edition_inputs.py. A batch is a study of
cells that share their data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STUDY = '''"""Cells that both editions train."""

import json

from passt_bench.spec import Recipe, Study, Variant, override

CELLS = json.loads(r"""{cells}""")
STUDY = Study(
    name="{name}",
    question="Is it what the first edition computes?",
    base=override(Recipe(), json.loads(r"""{shared}""")),
    variants=tuple(Variant(name, changes) for name, changes in CELLS.items()),
    baseline=next(iter(CELLS)),
    metric="{metric}",
    seeds=(0,),
)
'''
NAMED = {
    "short": "training.epochs=1 training.batch_size=16 training.learning_rate=0.003",
    "micro": "model.name=passt_micro model.patch=[8,8] model.stride=[8,8] model.width=16 "
    "model.depth=1 model.heads=2",
    "mels": "frontend.hop=250 frontend.mels=32",
    "scenes": "+short +micro +mels data.name=synthetic data.train_clips=64 data.test_clips=64",
    "files": "+short +micro +mels data.seconds=0.8",
    "passt": "frontend.sampling_rate=32000 frontend.n_fft=1024 frontend.window=800 "
    "frontend.hop=320 frontend.mels=128 frontend.fmax=15000.0",
    "wide": "model.patch=null model.stride=null model.width=64 model.heads=1",
    "cnn": "model.patch=null model.stride=null model.width=4 model.depth=null model.heads=null",
    "jitter": "frontend.fmin_jitter=10 frontend.fmax_jitter=500",
    "swa": "training.epochs=3 training.swa_start=1 training.swa_every=1",
    "best": "training.epochs=2 training.select=best_on_inner",
    "waves": "training.gain=7 training.shift=50 training.wavmix=0.5 training.wavmix_alpha=0.3",
    # Storage enters no key, so cells that differ in it alone need a salt to be run each.
    "streamed": "data.storage=streamed salt=2",
    "one_class": 'training.loss=ce metrics=["accuracy","mAP"]',
    "known": 'training.loss=masked_bce metrics=["mAP_masked"]',
}
SCENES = {
    "training": """
        plain:
        optimizer: training.weight_decay=0.05 training.warmup=0.5
        ramp: training.epochs=3 training.schedule=ramp training.ramp_epochs=1 training.decay_start=1
              training.decay_epochs=1 training.last_rate=0.1
        weighted: training.sampling=weighted training.epoch_clips=48
        gain and shift: training.gain=7 training.shift=50
        wavmix: training.wavmix=0.5 training.wavmix_alpha=0.3
        mixup: training.mixup=0.3 salt=3
        roll: training.roll=0.5
        masks: training.mask_time=12 training.mask_frequency=8
        averaged: +swa
        averaged, tested: +swa training.tested=swa
        best: +best training.inner_share=0.3
        masked loss: training.loss=masked_bce metrics=["mAP","mAP_masked"]
        all metrics: metrics=["mAP","mAP_official","AUC","dprime"]
        diverges: training.learning_rate=1e30 training.warmup=0.0""",
    "patchout": """
        none:
        rate: patchout.kind=unstructured patchout.rate=0.5
        patches: patchout.kind=unstructured patchout.patches=9
        columns: patchout.kind=time patchout.rate=0.5
        rows: patchout.kind=frequency patchout.frequency=1
        structured: patchout.kind=structured patchout.time=2 patchout.frequency=1
        block: patchout.kind=block patchout.rate=0.25
        per sample: patchout.kind=time patchout.rate=0.5 patchout.scope=sample
        rising: patchout.kind=unstructured patchout.rate=0.5 patchout.schedule=rising
                patchout.stages=3
        falling: patchout.kind=structured patchout.rate=0.5 patchout.schedule=falling""",
    "engine": """
        plain:
        threads: engine.threads=2
        bfloat16: engine.precision=bfloat16
        float16: engine.precision=float16
        loaders: engine.loaders=2 +waves
        compiled: engine.compiled=true
        prepared: data.storage=prepared salt=1
        streamed: +streamed
        streamed, loaders: +streamed engine.loaders=2 salt=3
        waveforms: data.storage=prepared +jitter""",
    "seed": """
        seven: data.seed=7
        salt: data.seed=7 salt=1""",
    "models": """
        micro:
        overlap: model.stride=[6,4] model.patch=[8,6]
        few frames, cut: model.frames=40
        few frames, stretched: model.frames=40 model.longer=stretch
        many frames: model.frames=100
        passt_tiny: +wide model.name=passt_tiny
        passt_small: +wide model.name=passt_small
        passt_s: +wide model.name=passt_s
        passt_b: +wide model.name=passt_b
        passt_u: +wide model.name=passt_u patchout.kind=time patchout.time=1
        passt_s_n: +wide model.name=passt_s_n patchout.kind=time patchout.time=1
        passt_s_l: +wide model.name=passt_s_l patchout.kind=time patchout.time=1
        ast: +wide model.name=ast
        ast_n: +wide model.name=ast_n model.stride=[10,12]
        cnn6: +cnn model.name=cnn6
        cnn10: +cnn model.name=cnn10
        cnn14: +cnn model.name=cnn14
        panns_micro: +cnn model.name=panns_micro model.depth=2
        cp_resnet: +cnn model.name=cp_resnet model.width=8 model.rho=3
        mobilenetv3: +cnn model.name=mobilenetv3 model.width=null model.multiplier=0.25""",
    "frontends": """
        plain:
        edges: frontend.fmin=50.0 frontend.fmax=7000.0 frontend.preemphasis=0.0 frontend.mean=0.5
               frontend.deviation=2.0
        windows: frontend.n_fft=1024 frontend.window=640 frontend.hop=200
        jitter: +jitter
        kaldi: frontend.name=kaldi frontend.frames=80 frontend.fmin=20.0
        kaldi, cut: frontend.name=kaldi frontend.frames=48
        panns: frontend.name=panns frontend.fmin=50.0 frontend.preemphasis=0.0 frontend.mean=0.0
               frontend.deviation=1.0""",
}
WEIGHTS = """
    scratch: init.source=scratch
    PaSST: init.checkpoint=passt_s_swa_p16_s16_128_ap473 model.stride=[16,16]
    PaSST, other stride: init.checkpoint=passt_s_swa_p16_s16_128_ap473
    PaSST, stretched: init.checkpoint=passt_s_swa_p16_128_ap476 model.frames=60 model.longer=stretch
    PaSST, 7 blocks: init.checkpoint=passt_20sec model.depth=7
    distilled DeiT: init.checkpoint=passt_deit_bd_p16_384
    ViT: init.checkpoint=INPUTS/files/vit.pth model.depth=1
    Lightning: init.checkpoint=INPUTS/files/lightning.ckpt model.depth=1
    AST: model.name=ast init.checkpoint=INPUTS/files/ast.pth model.depth=1
    DeiT into AST: model.name=ast init.checkpoint=INPUTS/files/deit.pth model.depth=1
    CNN14: +cnn model.name=cnn14 frontend.mels=64 init.checkpoint=INPUTS/files/cnn14.pth"""
TWO = """
    auto:
    streamed: +streamed"""
CROP = """
    crop: data.crop=random"""
BEST = """
    best: +best"""
WAVES = """
    waves: +waves
    jitter: +jitter"""
STOPPED_CELLS = """
    one: training.mixup=0.3
    two: salt=7"""


@dataclass(frozen=True)
class Batch:
    """A study of cells, a line each, with shared fields, on data in a folder below INPUTS."""

    name: str
    cells: str
    shared: str
    data: str | None = None
    metric: str = "mAP"

    def text(self) -> str:
        """The study file."""
        cells = {name: fields(line) for name, line in lines(self.cells)}
        told = {"cells": json.dumps(cells, indent=1), "shared": json.dumps(fields(self.shared))}
        return STUDY.format(name=self.name, metric=self.metric, **told)

    def words(self, folder: Path, inputs: Path) -> list[str]:
        """The command that runs it in a folder, as the first edition spells it."""
        (folder / f"{self.name}.py").write_text(self.text().replace("INPUTS", str(inputs)))
        words = ["run", f"{self.name}.py", "--no-cost", "--no-track", "--workers", "1"]
        words += ["--out", "runs", "--reports", "reports"]
        if self.data is not None:
            words += ["--data", f"{fields(self.shared)['data.name']}={inputs / self.data}"]
        return words


def fields(text: str) -> dict[str, Any]:
    """The fields of a line."""
    found: dict[str, Any] = {}
    for word in text.split():
        name, _, value = word.partition("=")
        if word.startswith("+"):
            found |= fields(NAMED[name[1:]])
            continue
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def lines(text: str) -> list[tuple[str, str]]:
    """Names and fields of cells; a line without a name goes on with the last one."""
    found: list[tuple[str, str]] = []
    for line in filter(str.strip, text.splitlines()):
        name, colon, rest = line.strip().partition(":")
        if colon and "=" not in name:
            found.append((name, rest))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line}")
    return found


def _files(data: str, cells: str, more: str = "", metric: str = "mAP") -> Batch:
    name = data.partition("-")[0]
    shared = f"+files data.name={name} {more}"
    return Batch(data.replace("-", "_"), cells, shared, data, metric)


BATCHES = (
    *(Batch(name, cells, "+scenes") for name, cells in SCENES.items()),
    Batch(
        "weights", WEIGHTS, "+scenes +passt +wide model.name=passt_s model.depth=3 "
        "init.source=checkpoint",
    ),
    _files("manifest", TWO + CROP + BEST + WAVES, "+one_class", "accuracy"),
    _files("manifest-16000", TWO + CROP + WAVES, "+one_class", "accuracy"),
    _files("manifest-hdf5", TWO + CROP, "+one_class", "accuracy"),
    _files("esc50", TWO, "+one_class", "accuracy"),
    _files("audioset", TWO),
    _files("audioset-hdf5", TWO),
    _files("fsd50k", TWO + CROP + BEST),
    _files("fsd50k-hdf5", TWO),
    _files("openmic", TWO, "+known", "mAP_masked"),
    _files("openmic-hdf5", TWO, "+known", "mAP_masked"),
    _files("dcase20", TWO, "+one_class", "accuracy"),
)  # fmt: skip


def _stopped(name: str, batch: str, more: str) -> Batch:
    """Two cells of several epochs on the data of a batch; the first is killed."""
    found = next(other for other in BATCHES if other.name == batch)
    shared = f"{found.shared} training.batch_size=8 {more} training.epochs=6"
    return Batch(f"stopped_{name}", STOPPED_CELLS, shared, found.data, found.metric)


STOPPED = (
    _stopped("features", "training", "+swa"),
    _stopped("waveforms", "training", "+jitter +waves"),
    _stopped("procedural", "training", "+streamed engine.loaders=2"),
    _stopped("audio_files", "manifest", "data.crop=random training.gain=7"),
    _stopped("prepared_samples", "manifest_16000", "data.crop=random"),
    _stopped("prepared_hdf5", "manifest_hdf5", "data.crop=random"),
    _stopped("published_hdf5", "audioset_hdf5", "+streamed"),
)

# Commands that both are given.
OWN = [
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
      for name in (*OWN, *_PUBLISHED.split())),
    *(f"predict --checkpoint INPUTS/files/{name} {_SOUNDS} --format json"
      for name in _FOREIGN.split()),
    f"predict --checkpoint {OWN[0]} --checkpoint {OWN[0]} {_SOUNDS} --format json",
    f"predict --checkpoint {OWN[0]} {_SOUNDS} --format csv --hop 0.3",
    f"predict --checkpoint {OWN[0]} {_SOUNDS} --top 2",
    f"predict --checkpoint INPUTS/files/no-names.pt {_SOUNDS} --labels INPUTS/files/names.txt",
]  # fmt: skip
EVALUATE = "evaluate --out runs --reports reports --checkpoint"
EVALUATIONS = [
    f"{EVALUATE} INPUTS/files/scenes.safetensors --data synthetic --batch 40",
    f"{EVALUATE} {OWN[1]} --data manifest=INPUTS/manifest --labels classes.txt",
    f"{EVALUATE} {OWN[1]} --data manifest=INPUTS/manifest --labels classes.txt --split valid",
    f"{EVALUATE} {OWN[1]} --data esc50=INPUTS/esc50 --fold 1 --metrics mAP --labels esc50.txt",
    f"{EVALUATE} ensemble_s16_14 --data audioset=INPUTS/audioset-hdf5",
    f"{EVALUATE} openmic --data openmic=INPUTS/openmic",
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

SHARED = "+short +micro frontend.hop=250 data.train_clips=32 data.test_clips=32"
GOOD = Batch("good", "a:\nb: salt=1", SHARED)


def write_studies(folder: Path, inputs: Path) -> None:
    """Writes a study file and class names."""
    (folder / "classes.txt").write_text("bell\nengine\nvoice\n")
    (folder / "esc50.txt").write_text("dog\nrain\nsea_waves\n")
    (folder / "good.py").write_text(GOOD.text().replace("INPUTS", str(inputs)))
