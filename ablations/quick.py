"""What do kind, rate and overlap of patchout do to mAP, step time and memory?

Question: on scenes whose classes differ in frequency position, time pattern, both, or position in
time, what does each kind of patchout cost, and what does it save?

Command: nox -s ablate
Expected time: about 7 minutes on two CPU cores, no GPU, no data.

Expected outcome: at a rate of 0.75 and equal tokens (16 of 64 patches + 2 special tokens) every
kind loses mAP here, because at equal epochs the model sees fewer patches; dropping frequency rows
hurts the frequency classes most. Unstructured patchout loses less at lower rates. A finer stride
improves mAP and costs time. Training gets faster and smaller with fewer tokens; inference does not.
"""

from __future__ import annotations

from passt_bench.spec import ModelSpec, Patchout, Study, Variant, pairwise

from .recipes import synthetic

_FINE = {"model.stride": (6, 6)}

STUDY = Study(
    name="quick",
    question="What do kind, rate and overlap of patchout do to mAP, step time and memory?",
    base=synthetic(),
    baseline="none",
    variants=(
        Variant("none"),
        Variant("unstructured .25", {"patchout": Patchout("unstructured", rate=0.25)}),
        Variant("unstructured .5", {"patchout": Patchout("unstructured", rate=0.5)}),
        Variant("time .5", {"patchout": Patchout("time", rate=0.5)}),
        Variant("frequency .5", {"patchout": Patchout("frequency", rate=0.5)}),
        Variant("unstructured .75", {"patchout": Patchout("unstructured", rate=0.75)}),
        Variant("time .75", {"patchout": Patchout("time", rate=0.75)}),
        Variant("frequency .75", {"patchout": Patchout("frequency", rate=0.75)}),
        Variant("structured .75", {"patchout": Patchout("structured", rate=0.75)}),
        Variant("stride 6", _FINE),
        Variant(
            "stride 6, 64 patches",
            {**_FINE, "patchout": Patchout("structured", time=2, frequency=2)},
        ),
        Variant("CNN", {"model": ModelSpec("panns_micro")}, reference=True),
    ),
    contrasts={
        "kinds at a rate of .5": pairwise("unstructured .5", "time .5", "frequency .5"),
        "kinds at a rate of .75": pairwise(
            "unstructured .75", "time .75", "frequency .75", "structured .75"
        ),
    },
    minutes=7,
)
