"""Does patchout pay on real recordings, at equal cost and at equal epochs?

Question: a small PaSST is trained from scratch on ESC-50. With half of the patches dropped a step
costs half as much. Does the model get better if that buys twice the epochs, and how much worse is
it at the same epochs, for half the cost?

Command: nox -s ablate -- esc50_patchout --data esc50=DIR
Expected time: about 90 minutes on two CPU cores.

Design: none is trained for 16 epochs; unstructured patchout of .5 once for the same FLOPs (of
matrix products and attention, forward and backward, of kept patches), and once for the same epochs.
Five seeds on each of the five published folds; a seed's pass over the folds is one observation. For
each rate the learning rate is the best of three in one run each, on a validation split of the first
fold's training part, whose clips are tests of other folds.

Primary hypothesis, written before the first run: at equal FLOPs the mAP with patchout is not lower
than without by 0.02. mAP tells models apart better here than accuracy, which is beside it.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant

from .recipes import ESC50_RATES, esc

_HALF = {"patchout": Patchout("unstructured", rate=0.5)}

STUDY = Study(
    name="esc50_patchout",
    question="Does patchout pay on real recordings, at equal cost and at equal epochs?",
    base=esc(),
    baseline="none",
    variants=(
        Variant("none"),
        Variant("unstructured .5", _HALF),
        Variant("unstructured .5, epochs of none", _HALF, shares="epochs"),
    ),
    shared="flops",
    contrasts={
        "half of the patches dropped, at equal FLOPs (primary)": {
            "budget of 16 epochs": {"unstructured .5": 1.0, "none": -1.0}
        }
    },
    tune=ESC50_RATES,
    margin=0.02,
    minutes=90,
)
