"""Records of cost sessions, in which variants are measured together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from passt_bench.records.run import SCHEMA, Facts, Status
from passt_bench.spec.key import Key, Moment
from passt_bench.spec.recipe import Recipe


@dataclass(frozen=True)
class Interval:
    """A median over ``n`` rounds with its interval, see `intervals.median_interval`."""

    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ArmRecord:
    """One variant inside a cost session."""

    key: Key  # see `spec.key.arm_key`
    status: Status
    recipe: Recipe
    tokens: int = 0
    tokens_full: int = 0
    parameters: int = 0
    batch_size: int = 0
    # Seconds of one step: ``train_step`` (forward, backward and optimizer together), ``forward``,
    # ``backward``, ``optimizer``, ``inference_1`` (batch 1), ``inference_batch`` (the training
    # batch), ``frontend`` (one batch of waveforms); ``train_step_cpu`` are CPU seconds of the
    # process, all others are wall seconds.
    phases: dict[str, Interval] = field(default_factory=dict)
    # The same phases, divided by the baseline's in each round.
    ratios: dict[str, Interval] = field(default_factory=dict)
    # Bytes: ``train_peak`` (resident or allocated, whole process), ``train_rise`` (peak over the
    # level before the step), ``inference_peak``, ``inference_rise``, ``saved_for_backward``,
    # ``resident`` (parameters and buffers), and on CUDA ``reserved``.
    memory: dict[str, float] = field(default_factory=dict)
    flops: float | None = None  # of a training step per clip, counted on meta tensors
    flops_inference: float | None = None  # forward without patchout, per clip
    mfu: float | None = None  # fraction of the matmul peak of the same session
    attention: str = ""
    message: str | None = None
    compile_seconds: float | None = None  # if the model is compiled
    published: float | None = None  # clips per second in the reference code's speed test
    # Before it was measured: seconds of ``train_step``, bytes of ``train_peak``; may be empty.
    predicted: dict[str, float] = field(default_factory=dict)

    @property
    def main_memory(self) -> str:
        """The entry of `memory` to show where only one is: the peak on CUDA.

        Elsewhere what is saved for backward, because a resident peak holds the interpreter too.
        """
        return "train_peak" if "reserved" in self.memory else "saved_for_backward"


@dataclass(frozen=True)
class SessionRecord:
    """A cost session: all its arms measured together, interleaved; ratios exist only within."""

    key: Key
    baseline: Key  # of an arm
    arms: tuple[ArmRecord, ...]
    schema: int = SCHEMA
    kind: Literal["cost"] = "cost"
    rounds: int = 0
    # Rounds of each restart: all arms have new processes in each. Empty in older records, whose
    # arms had one process for all rounds.
    restarts: tuple[int, ...] = ()
    steps: int = 0
    published_protocol: dict[str, int] = field(default_factory=dict)  # batch, warmup, steps
    matmul_flops: float | None = None  # peak, FLOP/s, measured in the session
    stated_flops: float | None = None  # the same as the GPU's vendor states it
    stated_source: str = ""
    machine: Facts = field(default_factory=dict)
    disturbance: Facts = field(default_factory=dict)  # load before and after, warnings
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    seconds: float = 0.0
    finished: Moment = ""
