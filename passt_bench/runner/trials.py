"""What a search tries: kinds and rates of patchout by Optuna, and what came of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from math import ceil
from pathlib import Path
from statistics import fmean

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from passt_bench.console import Estimate
from passt_bench.errors import InputError
from passt_bench.models.patchout import resolve
from passt_bench.records.run import Status, VariantRecord
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import Store
from passt_bench.registry import PATCHOUTS, Better
from passt_bench.runner.plan import Datasets, PlannedCell, StudyPlan, plan_cell
from passt_bench.spec.override import override
from passt_bench.spec.recipe import Pair, Patchout, Recipe

KINDS = ("unstructured", "time", "frequency", "structured")
STEP = 1 / 8
RATES = tuple(STEP * i for i in range(8))  # at 0 every kind is the same: nothing is dropped

_FEWEST_FOR_IMPORTANCE = 8  # settings; a forest on fewer says nothing


@dataclass(frozen=True)
class Space:
    """A search space over the recipe of a study's baseline.

    Attributes:
        recipe: of the baseline, set to report on the validation split.
        grid: of its patches, (frequency, time).
        rates: those that leave some patches with every kind.
        fold: whose training clips are used; None for a data set with one split.
        seeds: of every trial; none of them is a seed of the study.
    """

    recipe: Recipe
    grid: Pair
    rates: tuple[float, ...]
    fold: int | None
    seeds: tuple[int, ...]

    def patchout(self, kind: str, rate: float) -> Patchout:
        """The setting in exact counts, so that what comes to the same on the grid is the same."""
        return counted(kind, rate, self.grid, self.recipe.patchout)

    def cells(self, kind: str, rate: float, datasets: Datasets) -> tuple[PlannedCell, ...]:
        """The cells of a setting, one a seed."""
        recipe = override(self.recipe, {"patchout": self.patchout(kind, rate)})
        return tuple(
            plan_cell(setting_name(kind, rate), recipe, seed, self.fold, datasets)
            for seed in self.seeds
        )


def setting_name(kind: str, rate: float) -> str:
    """How a setting is called: ``time 0.375``."""
    return f"{kind} {rate:g}" if rate else "none"


def counted(kind: str, rate: float, grid: Pair, like: Patchout | None = None) -> Patchout:
    """A kind and rate as the counts that they come to on a grid, in the scope of another setting.

    Raises:
        InputError: an unknown kind, or a rate that leaves no patches.
    """
    if rate == 0:
        return Patchout()
    resolved = resolve(Patchout(kind, rate=rate), grid)
    dropped = {
        "patches": grid[0] * grid[1] - resolved.kept,
        "frequency": grid[0] - resolved.frequency,
        "time": grid[1] - resolved.time,
    }
    fields = PATCHOUTS.get(kind).build.fields
    counts = {name: count for name, count in dropped.items() if name in fields}
    return replace(
        like or Patchout(),
        kind=kind,
        rate=None,
        patches=counts.get("patches"),
        frequency=counts.get("frequency"),
        time=counts.get("time"),
    )


def space_of(plan: StudyPlan, seeds: int) -> Space:
    """The space of a study.

    Args:
        plan: of the study.
        seeds: how many a trial.

    Raises:
        InputError: the baseline's model has no patches, or too few to drop any.
    """
    baseline = baseline_of(plan)
    if baseline.grid is None:
        raise InputError(
            "the baseline's model has no patches to drop",
            source=plan.study.name,
            field="model.name",
            value=baseline.recipe.model.name,
            remedy="Search over a study whose baseline is a PaSST.",
        )
    grid = baseline.grid
    rates = tuple(takewhile(lambda rate: _leaves_patches(rate, grid), RATES))
    if len(rates) < 2:
        raise InputError(
            f"a grid of {grid[0]} x {grid[1]} patches is too small to drop any with every kind",
            source=plan.study.name,
            field="model",
        )
    first = max(plan.study.seeds) + 1
    return Space(
        recipe=override(baseline.recipe, {"training.checkpoint_selection": "validation"}),
        grid=grid,
        rates=rates,
        fold=plan.record.folds[0] if plan.record.folds else None,
        seeds=tuple(range(first, first + seeds)),
    )


def baseline_of(plan: StudyPlan) -> VariantRecord:
    """The baseline, as it was expanded."""
    return next(v for v in plan.record.variants if v.name == plan.record.baseline)


def _leaves_patches(rate: float, grid: Pair) -> bool:
    try:
        for kind in KINDS:
            counted(kind, rate, grid)
    except InputError:
        return False
    return True


@dataclass(frozen=True)
class Outcome:
    """A setting whose cells all have a record.

    Attributes:
        status: ``ok``, or that of the first cell that failed.
        value: mean of the metric over the cells; None where one failed.
        seconds: wall seconds of the cells, added up.
    """

    status: Status
    value: float | None
    seconds: float


@dataclass(frozen=True)
class Suggestion:
    """A kind and a rate, as Optuna suggested them."""

    kind: str
    rate: float


class Settings:
    """The cells and outcomes of suggestions, each worked out once."""

    def __init__(self, space: Space, datasets: Datasets, store: Store, metric: str) -> None:
        self._space, self._datasets = space, datasets
        self._store, self._metric = store, metric
        self._cells: dict[Suggestion, tuple[PlannedCell, ...]] = {}
        self._outcomes: dict[tuple[str, ...], Outcome] = {}

    def cells(self, suggestion: Suggestion) -> tuple[PlannedCell, ...]:
        """The cells of a suggestion, one a seed."""
        if suggestion not in self._cells:
            self._cells[suggestion] = self._space.cells(
                suggestion.kind, suggestion.rate, self._datasets
            )
        return self._cells[suggestion]

    def outcome(self, suggestion: Suggestion) -> Outcome | None:
        """What came of it; None while a cell has no record."""
        keys = keys_of(self.cells(suggestion))
        if keys not in self._outcomes:
            records = [record for record in map(self._store.run, keys) if record is not None]
            if len(records) < len(keys):
                return None
            failed = next((r.status for r in records if r.status != "ok"), None)
            self._outcomes[keys] = Outcome(
                status=failed or "ok",
                value=None if failed else fmean(r.metrics[self._metric] for r in records),
                seconds=sum(sum(record.clocks.values()) for record in records),
            )
        return self._outcomes[keys]

    def trials(self, told: Iterable[tuple[Suggestion, float | None]]) -> tuple[TrialRecord, ...]:
        """The history of a search.

        Args:
            told: suggestions in their order, with the value that Optuna was told; None for a
                failure.
        """
        found: list[TrialRecord] = []
        first: dict[tuple[str, ...], int] = {}
        for number, (suggestion, value) in enumerate(told):
            cells, outcome = self.cells(suggestion), self.outcome(suggestion)
            keys = keys_of(cells)
            fresh = first.setdefault(keys, number) == number
            found.append(
                TrialRecord(
                    number=number,
                    kind=suggestion.kind,
                    rate=suggestion.rate,
                    patchout=cells[0].recipe.patchout,
                    tokens=cells[0].facts.tokens,
                    keys=keys,
                    status=outcome.status if outcome else "ok",
                    value=value,
                    repeats=None if fresh else first[keys],
                    seconds=round(outcome.seconds, 3) if outcome and fresh else 0.0,
                )
            )
        return tuple(found)


def keys_of(cells: Sequence[PlannedCell]) -> tuple[str, ...]:
    """The keys of cells."""
    return tuple(cell.key for cell in cells)


class Budget:
    """Whether there is time for more cells.

    Args:
        seconds: for all, the confirmation included; None is no limit.
        clock: begun with the search.
        reserved: cells of the confirmation.
        workers: processes at a time.
        dearer: how much longer a confirming cell takes than one of the search.
    """

    def __init__(
        self, seconds: float | None, clock: Estimate, reserved: int, workers: int, dearer: float
    ) -> None:
        self._seconds, self._clock = seconds, clock
        self._reserved, self._workers, self._dearer = reserved, workers, dearer
        self._taken: list[float] = []

    @property
    def informed(self) -> bool:
        """Whether it is known how long a cell takes."""
        return bool(self._taken)

    def note(self, seconds: Iterable[float]) -> None:
        """Notes what cells took."""
        self._taken += seconds

    def share(self) -> float:
        """Share of the time for trials that is used, at most 1; 0 without a limit."""
        left = self._for_trials()
        if left is None:
            return 0.0
        return min(1.0, self._clock.elapsed / left) if left else 1.0

    def allows(self, cells: int) -> bool:
        """Whether so many cells of trials fit in; where nothing is known, they do."""
        left = self._for_trials()
        return left is None or not self._taken or self._clock.elapsed + self._wall(cells) <= left

    def allows_confirming(self, cells: int) -> bool:
        """Whether so many confirming cells fit in."""
        needed = self._dearer * self._wall(cells)
        return self._seconds is None or self._clock.elapsed + needed <= self._seconds

    def _for_trials(self) -> float | None:
        if self._seconds is None:
            return None
        return max(0.0, self._seconds - self._dearer * self._wall(self._reserved))

    def _wall(self, cells: int) -> float:
        return ceil(cells / self._workers) * fmean(self._taken) if self._taken else 0.0


class Suggester:
    """The trials of one search, on Optuna's tree-structured Parzen estimator.

    Trials that an earlier process of the same owner left running are ended, and their suggestions
    come first. The very first suggestion is to drop nothing.

    Args:
        storage: see `open_storage`.
        name: of the Optuna study; another space or recipe needs another one.
        rates: from 0 in steps of `STEP`.
        owner: tells the trials of one output folder from those of others on a shared storage.
        better: which way the objective is.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        rates: Sequence[float],
        owner: str,
        better: Better = "greater",
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes, self._owner = _axes(KINDS, rates), owner
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize" if better == "greater" else "minimize",
            load_if_exists=True,
        )
        past = self._study.get_trials(deepcopy=False)
        # The sampler's own state does not outlive a process; another seed keeps it from
        # suggesting again what it began with.
        self._study.sampler = optuna.samplers.TPESampler(seed=len(past))
        if not past:
            self._study.enqueue_trial({"kind": KINDS[0], "rate": 0.0})
        for trial in past:
            mine = trial.user_attrs.get("owner", owner) == owner
            if trial.state == TrialState.RUNNING and mine:
                self._study.tell(trial.number, state=TrialState.FAIL)
                if "rate" in trial.params:
                    self._study.enqueue_trial(trial.params)

    def ask(self) -> tuple[int, Suggestion]:
        """The next trial: its number and what it suggests."""
        trial = self._study.ask(self._axes)
        trial.set_user_attr("owner", self._owner)
        return trial.number, Suggestion(**trial.params)

    def tell(self, number: int, value: float | None) -> None:
        """Ends a trial with its value, or as failed."""
        if value is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, value)

    def told(self, failed: Callable[[Suggestion], bool]) -> list[tuple[Suggestion, float | None]]:
        """What was told so far, in order; None for a failure.

        Args:
            failed: whether the records of a suggestion say that it failed; a trial that ended
                without them was interrupted, and is left out.
        """
        found: list[tuple[Suggestion, float | None]] = []
        for trial in self._study.get_trials(deepcopy=False):
            if "rate" not in trial.params:
                continue
            suggestion = Suggestion(**trial.params)
            if trial.state == TrialState.COMPLETE:
                found.append((suggestion, trial.value))
            elif trial.state == TrialState.FAIL and failed(suggestion):
                found.append((suggestion, None))
        return found


def open_storage(root: Path, name: str, address: str | None) -> BaseStorage:
    """Where Optuna keeps its trials: a journal under the output folder, or a server.

    Raises:
        InputError: the address cannot be opened.
    """
    if address is None:
        path = root / "search" / f"{name}.journal"
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    try:
        return RDBStorage(address)
    except Exception as error:  # drivers raise kinds of their own
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"not an Optuna storage that can be opened ({type(error).__name__}: {reason})",
            field="--storage",
            remedy="Give an SQLAlchemy address such as postgresql://server/base, or leave it out.",
        ) from error


def importance(record: SearchRecord) -> dict[str, float]:
    """Shares of the objective's variance over the space that kind and rate explain (fANOVA).

    Each setting counts once; empty while there are too few, or all have the same value.
    """
    settings = record.best
    if len(settings) < _FEWEST_FOR_IMPORTANCE or len({t.value for t in settings}) == 1:
        return {}
    axes = _axes(record.kinds, record.rates)
    study = optuna.create_study(direction="maximize")
    for trial in sorted(settings, key=lambda trial: trial.number):
        params = {"kind": trial.kind, "rate": trial.rate}
        study.add_trial(create_trial(params=params, distributions=axes, value=trial.value))
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: round(float(share), 4) for name, share in found.items()}


def _axes(kinds: Sequence[str], rates: Sequence[float]) -> dict[str, BaseDistribution]:
    return {
        "kind": CategoricalDistribution(tuple(kinds)),
        "rate": FloatDistribution(0.0, rates[-1], step=STEP),
    }
