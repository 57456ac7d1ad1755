"""How do the costs of PaSST and of CNNs grow with the length of the input?

Question: attention grows with the square of the length, a CNN with the length itself. From which
length on is PaSST slower than a CNN, with and without patchout?

Command: nox -s ablate -- length
         nox -s ablate -- length --device cuda
Expected time: about 33 minutes on two CPU cores, 8 on a GPU; no data.

Design: PaSST-B without patchout, the same with structured patchout of 0.6 of the patches (PaSST-S
drops 0.6 of those of ten seconds), and the CNNs CNN14 and MobileNetV3, on 1, 3, 10 and 30 seconds;
one clip a step on a CPU and 16 on a GPU, with today's engine.

Expected outcome: with patchout PaSST costs less than CNN14 up to some twenty seconds, without it
it always costs more; MobileNetV3 has few FLOPs and is cheapest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passt_bench.spec import Patchout, Study, Variant, override

from .recipes import ENGINE_TODAY, panns, passt, passt_step

_MODELS: Mapping[str, Mapping[str, Any]] = {
    "PaSST-B": {},
    "PaSST, patchout .6": {"patchout": Patchout("structured", rate=0.6)},
    "CNN14": panns("cnn14"),
    "MobileNetV3": passt("mobilenetv3", jitter=False),
}

STUDY = Study(
    name="length",
    question="From which length of the input on is PaSST slower than a CNN?",
    base=override(passt_step(), {**ENGINE_TODAY[0], "measurement.batch_size": 1}),
    baseline="PaSST-B, 10 s",
    variants=tuple(
        Variant(
            f"{name}, {seconds} s",
            {**changes, "data.seconds": float(seconds)},
            cuda={**ENGINE_TODAY[1], "measurement.batch_size": 16},
        )
        for seconds in (1, 3, 10, 30)
        for name, changes in _MODELS.items()
    ),
    seeds=(),
    minutes=33,
)
