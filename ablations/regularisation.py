"""Is what patchout gains at equal cost gained by mixup and masks as well?

Question: the model of equal_cost has no other regularisation. If patchout only regularises, then
mixup and SpecAugment's masks give the same, and beside them patchout gives nothing.

Command: nox -s ablate -- regularisation
Expected time: about 35 minutes on two CPU cores (built-in synthetic scenes).

Design: the four-fold budget of equal_cost, whose runs are shared: without patchout with nothing,
mixup, masks and both, and with half of the patches dropped with nothing and with both, all for the
FLOPs of 32 epochs on all patches. Masks hide up to a quarter of the frames and of the mels. For
each of them the learning rate is the best of three, in two runs each, on a validation split.
Ten seeds, 4,000 test clips.

Primary hypothesis, written before the first run: beside mixup and masks, dropping half of the
patches is still not worse than dropping none by 0.01 mAP.

Added after the first look: half of the patches beside mixup alone, because masks of this size make
all models worse and mixup makes them better.
"""

from __future__ import annotations

from dataclasses import replace

from passt_bench.spec import Patchout, Study, Tune, Variant

from .recipes import synthetic

_BASE = synthetic()
_HALF = {"patchout": Patchout("unstructured", rate=0.5)}
_MIXUP = {"training.mixup": 0.3}
_MASKS = {"training.mask_time": 16, "training.mask_frequency": 16}


def _gain(variant: str, other: str) -> dict[str, float]:
    return {variant: 1.0, other: -1.0}


STUDY = Study(
    name="regularisation",
    question="Is what patchout gains at equal cost gained by mixup and masks as well?",
    base=replace(
        _BASE,
        data=replace(_BASE.data, test_clips=4000),
        training=replace(_BASE.training, steps=1472),  # 32 epochs, as in equal_cost
    ),
    baseline="none",
    variants=(
        Variant("none"),
        Variant("none, mixup", _MIXUP),
        Variant("none, masks", _MASKS),
        Variant("none, mixup and masks", _MIXUP | _MASKS),
        Variant(".5", _HALF),
        Variant(".5, mixup and masks", _HALF | _MIXUP | _MASKS),
        Variant(".5, mixup", _HALF | _MIXUP),
    ),
    shared="flops",
    contrasts={
        "half of the patches dropped, beside mixup and masks (primary)": {
            ".5": _gain(".5, mixup and masks", "none, mixup and masks")
        },
        "half of the patches dropped, against other regularisation": {
            name: _gain(".5", f"none, {name}") for name in ("mixup", "masks", "mixup and masks")
        },
        "half of the patches dropped, beside mixup (added after the first look)": {
            ".5": _gain(".5, mixup", "none, mixup")
        },
    },
    tune=Tune({"training.learning_rate": (7.5e-4, 1.5e-3, 3e-3)}, seeds=2),
    seeds=tuple(range(10)),
    margin=0.01,
    minutes=35,
)
