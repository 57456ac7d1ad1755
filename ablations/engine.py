"""What does each setting of the engine buy?

Question: which part of the way from the engine of 2021 to today's pays, in speed and in memory?

Command: nox -s ablate -- engine
         nox -s ablate -- engine --device cuda
Expected time: about 26 minutes on two CPU cores, 8 on a GPU; no data.

Design: PaSST-S in training (474 tokens). The baseline is today's engine; each variant changes one
setting, the last one all back to those of 2021. On a GPU the baseline has fused attention, is
compiled and one CUDA graph, as the variant “fused attention” is; on a CPU it computes attention by
heads and is eager, as the variant “eager” is. Norms are recomputed in eager mode, because the
compiler itself chooses what to recompute.

Expected outcome: precision buys most on a GPU, and on a CPU with instructions for bfloat16; fused
attention buys memory more than time at this length. Recomputing blocks costs a third of the time
and saves most of the memory.
"""

from __future__ import annotations

from passt_bench.spec import Study, Variant, override

from .recipes import ENGINE_2021, ENGINE_TODAY, PATCHES, passt_step

_TODAY, _ON_CUDA = ENGINE_TODAY
_CUDA = {**_ON_CUDA, "measurement.batch_size": 64}
_EAGER = {"engine.compile": "off", "engine.graph": False}

STUDY = Study(
    name="engine",
    question="What does each setting of the engine buy, in time and in memory?",
    base=override(passt_step(), {**PATCHES[474], **_TODAY}),
    baseline="today",
    variants=(
        Variant("today", cuda=_CUDA),
        Variant("fused attention", {"engine.attention": "fused"}, cuda=_CUDA),
        Variant("materialised attention", {"engine.attention": "materialised"},
                cuda={**_CUDA, "engine.attention": "materialised"}),
        Variant("float32", {"engine.precision": "float32"}, cuda=_CUDA),
        Variant("residual in float32", {"engine.residual": "float32"}, cuda=_CUDA),
        Variant("compiled, no graph",
                {"engine.compile": "default", "engine.attention": "fused"},
                cuda={**_CUDA, "engine.graph": False}),
        Variant("eager", cuda={**_CUDA, **_EAGER}),
        Variant("one thread", {"engine.threads": 1}, cuda=_CUDA),
        Variant("norms recomputed", {"engine.recompute": "norms"}, cuda={**_CUDA, **_EAGER}),
        Variant("blocks recomputed", {"engine.recompute": "blocks"}, cuda=_CUDA),
        Variant(
            "2021",
            {"engine.precision": "float32", "engine.residual": "float32", **ENGINE_2021[0]},
            cuda={**_CUDA, **_EAGER, **ENGINE_2021[0], **ENGINE_2021[1]},
        ),
    ),
    seeds=(),
    minutes=26,
)  # fmt: skip
