"""Contract tests for metrics, to be subclassed by plug-ins.

In the tests of a plug-in, for pytest::

    class TestMyMetric(MetricContract):
        metric = "my_metric"

Nothing here needs pytest: each check is a method ``test_…`` that raises `ContractError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from passt_bench.errors import require
from passt_bench.registry import METRICS
from passt_bench.training.clip_bootstrap import ScoredClips, clip_intervals
from passt_bench.training.metrics import Metric, score

_CLIPS, _CLASSES, _RESAMPLES, _CLOSE = 60, 4, 100, 1e-9


class MetricContract:
    """What every metric must do; ``metric`` is the registered name."""

    metric: str

    @property
    def _object(self) -> Metric:
        built: Metric = METRICS.get(self.metric).build
        return built

    def _tables(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Targets and scores from good to bad: one class per clip, several, and partly unknown."""
        random, metric = np.random.default_rng(0), self._object
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

    def test_is_a_metric(self) -> None:
        """The registered object is an instance of `Metric` with a valid ``better``."""
        metric = METRICS.get(self.metric).build
        require(isinstance(metric, Metric), "must be an instance of training.metrics.Metric")
        known = metric.better in ("greater", "less")
        require(known, f"better must be 'greater' or 'less', not {metric.better!r}")

    def test_values(self) -> None:
        """Values are finite, within the bounds and reproducible; classes are column indices."""
        minimum, maximum = self._object.bounds
        for targets, scores in self._tables():
            before = targets.copy(), scores.copy()
            value, per_class = score(self.metric, targets, scores)
            same = (value, per_class) == score(self.metric, targets, scores)
            require(same, "a second call must give the same value")
            equal = map(partial(np.array_equal, equal_nan=True), before, (targets, scores))
            require(all(equal), "must not modify its arguments")
            for number in (value, *per_class.values()):
                inside = minimum - _CLOSE <= number <= maximum + _CLOSE
                problem = f"{number} must be finite and within {minimum} and {maximum}"
                require(bool(np.isfinite(number)) and inside, problem)
            right = self._object.correct(targets, scores)
            share = right is None or bool(np.isclose(right.mean(), value))
            require(share, "must be the share of clips that are `correct`, or that must be None")
            columns = set(per_class) <= set(range(_CLASSES))
            require(columns, f"classes {sorted(per_class)} must be below {_CLASSES}")

    def test_better(self) -> None:
        """Scores that follow the labels are better than scores that follow their opposite."""
        sign = 1 if self._object.better == "greater" else -1
        tables = list(self._tables())
        good, bad = (score(self.metric, *tables[number])[0] for number in (0, 3))
        problem = f"good scores have {good} and bad ones {bad}: is `better` the other way?"
        require(sign * good > sign * bad, problem)

    def test_order(self) -> None:
        """The order of the clips does not change the value."""
        order = np.random.default_rng(1).permutation(_CLIPS)
        for targets, scores in self._tables():
            value, _ = score(self.metric, targets, scores)
            again, _ = score(self.metric, targets[order], scores[order])
            same = bool(np.isclose(value, again))
            require(same, f"{value} for some clips, {again} for the same in another order")

    def test_resamples(self) -> None:
        """A resample has the value of its clips, each repeated as often as it was drawn."""
        random, tables = np.random.default_rng(2), list(self._tables())
        del tables[::4]  # nearly perfect: some metrics treat a perfect value specially
        for targets, scores in tables:
            weights = random.multinomial(_CLIPS, np.full(_CLIPS, 1 / _CLIPS), 5).T
            clips, weights = ScoredClips(targets, scores), weights.astype(np.float32)
            found = self._object.resample(clips, weights)
            expected = Metric.resample(self._object, clips, weights)
            same = found.shape == expected.shape and np.allclose(found, expected, equal_nan=True)
            require(same, f"resamples have {found}, but the clips that they drew {expected}")

    def test_intervals(self) -> None:
        """The interval over clips is finite, within the bounds, and contains the value."""
        minimum, maximum = self._object.bounds
        targets, scores = list(self._tables())[1]
        value, _ = score(self.metric, targets, scores)
        low, high = clip_intervals({self.metric: value}, targets, scores, _RESAMPLES)[self.metric]
        right = minimum <= low <= value <= high <= maximum
        finite = bool(np.isfinite([low, high]).all())
        require(right and finite, f"[{low}, {high}] must be an interval of {value}")
