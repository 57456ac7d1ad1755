"""Does it matter when in a training patches are dropped?

Question: patchout as a warm-up (falling: short sequences first, the whole grid last) or as a late
regulariser (rising), against the same number of tokens all along?

Command: nox -s ablate -- schedule
Expected time: about 3 minutes on two CPU cores (embedded scenes).

Design: rising and falling to 0.75 in four stages drop 0, 25, 50 and 75 % of the patches, 37.5 % in
the mean; the baseline drops 37.5 % all along, exactly as many tokens. None and 0.75 all along are
the ends of the scale.

Expected outcome: falling is better than rising. Evaluation keeps every patch, and falling ends its
training on the whole grid, at a learning rate that settles.

Outcome: when patches are dropped matters little (rising -0.004, falling -0.011, both undecided with
three seeds); how many are dropped matters (0.75 all along -0.07, none +0.05); see reports/schedule.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant

from .recipes import synthetic

_MOST = Patchout("unstructured", rate=0.75)

STUDY = Study(
    name="schedule",
    question="Does it matter when in a training patches are dropped?",
    base=synthetic(),
    baseline="constant .375",
    variants=(
        Variant("constant .375", {"patchout": Patchout("unstructured", rate=0.375)}),
        Variant("rising to .75", {"patchout": _MOST, "patchout.schedule": "rising"}),
        Variant("falling from .75", {"patchout": _MOST, "patchout.schedule": "falling"}),
        Variant("constant .75", {"patchout": _MOST}, reference=True),
        Variant("none", reference=True),
    ),
    minutes=3,
)
