"""Checks that every metric must pass, in or outside this package.

A check raises `errors.ContractError` that says what is broken, without a test framework::

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_metric(check):
        check("my_metric")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from passt_bench.errors import ContractError
from passt_bench.registry import METRICS
from passt_bench.training.clip_bootstrap import ScoredClips, clip_intervals
from passt_bench.training.metrics import Metric, score

_CLIPS, _CLASSES, _RESAMPLES, _CLOSE = 60, 4, 100, 1e-9


def _tables(name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Targets and scores from good to bad: one class per clip, several, and partly unknown."""
    random = np.random.default_rng(0)
    metric: Metric = METRICS.get(name).build
    one = np.eye(_CLASSES, dtype=np.float32)[np.arange(_CLIPS) % _CLASSES]
    several = np.maximum(one, random.random(one.shape) < 0.2).astype(np.float32)
    known = np.where(random.random(one.shape) < 0.8, several, np.nan)
    kinds = [one]
    kinds += [] if metric.one_class_a_clip else [several]
    kinds += [] if metric.needs_all_labels or metric.one_class_a_clip else [known]
    for targets in kinds:
        noise = random.standard_normal(targets.shape).astype(np.float32)
        for signal in (4, 1, 0, -1):
            yield targets, signal * (np.nan_to_num(targets) - 0.5) + noise


def _fail(name: str, broken: str) -> None:
    raise ContractError(f"metric {name!r}: {broken}")


def is_a_metric(name: str) -> None:
    """The registered object is an instance of `Metric` with a valid ``better``."""
    metric = METRICS.get(name).build
    if not isinstance(metric, Metric):
        _fail(
            name, "the registered object is not an instance of passt_bench.training.metrics.Metric"
        )
    if metric.better not in ("greater", "less"):
        _fail(name, f"better is {metric.better!r}, not 'greater' or 'less'")


def values_are_bounded_and_pure(name: str) -> None:
    """Values are finite, within the bounds and reproducible; classes are indices of columns."""
    minimum, maximum = METRICS.get(name).build.bounds
    for targets, scores in _tables(name):
        before = targets.copy(), scores.copy()
        value, per_class = score(name, targets, scores)
        if (value, per_class) != score(name, targets, scores):
            _fail(name, "a second call gives another value for the same clips")
        if not all(map(partial(np.array_equal, equal_nan=True), before, (targets, scores))):
            _fail(name, "it modifies its arguments")
        for number in (value, *per_class.values()):
            if not (np.isfinite(number) and minimum - _CLOSE <= number <= maximum + _CLOSE):
                _fail(name, f"{number} is not finite or not within {minimum} and {maximum}")
        if not set(per_class) <= set(range(_CLASSES)):
            _fail(name, f"classes {sorted(per_class)} of {_CLASSES}")


def better_is_better(name: str) -> None:
    """Scores that follow the labels closely are better than scores that follow their opposite."""
    sign = 1 if METRICS.get(name).build.better == "greater" else -1
    tables = list(_tables(name))
    good, bad = score(name, *tables[0])[0], score(name, *tables[3])[0]
    if sign * good <= sign * bad:
        _fail(name, f"good scores have {good} and bad ones {bad}: is `better` the other way?")


def order_of_clips_decides_nothing(name: str) -> None:
    """The order of the clips does not change the value."""
    order = np.random.default_rng(1).permutation(_CLIPS)
    for targets, scores in _tables(name):
        value, _ = score(name, targets, scores)
        again, _ = score(name, targets[order], scores[order])
        if not np.isclose(value, again):
            _fail(name, f"{value} for some clips, and {again} for the same in another order")


def resamples_agree(name: str) -> None:
    """A resample has the value of its clips, each repeated as often as it was drawn."""
    metric: Metric = METRICS.get(name).build
    random = np.random.default_rng(2)
    tables = list(_tables(name))
    del tables[::4]  # nearly perfect: some metrics treat a perfect value specially
    for targets, scores in tables:
        weights = random.multinomial(_CLIPS, np.full(_CLIPS, 1 / _CLIPS), 5).T.astype(np.float32)
        clips = ScoredClips(targets, scores)
        resampled = metric.resample(clips, weights)
        expected = Metric.resample(metric, clips, weights)
        if resampled.shape != expected.shape or not np.allclose(
            resampled, expected, equal_nan=True
        ):
            _fail(name, f"resamples have {resampled}, but the clips that they drew {expected}")


def intervals_hold_the_value(name: str) -> None:
    """The interval over clips is finite, within the bounds, and contains the value."""
    minimum, maximum = METRICS.get(name).build.bounds
    targets, scores = list(_tables(name))[1]
    value, _ = score(name, targets, scores)
    low, high = clip_intervals({name: value}, targets, scores, _RESAMPLES)[name]
    if not minimum <= low <= value <= high <= maximum or not np.isfinite([low, high]).all():
        _fail(name, f"interval [{low}, {high}] of {value}")


CHECKS: tuple[Callable[[str], None], ...] = (
    is_a_metric,
    values_are_bounded_and_pure,
    better_is_better,
    order_of_clips_decides_nothing,
    resamples_agree,
    intervals_hold_the_value,
)
