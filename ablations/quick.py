"""What do kind, rate and overlap of patchout do to mAP, step time and memory?

Question: what does a small PaSST gain or lose by dropping patches, by kind and rate, and by
overlapping them, at the same number of epochs and at the same cost?

Command: nox -s ablate
Expected time: about 8 minutes on two CPU cores, no GPU, no data.

Design: all variants have the FLOPs of the baseline in 8 epochs (of matrix products and attention,
forward and backward, of kept patches), so that what drops patches is trained for more epochs and
what adds some for fewer; those named "8 epochs" have its epochs. Unstructured and time patchout
of .5 keep as many tokens.

Expected outcome: at equal epochs every kind loses mAP, the more patches it drops, and a finer
stride gains some; a model this small, trained so briefly from scratch, lacks training. At equal
FLOPs dropping single patches gains, because it buys epochs. Dropping columns hurts the classes
that differ in time. Training gets faster and smaller with fewer tokens; inference does not.
"""

from __future__ import annotations

from typing import Any

from passt_bench.spec import ModelSpec, Patchout, Search, Study, Variant, pairwise

from .recipes import synthetic

_SETTINGS: dict[str, dict[str, Any]] = {
    "unstructured .5": {"patchout": Patchout("unstructured", rate=0.5)},
    "time .5": {"patchout": Patchout("time", rate=0.5)},
    "unstructured .75": {"patchout": Patchout("unstructured", rate=0.75)},
    "stride 6": {"model.stride": (6, 6)},
}

STUDY = Study(
    name="quick",
    question="What do kind, rate and overlap of patchout do to mAP, step time and memory?",
    base=synthetic(),
    baseline="none",
    variants=(
        Variant("none"),
        *(Variant(name, changes) for name, changes in _SETTINGS.items()),
        *(
            Variant(f"{name}, 8 epochs", changes, shares="epochs")
            for name, changes in _SETTINGS.items()
        ),
        Variant("CNN", {"model": ModelSpec("panns_micro")}, reference=True),
    ),
    shared="flops",
    contrasts={
        "kinds at equal tokens and FLOPs": pairwise("unstructured .5", "time .5"),
        "kinds at equal tokens and epochs": pairwise(
            "unstructured .5, 8 epochs", "time .5, 8 epochs"
        ),
        "rates at equal FLOPs": pairwise("unstructured .5", "unstructured .75"),
    },
    search=Search(strides=((6, 6),), fields={"training.learning_rate": (1.5e-3, 3e-3, 6e-3)}),
    minutes=8,
)
