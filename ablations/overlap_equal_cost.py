"""Is it better to spend on overlap or on patches that are not dropped, at equal cost?

Question: overlapping patches make a step dearer, dropping patches cheaper. For the same FLOPs one
can have overlap and drop half, or neither, or train for longer instead.

Command: nox -s ablate -- overlap_equal_cost
Expected time: about 8 minutes on two CPU cores (built-in synthetic scenes).

Design: strides of 8 (no overlap) and 6, without patchout and with half of the patches dropped one
by one, all for the FLOPs of 16 epochs at a stride of 8 without patchout. For each variant the
learning rate is the best of three, in two runs each, on a validation split. Ten seeds.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Tune, effects, factorial, override

from .recipes import synthetic

_STRIDES = ("stride 8", "stride 6")
_DROPPED = ("all patches", "half dropped")

STUDY = Study(
    name="overlap_equal_cost",
    question="Is it better to spend on overlap or on patches that are kept, at equal cost?",
    base=override(synthetic(), {"training.epochs": 16, "data.test_clips": 2000}),
    baseline="stride 8, all patches",
    variants=factorial(
        {
            "stride": {_STRIDES[0]: {}, _STRIDES[1]: {"model.stride": (6, 6)}},
            "patchout": {
                _DROPPED[0]: {},
                _DROPPED[1]: {"patchout": Patchout("unstructured", rate=0.5)},
            },
        }
    ),
    shared="flops",
    contrasts=effects(_STRIDES, _DROPPED),
    tune=Tune({"training.learning_rate": (7.5e-4, 1.5e-3, 3e-3)}, seeds=2),
    seeds=tuple(range(10)),
    minutes=8,
)
