"""Does the saving by patchout survive each engine?

Question: the paper measured 3.8 and 8.0 times the speed with patchout, in 2021, in float16 with the
attention matrix in memory. How much of that is left with fused attention, bfloat16, compiled and
without waiting for kernel launches?

Command: nox -s ablate -- engine_x_patchout
         nox -s ablate -- engine_x_patchout --device cuda
Expected time: about 21 minutes on two CPU cores, 8 on a GPU; no data.

Design: PaSST-B without patchout (1190 tokens), with the patchout of PaSST-S (474), and without
overlap and with that of PaSST-S-N (254), each with the engine of 2021 and with today's; one cost
session, nothing is trained. On a CPU the engine of 2021 is float32 with materialised attention and
today's bfloat16 with attention by heads, at two clips a step. On a GPU they are float16, eager, and
bfloat16 with its residual stream, compiled, as one CUDA graph; as many clips as keep it busy.

Expected outcome: patchout pays with both engines, but less with today's, because fused attention
helps long sequences most.
"""

from __future__ import annotations

from passt_bench.spec import Study, Variant

from .recipes import ENGINE_2021, ENGINE_TODAY, PATCHES, passt_step

# On a GPU large batches, so that no step waits for its launches; the matrices of 2021 leave
# room for half as many clips.
_BATCHES = {1190: 32, 474: 64, 254: 128}

STUDY = Study(
    name="engine_x_patchout",
    question="Does the saving in time and memory by patchout survive each engine?",
    base=passt_step(),
    baseline="2021, 1190 tokens",
    variants=tuple(
        Variant(
            f"{name}, {tokens} tokens",
            {**PATCHES[tokens], **engine},
            cuda={**cuda, "measurement.batch_size": batch // halves},
        )
        for name, (engine, cuda), halves in (("2021", ENGINE_2021, 2), ("today", ENGINE_TODAY, 1))
        for tokens, batch in _BATCHES.items()
    ),
    seeds=(),
    minutes=21,
)
