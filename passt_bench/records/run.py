"""Records of quality cells, and of studies: their variants and the keys of their cells."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from passt_bench.registry import Better
from passt_bench.spec.codec import written_as
from passt_bench.spec.key import Key, Moment, Name
from passt_bench.spec.recipe import Pair, Recipe
from passt_bench.spec.study import DEFAULT_MARGIN

SCHEMA = 1
_IF_ANY = Field(exclude_if=lambda value: not value)


def _check_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Refuses GPUs and warnings that are no texts, and a number of cores that is none."""
    texts = [facts.get(name, []) for name in ("gpus", "warnings")]
    fine = all(isinstance(each, list) and all(isinstance(t, str) for t in each) for each in texts)
    if not (fine and isinstance(facts.get("cores", 1), int)):
        raise ValueError("gpus and warnings should be texts, cores a number")
    return facts


Facts = Annotated[dict[str, Any], AfterValidator(_check_facts)]  # of a machine, or how busy it was
Status = Literal["ok", "oom", "diverged", "timeout", "error"]
STATUSES: tuple[Status, ...] = get_args(Status)


# Marks of fields that are not written without a value, as in records made before they existed.
OMITTED = Field(exclude_if=lambda value: value is None)


@dataclass(frozen=True)
class Fingerprint:
    """The content of a data set; runs with different digests never share a table."""

    dataset: str
    digest: str
    expected: int | None
    found: int
    classes: tuple[str, ...]
    multi_label: bool
    sampling_rates: dict[str, int] = field(default_factory=dict)  # Hz of the files → clips
    notes: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)  # class group → classes
    # Name of the folder of recordings of one's own, to tell several such data sets apart.
    folder: Annotated[str | None, OMITTED] = field(default=None, compare=False)

    @property
    def title(self) -> str:
        """The name of the data set for readers."""
        return self.folder or self.dataset


@dataclass(frozen=True)
class Picture:
    """One training input with the patches that were kept, for the page."""

    logmel: tuple[tuple[int, ...], ...]  # (mels, frames) quantized to 0…255
    kept: tuple[int, ...]  # flat indices into the grid, frequency-major
    grid: Pair  # (frequency, time)
    patch: Pair
    stride: Pair

    def __post_init__(self) -> None:
        """Refuses rows of different lengths, and patches that the grid does not have."""
        places = range(self.grid[0] * self.grid[1])
        if len({*map(len, self.logmel)}) != 1 or not all(map(places.__contains__, self.kept)):
            raise ValueError("not a picture with patches of its grid")


@dataclass(frozen=True)
class RunRecord:
    """A quality cell: one recipe, seed and fold, trained and evaluated."""

    key: Key
    status: Status
    recipe: Recipe
    seed: int
    fold: int | None
    fingerprint: Fingerprint
    schema: int = SCHEMA
    kind: Literal["quality"] = "quality"
    # On the test split (on the validation split if ``checkpoint_selection`` is ``validation``).
    metrics: dict[str, float] = field(default_factory=dict)
    # One value per epoch, e.g. ``train_loss``, ``learning_rate``.
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    # metric → class → value; a class without positives is absent
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    # Test, e.g. ``hide_frequency`` → {"mAP": …, "mAP/frequency": …} with one entry per class group.
    occlusions: Annotated[dict[str, dict[str, float]], written_as("probes")] = field(
        default_factory=dict
    )
    # Kept in training, class tokens included (0 for a CNN); with a schedule the mean over its
    # stages, like ``flops``.
    tokens: int = 0
    tokens_full: int = 0
    grid: Pair | None = None  # (frequency, time); None for a CNN
    # On the grid: rate and counts; of a schedule the full amount, and under ``stages`` the patches
    # kept in each stage.
    patchout: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    flops: float | None = None  # a training step (forward and backward), per clip
    # In-training ``step_seconds`` (median), ``peak_bytes`` (resident or allocated) and
    # ``cpu_seconds``, ``training_clips`` and ``test_clips``; for information, never for verdicts.
    # ``epoch`` is the evaluated epoch if ``checkpoint_selection`` is ``best_on_validation``.
    train: dict[str, float] = field(default_factory=dict)
    # Wall seconds by part: build, data, train, evaluate, and select if an epoch is chosen; summed
    # over resumes.
    clocks: dict[str, float] = field(default_factory=dict)
    machine: Facts = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # libraries
    components: dict[str, int] = field(default_factory=dict)
    commit: str | None = None
    attempt: int = 1
    message: str | None = None
    finished: Moment = ""  # UTC
    picture: Picture | None = None
    notes: tuple[str, ...] = ()  # which initial weights were loaded, adapted, drawn anew or dropped


@dataclass(frozen=True)
class Outcome:
    """How a quality cell ended: the few fields of its record, read ten times as fast as all."""

    key: Key
    status: Status
    attempt: int = 1
    message: str | None = None
    finished: Moment = ""  # UTC
    schema: int = SCHEMA


@dataclass(frozen=True)
class VariantRecord:
    """A variant of a study and the keys of its cells; see `spec.study.Variant`."""

    name: str
    recipe: Recipe
    arm: Key  # of its arm in cost sessions
    cells: tuple[CellRecord, ...]
    tokens: int = 0
    tokens_full: int = 0
    grid: Pair | None = None
    patchout: dict[str, Any] = field(default_factory=dict)
    reference: bool = False
    # What a training costs: ``epochs``, ``steps``, ``tokens`` and ``flops``.
    spent: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CellRecord:
    """The key of one cell's result."""

    key: Key
    seed: int
    fold: int | None


@dataclass(frozen=True)
class TriedRecord:
    """Values that were tried for variants before their study, see `spec.study.Tune`."""

    variants: tuple[str, ...]
    changes: dict[str, Any]  # dotted field → value
    cells: tuple[CellRecord, ...]
    value: float | None = None  # mean of the study's metric; None without all runs
    chosen: bool = False


@dataclass(frozen=True)
class EarlierLook:
    """Another study that had judged runs of a study before that one was run for the first time."""

    study: str
    of: int  # its variants
    variants: tuple[str, ...]  # of the later study, the runs of which it had judged
    seeds: tuple[int, ...]  # with which it was judged in the end
    looks: tuple[int, ...]  # see `StudyRecord.judged_at`
    # Of its verdicts, if they are on the same metric. None in records of earlier versions.
    margin: Annotated[float | None, _IF_ANY] = None


def cell_name(seed: int, fold: int | None) -> str:
    """The name of a cell: ``seed 1``, ``seed 1, fold 2``."""
    return f"seed {seed}" + ("" if fold is None else f", fold {fold}")


@dataclass(frozen=True)
class StudyRecord:
    """The variants and runs of a study: all that a report needs besides the records."""

    name: Name
    question: str
    metric: str
    baseline: str
    variants: tuple[VariantRecord, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...] | None
    fingerprint: Fingerprint
    margin: float | None = None
    # Numbers of seeds at which verdicts are read, as planned when it was run for the first time;
    # empty in records of earlier versions, which are judged with all of their seeds.
    looks: tuple[int, ...] = ()
    # The variants that the first run asked for, then those that each later one added: they are
    # judged together. Empty in records of earlier versions, which judge what has begun.
    asked: Annotated[tuple[tuple[str, ...], ...], _IF_ANY] = ()
    earlier: Annotated[tuple[EarlierLook, ...], _IF_ANY] = ()
    shared: str = "epochs"  # see `spec.study.Study`
    # Variant → seconds of a clip in training, divided by the baseline's: measured once, before the
    # first training, where the variants share seconds.
    step_ratios: dict[str, float] = field(default_factory=dict)
    # family → contrast → variant → weight, see `spec.study.Study`
    contrasts: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    # (family, contrast) as they were declared: a mapping is written in the order of its keys.
    contrast_order: Annotated[tuple[tuple[str, str], ...], _IF_ANY] = ()
    # The last day when they were changed although runs were on record; then they were not planned.
    contrasts_changed: Annotated[str, _IF_ANY] = ""
    tried: tuple[TriedRecord, ...] = ()
    # Declared variant → why it cannot run with these settings.
    left_out: Annotated[dict[str, str], _IF_ANY] = field(default_factory=dict)
    better: Better | None = None  # direction of the metric; None in records of earlier versions
    notebook: str = ""  # docstring of the study file
    command: str = ""  # the command as typed
    schema: int = SCHEMA

    @property
    def keys(self) -> list[str]:
        """The keys of all cells, of the variants and of what was tried before."""
        cells = [*(v.cells for v in self.variants), *(item.cells for item in self.tried)]
        return [cell.key for own in cells for cell in own]

    @property
    def cannot_run(self) -> str:
        """A sentence on the variants that are left out; empty if there are none."""
        each = [f"“{name}” ({why})" for name, why in self.left_out.items()]
        of = len(each) + len(self.variants)
        return f"{len(each)} of {of} variants cannot run here: {', '.join(each)}." * bool(each)

    @property
    def judged_at(self) -> tuple[int, ...]:
        """The numbers of seeds at which verdicts are read."""
        return self.looks or (len(self.seeds),)

    def given(self, option: str) -> list[str]:
        """The values of an option in the command on record."""
        try:
            words = shlex.split(self.command)
        except ValueError:  # a record may contain anything
            return []
        given = [b for a, b in pairwise(words) if a == option]
        return given + [w.removeprefix(f"{option}=") for w in words if w.startswith(f"{option}=")]

    @property
    def run_names(self) -> dict[str, str]:
        """``STUDY:VARIANT:SEED[:FOLD]`` → key of every run; variants may share one."""
        return {
            f"{self.name}:{v.name}:{cell.seed}"
            + f":{cell.fold}" * (cell.fold is not None): cell.key
            for v in self.variants
            for cell in v.cells
        }

    @property
    def tolerance(self) -> float:
        """The largest difference that counts as the same."""
        return DEFAULT_MARGIN if self.margin is None else self.margin

    def looks_alike(self, other: EarlierLook) -> bool:
        """Whether another study judged the same seeds at the same looks with the same margin."""
        own = (self.seeds[: self.judged_at[-1]], self.judged_at)
        return own == (other.seeds, other.looks) and other.margin in (None, self.tolerance)

    @property
    def further_look(self) -> str:
        """Sentences on why verdicts are not the first look at these runs; empty if they are."""
        later = "added after the first run, a further look, for which intervals do not allow"
        told = [(names, later) for names in self.asked[1:]]
        for other in self.earlier:
            text = f"“{other.study}” judged these runs before, planned with "
            text += f"{count_of(len(other.seeds), 'seed')} and {count_of(other.of, 'variant')}"
            if other.margin not in (None, self.tolerance):
                text += f", with a margin of ±{other.margin:g}, here ±{self.tolerance:g}"
            alike = self.looks_alike(other)
            text += (
                ". Where verdicts differ, those" if alike else ". There is no verdict here: those"
            )
            told.append((other.variants, f"{text} there hold"))
        return " ".join(f"“{'”, “'.join(names)}”: {text}." for names, text in told)


def also_asked(
    asked: tuple[tuple[str, ...], ...], names: Collection[str]
) -> tuple[tuple[str, ...], ...]:
    """`StudyRecord.asked` after a command that asks for these variants."""
    known = {name for own in asked for name in own}
    added = tuple(name for name in names if name not in known)
    return (*asked, added) if added else asked


def count_of(number: int, noun: str) -> str:
    """A number with its noun: ``1 run``, ``3 runs``."""
    return f"{number} {noun}{'s' * (number != 1)}"
