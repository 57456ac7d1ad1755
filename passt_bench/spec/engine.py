"""The parts of a recipe that say how it is computed and how its costs are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from passt_bench.spec.codec import FREE, LATER, written_as

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class EngineSpec:
    """The device and how it computes.

    On a model without transformer blocks, such as a CNN, ``attention``, ``residual`` and
    ``recompute`` change nothing but the key.
    """

    device: Annotated[Literal["cpu", "cuda"], Field(description="Device type.")] = "cpu"
    threads: Annotated[int, Field(gt=0, description="CPU threads per process.")] = 1
    precision: Annotated[
        Precision,
        Field(description="float32, or autocast to a half precision; float16 scales the loss."),
    ] = "float32"
    evaluate_precision: Annotated[
        Precision,
        Field(description="As precision, for evaluation, which is never compiled."),
        LATER,
    ] = "float32"
    compile: Annotated[
        Literal["off", "default", "max-autotune"],
        Field(description="Mode of torch.compile in training; true is default, false is off."),
        LATER,
        written_as("compiled", off=False, default=True),
    ] = "off"
    attention: Annotated[
        Literal["fused", "by_heads", "materialised"],
        Field(
            description="fused: one kernel; by_heads: a few heads at a time, fastest on a CPU in "
            "bfloat16; materialised: matrix in memory, as the 2021 code."
        ),
        LATER,
    ] = "fused"
    residual: Annotated[
        Literal["float32", "compute"],
        Field(
            description="Transformers' residual stream; compute: as engine.precision (no change in "
            "float32)."
        ),
        LATER,
    ] = "float32"
    recompute: Annotated[
        Literal["none", "norms", "blocks"],
        Field(
            description="Activations of transformers that backward computes again, to save memory: "
            "none, norms and GELUs, or whole blocks."
        ),
        LATER,
    ] = "none"
    accumulate: Annotated[
        int, Field(ge=1, description="Equal chunks of a batch whose gradients are added up."), LATER
    ] = 1
    graph: Annotated[
        bool, Field(description="Whether a CUDA graph replays the whole training step."), LATER
    ] = False
    frontend: Annotated[
        Literal["cpu", "device"],
        Field(
            description="Where log-mels are computed, unless cached, and augmented: on the CPU, by "
            "the processes that load batches, or on engine.device."
        ),
        FREE,
    ] = "cpu"
    num_workers: Annotated[
        int,
        Field(ge=0, description="Processes that load batches; 0: the training process does."),
        FREE,
        written_as("loaders"),
    ] = 0


@dataclass(frozen=True)
class MeasurementSpec:
    """Settings of the cost session; none of them decides a quality result."""

    batch_size: Annotated[
        int | None, Field(gt=0, description="Clips per measured step; None: training.batch_size.")
    ] = None
    warmup_steps: Annotated[int, Field(ge=1, description="Minimum warm-up steps per variant.")] = 5
    restarts: Annotated[
        int | None, Field(ge=1, description="Processes of each variant in turn; None: 5, GPU 3.")
    ] = None
    rounds: Annotated[int, Field(ge=6, description="Minimum rounds, of all restarts.")] = 15
    most_rounds: Annotated[int, Field(ge=6, description="Maximum rounds, of all restarts.")] = 60
    steps: Annotated[int, Field(gt=0, description="Steps of each variant in a round.")] = 3
    half_width: Annotated[
        float, Field(gt=0, description="Target precision of the step-time ratio: 0.03 is ±3 %.")
    ] = 0.03
    seconds: Annotated[
        float, Field(gt=0, description="Time limit in seconds of all rounds; six always run.")
    ] = 50.0
    turn_seconds: Annotated[float, Field(gt=0, description="Time limit of a turn, in s.")] = 300.0

    def processes(self, *, gpu: bool) -> int:
        """Number of restarts; by default fewer on a GPU, where a process starts more slowly."""
        return self.restarts or (3 if gpu else 5)
