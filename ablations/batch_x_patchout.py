"""At which batch does patchout pay?

Question: how do speed and memory grow with the batch, with and without patchout?

Command: nox -s ablate -- batch_x_patchout
         nox -s ablate -- batch_x_patchout --device cuda
Expected time: about 21 minutes on two CPU cores, 8 on a GPU; no data.

Design: PaSST-B without patchout (1190 tokens) and with that of PaSST-S (474), with today's engine,
with 1, 2 and 4 clips a step on a CPU and 1, 12 and 96 on a GPU. A batch that does not fit is a row
without a speed; `passt-bench plan batch_x_patchout` predicts the largest that fits.

Expected outcome: on two cores the speed-up hardly depends on the batch, because even one clip keeps
them busy and only the optimizer's share falls. On a GPU small batches wait for kernel launches and
gain less.
"""

from __future__ import annotations

from passt_bench.spec import Study, Variant, override

from .recipes import ENGINE_TODAY, PATCHES, passt_step

# Clips a step on a CPU and on a GPU.
_BATCHES = {
    "one clip": (1, 1),
    "small batch": (2, 12),
    "large batch": (4, 96),
}

STUDY = Study(
    name="batch_x_patchout",
    question="At which batch does patchout pay?",
    base=override(passt_step(), ENGINE_TODAY[0]),
    baseline="one clip, 1190 tokens",
    variants=tuple(
        Variant(
            f"{name}, {tokens} tokens",
            {**PATCHES[tokens], "measurement.batch_size": here},
            cuda={**ENGINE_TODAY[1], "measurement.batch_size": there},
        )
        for tokens in (1190, 474)
        for name, (here, there) in _BATCHES.items()
    ),
    seeds=(),
    minutes=21,
)
