"""What came of the settings that a search tried: the records of their cells, read once each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from passt_bench.console import Estimate
from passt_bench.records.run import Status
from passt_bench.records.search import TrialRecord
from passt_bench.records.store import Store
from passt_bench.runner.plan import Datasets, PlannedCell
from passt_bench.runner.space import Space


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
