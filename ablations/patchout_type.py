"""Which kind of patchout is best at equal tokens?

Question: with about half of the patches dropped, does it matter whether they are single patches,
time columns, frequency rows or both?

Command: nox -s ablate -- patchout_type --data esc50=DIR
Expected time: about 33 minutes on two free CPU cores for the 400 recordings of ESC-10 (5 folds x 5
seeds); ESC-50 takes five times as long.

Design: the grid is 4 x 18 patches, so that each kind can keep exactly 36 of 72: time 9 of 18
columns, frequency 2 of 4 rows, structured 3 rows of 12 columns, unstructured any 36.

Expected outcome: with 320 training clips the regularizing effect of patchout roughly offsets the
information it removes; differences between kinds are within a few points of accuracy, and five
seeds detect only the larger ones.

Outcome on ESC-10 (records not kept here): time and unstructured patchout the same as none,
frequency patchout worse (the grid has only four rows), structured undecided.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant, pairwise

from .recipes import esc

STUDY = Study(
    name="patchout_type",
    question="Which kind of patchout is best when half of the patches are dropped?",
    base=esc(),
    baseline="none",
    metric="accuracy",
    variants=(
        Variant("none"),
        Variant("unstructured", {"patchout": Patchout("unstructured", patches=36)}),
        Variant("time", {"patchout": Patchout("time", time=9)}),
        Variant("frequency", {"patchout": Patchout("frequency", frequency=2)}),
        Variant("structured", {"patchout": Patchout("structured", frequency=1, time=6)}),
    ),
    contrasts={
        "kinds at equal tokens": pairwise("unstructured", "time", "frequency", "structured")
    },
    minutes=33,
)
