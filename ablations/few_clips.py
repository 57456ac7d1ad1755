"""Does patchout regularise: does it help more, the fewer clips there are to train on?

Question: the paper says that patchout regularises. Then it should gain most where a model overfits,
on few clips, at the same number of steps.

Command: nox -s ablate -- few_clips
Expected time: about 12 minutes on two CPU cores (built-in synthetic scenes).

Design: without patchout and with half of the patches the model is trained for 736 steps (16 epochs
of all 1500 clips) on 50, 150, 500 and 1500 clips; each seed draws its own clips, a smaller number
of them from a larger one. Dropping half of the patches costs half as much, which is left unused
here. For each variant the learning rate is the best of three, in two runs each, on a validation
split. Ten seeds.
"""

from __future__ import annotations

from dataclasses import replace

from passt_bench.spec import Patchout, Study, Tune, Variant, slope

from .recipes import synthetic

_CLIPS = (50, 150, 500, 1500)
_BASE = synthetic()
_HALF = {"patchout": Patchout("unstructured", rate=0.5)}
_TRIPLING = slope({f"{clips} clips": number for number, clips in enumerate(_CLIPS)})

STUDY = Study(
    name="few_clips",
    question="Does patchout help more, the fewer clips there are to train on?",
    base=replace(
        _BASE,
        data=replace(_BASE.data, test_clips=2000),
        training=replace(_BASE.training, steps=736),
    ),
    baseline="none, 1500 clips",
    variants=tuple(
        Variant(f"{name}, {clips} clips", {**changes, "training.clips": clips})
        for name, changes in (("none", {}), (".5", _HALF))
        for clips in _CLIPS
    ),
    contrasts={
        "half of the patches dropped, at equal steps": {
            f"{clips} clips": {f".5, {clips} clips": 1.0, f"none, {clips} clips": -1.0}
            for clips in _CLIPS
        },
        "change of the gain": {
            "with about three times the clips": {f".5, {name}": w for name, w in _TRIPLING.items()}
            | {f"none, {name}": -w for name, w in _TRIPLING.items()}
        },
    },
    tune=Tune({"training.learning_rate": (7.5e-4, 1.5e-3, 3e-3)}, seeds=2),
    seeds=tuple(range(10)),
    minutes=12,
)
