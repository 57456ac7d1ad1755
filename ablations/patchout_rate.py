"""How does mAP fall with the patchout rate, by kind?

Question: how much of the grid can be dropped before mAP falls, and does that depend on the kind?

Command: nox -s ablate -- patchout_rate
Expected time: about 6 minutes on two CPU cores (built-in synthetic scenes).

Expected outcome: a slope that steepens beyond a rate of 0.5; frequency rows cost most at 0.75.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant, pairwise, slope

from .recipes import synthetic

_RATES = (0.25, 0.5, 0.75)
_KINDS = ("unstructured", "time", "frequency", "structured")

STUDY = Study(
    name="patchout_rate",
    question="How does mAP fall with the patchout rate, by kind?",
    base=synthetic(),
    baseline="none",
    variants=(
        Variant("none"),
        *(
            Variant(f"{kind} {rate:g}", {"patchout": Patchout(kind, rate=rate)})
            for kind in _KINDS
            for rate in _RATES
        ),
    ),
    contrasts={
        "change of mAP per tenth more patches dropped": {
            kind: slope({"none": 0.0} | {f"{kind} {rate:g}": rate for rate in _RATES}, step=0.1)
            for kind in _KINDS
        },
        "kinds at a rate of 0.5": pairwise(*(f"{kind} 0.5" for kind in _KINDS)),
    },
    minutes=6,
)
