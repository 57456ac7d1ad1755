"""Contract tests for metrics and engines, to be subclassed by plug-ins.

In the tests of a plug-in, for pytest::

    class TestMyMetric(MetricContract):
        metric = "my_metric"

Nothing here needs pytest: each check is a method ``test_…`` that raises `ContractError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from passt_bench.errors import InputError, require, require_error
from passt_bench.models import AudioModel, create_model
from passt_bench.registry import METRICS
from passt_bench.spec.engine import EngineSpec
from passt_bench.spec.recipe import Recipe
from passt_bench.training.clip_bootstrap import ScoredClips, clip_intervals
from passt_bench.training.engine import Engine, ModelStep
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


class EngineContract:
    """What every engine must do with the settings of ``spec``.

    ``tolerance`` is the largest error of an output, as a share of the largest output in plain
    float32; ``impossible`` has settings that cannot be combined.
    """

    engine: type[Engine] = Engine
    spec = EngineSpec()
    tolerance = 1e-5
    impossible: tuple[Mapping[str, Any], ...] = (
        {"device": "cpu", "graph": True},
        {"device": "cuda", "graph": True, "precision": "float16"},
    )

    def _parts(self) -> tuple[Engine, AudioModel, torch.Tensor]:
        """The engine, a small model on the CPU and its input."""
        net = create_model("passt_micro", _CLASSES, patch=8, stride=8, mels=32, frames=32)
        x = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        return self.engine(replace(self.spec, evaluate_precision=self.spec.precision)), net, x

    def test_outputs(self) -> None:
        """Outputs are those of the model in plain float32, within the tolerance."""
        engine, net, x = self._parts()
        with torch.no_grad():
            plain = net.eval()(x)
        engine.configure(net.to(engine.device))
        found = engine.infer(net, x).cpu()
        require(found.dtype == torch.float32, f"outputs must be float32, not {found.dtype}")
        error = float((found - plain).abs().max() / plain.abs().max())
        require(error <= self.tolerance, f"errors may be {self.tolerance}, and one is {error:.2g}")

    def test_training_step(self) -> None:
        """Every used parameter gets a finite gradient, and weights stay float32."""
        engine, net, x = self._parts()
        recipe = replace(Recipe(), engine=self.spec)
        step = ModelStep(net.to(engine.device).train(), recipe, engine)
        step.run(engine.send({"x": x, "targets": torch.zeros(len(x), _CLASSES)}))
        for name, weight in net.named_parameters():
            grad = torch.zeros(()) if weight.grad is None else weight.grad
            good = name in net.unused or bool(grad.isfinite().all() and grad.any())
            require(good, f"{name} must have a finite gradient")
        kinds = {weight.dtype for weight in net.parameters()}
        require(kinds == {torch.float32}, f"weights must stay float32, and are {kinds}")

    def test_refusals(self) -> None:
        """Settings that cannot be combined are refused by name."""
        for settings in self.impossible:
            make = partial(self.engine, replace(self.spec, **settings))
            error = require_error(make, InputError, f"{dict(settings)} must raise InputError")
            named = str(error.field).removeprefix("engine.") in settings
            require(named, f"the error must name one of {', '.join(settings)}")
