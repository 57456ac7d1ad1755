"""Does one pattern per sample help, compared with one per batch?

Question: the reference code draws one pattern for all clips of a batch. A pattern for each clip
needs a gather instead of a selection; does it regularize better?

Command: nox -s ablate -- scope
Other kinds and rates: nox -s ablate -- scope --set patchout.kind=structured --set patchout.rate=0.5
Expected time: about 2 minutes on two CPU cores (built-in synthetic scenes).

Design: three quarters of the patches are dropped, where the choice of patches matters most, and
both scopes keep the same tokens. Six seeds, because the effect can only be small. “none” is the
upper reference.

Expected outcome: the same, or slightly better with a pattern per sample. The gradient of a step
then averages over 32 patterns, with less noise; over hundreds of steps both scopes see many.
Drawing 32 patterns takes about 2 ms of a step of 16.

Outcome: a pattern per sample gains 0.019 [-0.006, +0.045]: not worse, with six seeds; “none” is
0.11 better than a pattern per batch. A step takes 1.14 [1.11, 1.19] times as long; see
reports/scope.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant, override

from .recipes import synthetic

STUDY = Study(
    name="scope",
    question="Does one pattern per sample help, compared with one per batch?",
    base=override(synthetic(), {"patchout": Patchout("unstructured", rate=0.75)}),
    baseline="batch",
    variants=(
        Variant("batch"),
        Variant("sample", {"patchout.scope": "sample"}),
        Variant("none", {"patchout": Patchout()}, reference=True),
    ),
    seeds=(0, 1, 2, 3, 4, 5),
    minutes=2,
)
