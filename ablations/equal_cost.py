"""Does patchout pay at equal cost, and from which budget on no longer?

Question: dropping half of the patches makes a step cheaper, so that the same cost buys more epochs.
Does a model trained so reach the quality of one that sees all patches, and at which budgets?

Command: nox -s ablate -- equal_cost
Expected time: about 60 minutes on two CPU cores (built-in synthetic scenes).

Design: the unit of cost is what training without patchout for eight epochs takes in FLOPs (of
matrix products and attention, forward and backward, of kept patches). Both models are trained at 1,
2, 4 and 8 times that, the learning rate falling to zero over each; other rates at 4 times, and half
of the patches at the epochs of all of them as well. Ten seeds.

Primary hypothesis, written before the first run: at the largest budget and equal FLOPs, dropping
half of the patches is not worse than dropping none by 0.01 mAP.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant

from .recipes import synthetic

BUDGETS = (1, 2, 4, 8)


def _dropped(rate: float) -> dict[str, Patchout]:
    return {"patchout": Patchout("unstructured", rate=rate)}


STUDY = Study(
    name="equal_cost",
    question="Does patchout pay at equal cost, and up to which budget?",
    base=synthetic(),
    baseline="none, 1x",
    variants=(
        *(Variant(f"none, {budget}x", budget=budget) for budget in BUDGETS),
        *(Variant(f".5, {budget}x", _dropped(0.5), budget=budget) for budget in BUDGETS),
        *(Variant(f"{rate}, 4x", _dropped(float(rate)), budget=4) for rate in (".25", ".75")),
        *(
            Variant(f".5, epochs of none, {budget}x", _dropped(0.5), budget=budget, shares="epochs")
            for budget in BUDGETS
        ),
    ),
    shared="flops",
    contrasts={
        "half of the patches dropped, at equal FLOPs": {
            f"{budget}x": {f".5, {budget}x": 1, f"none, {budget}x": -1} for budget in BUDGETS
        },
        "half of the patches dropped, at equal epochs": {
            f"{budget}x": {f".5, epochs of none, {budget}x": 1, f"none, {budget}x": -1}
            for budget in BUDGETS
        },
        "other rates, at equal FLOPs": {
            f"{rate}, 4x": {f"{rate}, 4x": 1, "none, 4x": -1} for rate in (".25", ".75")
        },
    },
    seeds=tuple(range(10)),
    margin=0.01,
    minutes=60,
)
