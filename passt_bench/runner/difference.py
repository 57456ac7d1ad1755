"""What a run in MLflow lacks of its entry, worked out on plain values; imports no MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isnan, nan

from passt_bench.runner.entries import Entry

DIGEST, PARENT = "passt_bench.digest", "mlflow.parentRunId"

LONGEST_PARAMETER, LONGEST_TAG = 6000, 5000  # MLflow cuts longer ones, and they would never match


@dataclass(frozen=True)
class Seen:
    """What MLflow has of a run: its latest values, and by name the points of a curve."""

    status: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    history: Callable[[str], Mapping[int, float]]  # step → value


NOTHING = Seen("", {}, {}, {}, lambda name: {})


@dataclass(frozen=True)
class Point:
    """A value of a metric, with its step and milliseconds since 1970."""

    name: str
    value: float
    moment: int
    step: int


@dataclass(frozen=True)
class Changes:
    """What is to be logged."""

    points: tuple[Point, ...]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    status: bool  # whether it changes

    def __bool__(self) -> bool:
        return bool(self.points or self.params or self.tags or self.status)


def is_current(seen: Seen, entry: Entry, tags: Mapping[str, str]) -> bool:
    """Whether a cell's run was finished with this very record; reads no curve."""
    return (
        entry.digest is not None
        and seen.status == entry.state
        and all(seen.tags.get(name) == tags.get(name) for name in (DIGEST, PARENT))
    )


def is_superseded(seen: Seen, entry: Entry) -> bool:
    """Whether a cell's run tells of another attempt: MLflow cannot take values back.

    A run that is still open was written from the same cell's progress or record, unless one of
    its values differs.
    """
    if entry.parent is None:
        return False
    if seen.status != "RUNNING":
        return seen.tags.get(DIGEST) != entry.digest
    if any(seen.metrics.get(name, value) != value for name, value in entry.metrics.items()):
        return True
    return any(
        values[step - 1 : step] != (value,)
        for name, values in entry.curves.items()
        for step, value in _history(seen, name).items()
    )


def changes(seen: Seen, entry: Entry, tags: Mapping[str, str], now: int) -> Changes:
    """What to log so that the run says what the entry says.

    Args:
        seen: the run as it is.
        entry: the run as it shall be.
        tags: the entry's tags, with those that only MLflow's own ids could tell.
        now: milliseconds since 1970; of two values of a metric MLflow shows the later.
    """
    cut = {name: text[:LONGEST_TAG] for name, text in tags.items()}
    return Changes(
        points=(*_numbers(seen, entry, now), *_curves(seen, entry, now)),
        params={
            name: text[:LONGEST_PARAMETER]
            for name, text in entry.params.items()
            if name not in seen.params
        },
        tags={name: text for name, text in cut.items() if seen.tags.get(name) != text},
        status=seen.status != entry.state,
    )


def _numbers(seen: Seen, entry: Entry, now: int) -> list[Point]:
    """Single values that are new, or differ from the latest."""
    numbers = dict(entry.metrics)
    if entry.parent is None:  # a summary's number that no longer holds shall not stay
        numbers |= {name: nan for name in seen.metrics if name not in numbers}
    moment = entry.end if entry.parent is not None and entry.end is not None else now
    return [
        Point(name, value, moment, 0)
        for name, value in numbers.items()
        if name not in seen.metrics or not _same(seen.metrics[name], value)
    ]


def _curves(seen: Seen, entry: Entry, now: int) -> list[Point]:
    """Points that are missing, spread evenly over the run's time."""
    end = entry.end if entry.end is not None else now
    missing = []
    for name, values in entry.curves.items():
        there = _history(seen, name)
        for step, value in enumerate(values, 1):
            moment = entry.start + (end - entry.start) * step // len(values)
            if step not in there:
                missing.append(Point(name, value, moment, step))
    return missing


def _history(seen: Seen, name: str) -> Mapping[int, float]:
    return seen.history(name) if name in seen.metrics else {}


def _same(one: float, other: float) -> bool:
    return one == other or (isnan(one) and isnan(other))
