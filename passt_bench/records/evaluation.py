"""Records of evaluations: how good checkpoints are on a data set.

``records/KEY/record.json`` like every record; it belongs to no study.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from passt_bench.names import Key
from passt_bench.records.run import SCHEMA, Fingerprint
from passt_bench.spec.recipe import Recipe

Split = Literal["test", "valid", "train"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Member:
    """A checkpoint that was evaluated, alone or in an ensemble."""

    name: str  # of its file
    sha256: str  # of its file
    recipe: Recipe  # as the file says, or as its weights show


@dataclass(frozen=True)
class PublishedResult:
    """What the authors of the checkpoints state."""

    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class EvaluationRecord:
    """One or several checkpoints (the mean of their logits) on one split of a data set.

    Attributes:
        key: hash of the checkpoints' content and recipes, their classes, the data found, split,
            fold, the metrics with their versions, and the device type.
        name: the ensemble, or the checkpoints' files.
        members: in the order that was asked for; it decides nothing.
        clips: that were scored.
        seconds: of each; shorter ones are padded, of longer ones the start is taken.
        sampling_rate: Hz of the waveforms that the members were given.
        metrics: name → value.
        intervals: name → 95 % interval over the drawing of clips (not of trainings).
        resamples: that the intervals are computed from.
        scored: name → classes that the value is a mean of.
        per_class: name → class → value; a class that cannot be scored is absent.
        published: what these checkpoints are said to reach here.
        clocks: wall seconds: ``score`` and ``intervals``.
        notes: whatever else a reader of the numbers should know.
    """

    key: Key
    name: str
    members: tuple[Member, ...]
    fingerprint: Fingerprint
    split: Split
    fold: int | None
    clips: int
    seconds: float
    sampling_rate: int
    device: str
    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    resamples: int = 0
    scored: dict[str, int] = field(default_factory=dict)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    published: tuple[PublishedResult, ...] = ()
    clocks: dict[str, float] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # libraries
    components: dict[str, int] = field(default_factory=dict)
    commit: str | None = None
    command: str = ""
    notes: tuple[str, ...] = ()
    finished: str = ""  # ISO 8601, UTC
    status: Literal["ok"] = "ok"
    kind: Literal["evaluation"] = "evaluation"
    schema: int = SCHEMA

    def published_of(self, metric: str) -> PublishedResult | None:
        """The published result in that metric, if there is one."""
        return next((found for found in self.published if found.metric == metric), None)
