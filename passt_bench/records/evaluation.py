"""Records of evaluations of model files on a data set.

``records/KEY/record.json`` like every record; it belongs to no study.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from passt_bench.records.run import OMITTED, SCHEMA, Facts, Fingerprint
from passt_bench.spec.key import Key, Moment
from passt_bench.spec.recipe import Patchout, Recipe

Split = Literal["test", "valid", "train"]
SPLITS: tuple[Split, ...] = get_args(Split)
# In the notes on kept models that were, or may have been, trained on the clips that are scored.
SEEN = "are not those of new recordings"
ReadVerdict = Literal["same", "better", "worse", "not worse", "undecided"]


@dataclass(frozen=True)
class Member:
    """A model file that was evaluated, alone or in an ensemble."""

    name: str  # of its file
    sha256: str  # of its file
    recipe: Recipe  # as the file says, or as its weights show
    run: Annotated[str | None, OMITTED] = None  # key of the run whose kept model it is


@dataclass(frozen=True)
class DroppedPatches:
    """Patchout in evaluation."""

    setting: Patchout
    tokens: tuple[tuple[int, int], ...]  # of a clip, kept and all, of each member


@dataclass(frozen=True)
class PublishedResult:
    """A result reported by the authors of the weights."""

    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class Difference:
    """A metric of the evaluated model minus that of another on the same clips."""

    value: float
    low: float  # 95 % interval from resamples of clips that both models share
    high: float
    verdict: ReadVerdict  # by the interval alone
    # Of a metric that is the share of right clips: those that only one of the models has right, and
    # p (two-sided) of McNemar's exact test.
    only_first: int | None = None
    only_second: int | None = None
    p: float | None = None


@dataclass(frozen=True)
class Decided:
    """What was decided about a class, over the clips whose label is known."""

    clips: int  # that have the class
    decided: int  # for which it was decided
    right: int  # both
    precision: float | None  # None if it was decided for no clip
    recall: float | None  # None if no clip has it
    f1: float | None
    threshold: float | None = None  # of its probability; None if the most probable is decided


@dataclass(frozen=True)
class Against:
    """The model that the evaluated one was compared with, on the same clips."""

    name: str  # of the ensemble, or of the model file
    members: tuple[Member, ...]
    seconds: float  # clip length
    sampling_rate: int  # Hz of the waveforms
    margin: float  # of the verdicts
    metrics: dict[str, float] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)  # metric → difference
    patchout: Annotated[DroppedPatches | None, OMITTED] = None


@dataclass(frozen=True)
class EvaluationRecord:
    """One or several models (the mean of their logits) on one split of a data set."""

    # Hash of the model files' content and recipes, their classes, the data, split, fold, metrics
    # with their versions, patchout if there is any, and the device type; the same of the other
    # model, if there is one.
    key: Key
    name: str  # of the ensemble, or of the model files
    members: tuple[Member, ...]  # as requested; the order does not affect the result
    fingerprint: Fingerprint
    split: Split
    fold: int | None
    clips: int  # number of scored clips
    seconds: float  # clip length; shorter clips are padded, longer ones cut at the end
    sampling_rate: int  # Hz of the waveforms
    device: str
    metrics: dict[str, float] = field(default_factory=dict)
    # 95 % intervals over samples of clips (not of trainings).
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    resamples: int = 0  # for the intervals
    scored: dict[str, int] = field(default_factory=dict)  # metric → classes in its mean
    # metric → class → value; a class that cannot be scored is absent
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    published: tuple[PublishedResult, ...] = ()  # of these weights on this data
    # Wall s: score, intervals; clip and clip_against, per clip: front end and model.
    clocks: dict[str, float] = field(default_factory=dict)
    machine: Facts = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # libraries
    components: dict[str, int] = field(default_factory=dict)
    commit: str | None = None
    command: str = ""
    notes: tuple[str, ...] = ()
    against: Annotated[Against | None, OMITTED] = None
    decisions: Annotated[dict[str, Decided] | None, OMITTED] = None  # by class
    # Class → decided class → clips, of data with one class per clip; only pairs with clips.
    confusion: Annotated[dict[str, dict[str, int]] | None, OMITTED] = None
    patchout: Annotated[DroppedPatches | None, OMITTED] = None
    finished: Moment = ""  # UTC
    status: Literal["ok"] = "ok"
    kind: Literal["evaluation"] = "evaluation"
    schema: int = SCHEMA

    @property
    def seen(self) -> bool:
        """Whether a scored model was, or may have been, trained on these clips."""
        return any(SEEN in note for note in self.notes)

    def published_of(self, metric: str) -> PublishedResult | None:
        """The published result in a metric, if there is one."""
        return next((result for result in self.published if result.metric == metric), None)
