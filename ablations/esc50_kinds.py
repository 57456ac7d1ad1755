"""Which kind of patchout is best on ESC-50, at equal tokens and FLOPs?

Question: half of the patches can be dropped one by one, as columns (time), as rows (frequency), or
as both. All keep 36 of 72 patches, so that cost does not tell them apart.

Command: nox -s ablate -- esc50_kinds --data esc50=DIR
Expected time: about 90 minutes on two CPU cores, 45 min less after esc50_patchout, whose runs it
shares.

Design: as in esc50_patchout, all at the FLOPs of 16 epochs without patchout; each kind gets the
best of three learning rates. Structured drops 1 of 4 rows and 6 of 18 columns.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant, pairwise

from .recipes import ESC50_RATES, esc

_KINDS = {
    "unstructured .5": Patchout("unstructured", rate=0.5),
    "time .5": Patchout("time", rate=0.5),
    "frequency .5": Patchout("frequency", rate=0.5),
    "structured .5": Patchout("structured", time=6, frequency=1),
}

STUDY = Study(
    name="esc50_kinds",
    question="Which kind of patchout is best on ESC-50, at equal tokens and FLOPs?",
    base=esc(),
    baseline="none",
    variants=(
        Variant("none"),
        *(Variant(name, {"patchout": patchout}) for name, patchout in _KINDS.items()),
    ),
    shared="flops",
    contrasts={"kinds at equal tokens": pairwise(*_KINDS)},
    tune=ESC50_RATES,
    margin=0.02,
    minutes=90,
)
