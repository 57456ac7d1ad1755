"""Does what patchout gains on ESC-50 at equal cost last at twice the budget?

Question: with more training the model without patchout catches up, or overfits. Is half of the
patches still the better buy at 32 epochs?

Command: nox -s ablate -- esc50_longer --data esc50=DIR
Expected time: about 2 h 20 min on two CPU cores, 45 min less after esc50_patchout, whose runs of
the smaller budget it shares.

Design: as in esc50_patchout, none and unstructured .5 at the FLOPs of 16 epochs without patchout
(1x) and of 32 (2x); the learning rates are those chosen at 1x.

Hypotheses, written before the first run: at 2x the mAP with patchout is not lower than without by
0.02; what patchout gains is smaller at 2x than at 1x.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant, effects

from .recipes import ESC50_RATES, esc

_HALF = {"patchout": Patchout("unstructured", rate=0.5)}
_KINDS, _BUDGETS = ("none", "unstructured .5"), ("1x", "2x")

STUDY = Study(
    name="esc50_longer",
    question="Does what patchout gains on ESC-50 at equal cost last at twice the budget?",
    base=esc(),
    baseline="none, 1x",
    variants=(
        Variant("none, 1x"),
        Variant("unstructured .5, 1x", _HALF),
        Variant("none, 2x", budget=2),
        Variant("unstructured .5, 2x", _HALF, budget=2),
    ),
    shared="flops",
    contrasts={
        "half of the patches dropped, at equal FLOPs": {
            budget: {f"unstructured .5, {budget}": 1.0, f"none, {budget}": -1.0}
            for budget in _BUDGETS
        },
        "interaction of patchout and budget": effects(_KINDS, _BUDGETS)["interactions"],
    },
    tune=ESC50_RATES,
    margin=0.02,
    minutes=140,
)
