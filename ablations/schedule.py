"""Does it matter when during training patches are dropped?

Question: patchout as a warm-up (falling: short sequences first, the whole grid last) or as a late
regularizer (rising), against the same number of tokens throughout?

Command: nox -s ablate -- schedule
Expected time: about 3 minutes on two CPU cores (built-in synthetic scenes).

Design: rising and falling to 0.75 in four stages drop 0, 25, 50 and 75 % of the patches, 37.5 %
on average; the baseline drops 37.5 % throughout, exactly as many tokens. “none” is the upper
reference, 0.75 throughout the lower one.

Expected outcome: falling is better than rising. Evaluation keeps every patch, and falling ends
training on the whole grid, at a low learning rate.

Outcome: when patches are dropped matters little (rising -0.007, falling -0.008, both undecided with
five seeds); how many does matter (0.75 throughout -0.07, none +0.04); see reports/schedule.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant

from .recipes import synthetic

_FULL = Patchout("unstructured", rate=0.75)

STUDY = Study(
    name="schedule",
    question="Does it matter when during training patches are dropped?",
    base=synthetic(),
    baseline="constant .375",
    variants=(
        Variant("constant .375", {"patchout": Patchout("unstructured", rate=0.375)}),
        Variant("rising to .75", {"patchout": _FULL, "patchout.schedule": "rising"}),
        Variant("falling from .75", {"patchout": _FULL, "patchout.schedule": "falling"}),
        Variant("constant .75", {"patchout": _FULL}, reference=True),
        Variant("none", reference=True),
    ),
    minutes=3,
)
