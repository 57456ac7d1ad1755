"""The parts of a recipe that say how it is computed and how its costs are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from passt_bench.errors import InputError
from passt_bench.spec.codec import FREE, LATER, about, written_as

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class EngineSpec:
    """The device and how it computes.

    On a model without transformer blocks, such as a CNN, ``attention``, ``residual`` and
    ``recompute`` change nothing but the key.
    """

    device: Annotated[Literal["cpu", "cuda"], about("Device type.")] = "cpu"
    threads: Annotated[int, about("CPU threads per process.", gt=0)] = 1
    precision: Annotated[
        Precision, about("float32, or autocast to a half precision; float16 scales the loss.")
    ] = "float32"
    evaluate_precision: Annotated[
        Precision, about("As precision, for evaluation, which is never compiled."), LATER
    ] = "float32"
    compile: Annotated[
        Literal["off", "default", "max-autotune"],
        about("Mode of torch.compile in training; true is default, false is off."),
        LATER,
        written_as("compiled", off=False, default=True),
    ] = "off"
    attention: Annotated[
        Literal["fused", "by_heads", "materialised"],
        about(
            "fused: one kernel; by_heads: a few heads at a time, fastest on a CPU in bfloat16; "
            "materialised: matrix in memory, as the 2021 code."
        ),
        LATER,
    ] = "fused"
    residual: Annotated[
        Literal["float32", "compute"],
        about(
            "Transformers' residual stream; compute: as engine.precision (no change in float32)."
        ),
        LATER,
    ] = "float32"
    recompute: Annotated[
        Literal["none", "norms", "blocks"],
        about(
            "Activations of transformers that backward computes again, to save memory: none, norms "
            "and GELUs, or whole blocks."
        ),
        LATER,
    ] = "none"
    accumulate: Annotated[
        int, about("Equal chunks of a batch whose gradients are added up.", ge=1), LATER
    ] = 1
    graph: Annotated[
        bool, about("Whether a CUDA graph replays the whole training step."), LATER
    ] = False
    frontend: Annotated[
        Literal["cpu", "device"],
        about(
            "Where log-mels are computed, unless cached, and augmented: on the CPU, by the "
            "processes that load batches, or on engine.device."
        ),
        FREE,
    ] = "cpu"
    num_workers: Annotated[
        int,
        about("Processes that load batches; 0: the training process does.", ge=0),
        FREE,
        written_as("loaders"),
    ] = 0

    def error(self, field: str, problem: str, remedy: str) -> InputError:
        """The error for a field whose value does not fit the rest."""
        value = getattr(self, field)
        return InputError(problem, field=f"engine.{field}", value=value, remedy=remedy)


@dataclass(frozen=True)
class MeasurementSpec:
    """Settings of the cost session; none of them decides a quality result."""

    batch_size: Annotated[
        int | None, about("Clips per measured step; None: training.batch_size.", gt=0)
    ] = None
    warmup_steps: Annotated[int, about("Minimum warm-up steps per variant.", ge=1)] = 5
    restarts: Annotated[
        int | None, about("Processes of each variant in turn; None: 5, GPU 3.", ge=1)
    ] = None
    rounds: Annotated[int, about("Minimum rounds, of all restarts.", ge=6)] = 15
    most_rounds: Annotated[int, about("Maximum rounds, of all restarts.", ge=6)] = 60
    steps: Annotated[int, about("Steps of each variant in a round.", gt=0)] = 3
    half_width: Annotated[
        float, about("Target precision of the step-time ratio: 0.03 is ±3 %.", gt=0)
    ] = 0.03
    seconds: Annotated[
        float, about("Time limit of all rounds, in s; six, and all warm-ups, always run.", gt=0)
    ] = 50.0
    turn_seconds: Annotated[float, about("Time limit of a turn, in s.", gt=0)] = 300.0

    def processes(self, *, gpu: bool) -> int:
        """Number of restarts; by default fewer on a GPU, where a process starts more slowly."""
        return self.restarts or (3 if gpu else 5)
