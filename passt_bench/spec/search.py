"""The space of a search: what trials may change in the baseline, and how they are judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from passt_bench.errors import InputError
from passt_bench.spec.codec import about, validate
from passt_bench.spec.recipe import Pair

SharedByTrials = Literal["flops", "tokens", "steps", "epochs"]
Objective = Literal["time", "memory"]
Pruning = Literal["off", "hyperband", "wilcoxon"]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, whole ones if both are; in steps, or on a log scale."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        scaled = self.step is None or (self.step > 0 and not self.log)
        positive = self.low > 0 or not self.log
        if not (-math.inf < self.low < self.high < math.inf and positive and scaled):
            remedy = "Give e.g. Range(1e-3, 1e-2, log=True), or steps without log."
            raise InputError("not a range", field="Range", value=self, remedy=remedy)

    @property
    def middle(self) -> float:
        """The value in the middle, or that of the steps which is nearest to it."""
        half = (self.high - self.low) / 2
        return self.low + (round(half / self.step) * self.step if self.step else half)

    def __str__(self) -> str:
        how = f" in steps of {self.step:g}" if self.step else ", log scale" if self.log else ""
        return f"{self.low:g} to {self.high:g}{how}"


@dataclass(frozen=True)
class Search:
    """What `passt-bench search` tries, and how it judges.

    A kind that drops one amount has a ``rate``, one that drops rows and columns a rate for time and
    one for frequency. A trial is trained for what the baseline costs in the unit ``budget``, on the
    training clips without a validation split, which gives its value: the mean over ``runs`` seeds.

    With ``objectives`` a search looks for trials that are better in none of quality, the FLOPs of a
    step (``time``) and its bytes beyond the weights (``memory``) without being worse in another.
    ``hyperband`` ends trials by the metric after each epoch; ``wilcoxon`` by that of the runs so
    far, of which there is one per seed and, in data with folds, per fold that is not tested.
    """

    kinds: Annotated[
        tuple[str, ...],
        about("Registered kinds of patchout.", min_length=1),
    ] = ("none", "unstructured", "time", "frequency", "structured")
    rates: Range = Range(0.125, 0.875, 0.125)
    axis_rates: Range = Range(0.0, 0.75, 0.125)
    strides: tuple[Pair, ...] = ()  # beside the baseline's
    fields: Mapping[str, Range | tuple[Any, ...]] = field(default_factory=dict)  # of training
    budget: SharedByTrials = "flops"
    objectives: tuple[Objective, ...] = ()  # beside quality
    pruning: Pruning = "off"
    runs: Annotated[int, about("Number of seeds of a trial.", ge=1)] = 1
    seed: int = 0  # of the sampler

    def check(self, source: str) -> None:
        """Refuses a space that cannot be searched (raises `InputError`)."""

        def error(problem: str, name: str, value: object, remedy: str) -> InputError:
            field = f"search.{name}"
            return InputError(problem, source=source, field=field, value=value, remedy=remedy)

        validate(Search, self, source=f"{source}, search")
        if "none" not in self.kinds:
            problem = "without 'none' there is nothing to compare patchout with"
            raise error(problem, "kinds", self.kinds, "Add 'none'.")
        for name, rates in (("rates", self.rates), ("axis_rates", self.axis_rates)):
            if not 0 <= rates.low < rates.high < 1:
                raise error("rates are from 0 to below 1", name, rates, "Give e.g. Range(0, .75).")
        for name, values in self.fields.items():
            fixed = ("training.epochs", "training.steps", "training.checkpoint_selection")
            if not name.startswith("training.") or name in fixed:
                remedy = "Give fields such as training.learning_rate."
                raise error("the search cannot change this field", "fields", name, remedy)
            if not isinstance(values, Range) and len(set(values)) < 2:
                raise error("fewer than two values", f"fields.{name}", values, "Give more.")
        if self.pruning != "off" and self.objectives:
            remedy = "Leave out one of the two."
            raise error("several objectives cannot be pruned", "pruning", self.pruning, remedy)
        if self.pruning == "hyperband" and self.runs > 1:
            remedy = "Use runs=1, or pruning='wilcoxon'."
            raise error("ends the training of a single run", "pruning", self.pruning, remedy)
