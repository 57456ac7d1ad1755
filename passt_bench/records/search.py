"""Records of searches: their trials, for pages that do not use Optuna.

``search/NAME.json`` under an output folder, written again after every trial. The records of the
trials' cells are in the store like all others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import le
from typing import Annotated, Any, Literal

from pydantic import Field

from passt_bench.records.run import SCHEMA, Fingerprint, Status
from passt_bench.registry import Better
from passt_bench.spec.key import Key, Name
from passt_bench.spec.recipe import Patchout, Recipe
from passt_bench.spec.search import Objective, Pruning, SharedByTrials


@dataclass(frozen=True)
class TrialRecord:
    """One setting that a search tried."""

    number: int  # order, from 0
    kind: str
    rate: float  # share of the patches that is dropped, as suggested
    patchout: Patchout  # in counts on the grid; equal counts are one setting
    tokens: int  # kept in training, class tokens included
    keys: tuple[Key, ...]  # of its cells, one per seed and fold
    status: Status | Literal["pruned"]  # ``ok``, or that of a failed cell
    value: float | None  # mean of the metric over its cells; None if it failed or was pruned
    repeats: int | None = None  # first trial with the same setting, which was not trained again
    seconds: float = 0.0  # of all its cells; 0 if it repeats another trial
    # As suggested, by name; the first records have kind and rate alone.
    params: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)  # objective → cost / that of the baseline
    # Of a trial pruned in its first run, which has no record: the metric by epoch until then.
    curve: Annotated[tuple[float, ...], Field(exclude_if=lambda curve: not curve)] = ()


@dataclass(frozen=True)
class SearchRecord:
    """A search over patchout and, in later records, strides and fields of the training."""

    name: Name  # also of the study that confirms its best settings
    question: str
    metric: str  # the objective, on a split cut from the training clips
    baseline: str  # of the study; every trial changes its recipe
    recipe: Recipe  # of the baseline in the search
    kinds: tuple[str, ...]
    rates: tuple[float, ...]
    fold: int | None  # whose training clips were used; None for a data set without folds
    seeds: tuple[int, ...]  # of every trial
    fingerprint: Fingerprint
    trials: tuple[TrialRecord, ...] = ()
    # Parameter → fraction of the objective's variance that it explains; empty if there are too few
    # trials.
    importance: dict[str, float] = field(default_factory=dict)
    confirmed: tuple[str, ...] = ()  # variants that were trained again, the best first
    default: str = ""  # variant of the study that they are compared with, beside the baseline
    confirmation_seeds: tuple[int, ...] = ()  # none of them is among ``seeds``
    # Written only if less is better, because the first records do not have it.
    better: Annotated[Better, Field(exclude_if=lambda better: better == "greater")] = "greater"
    space: dict[str, str] = field(default_factory=dict)  # parameter → its values in words
    budget: SharedByTrials = "epochs"  # of which each trial has as much as the baseline
    objectives: tuple[Objective, ...] = ()  # beside the metric; less is better
    pruning: Pruning = "off"
    command: str = ""
    schema: int = SCHEMA
    kind: Literal["search"] = "search"

    @property
    def settings(self) -> tuple[TrialRecord, ...]:
        """The first trial of each setting."""
        return tuple(trial for trial in self.trials if trial.repeats is None)

    @property
    def best(self) -> tuple[TrialRecord, ...]:
        """The successful settings, the best first; equal ones in order of trials."""
        sign = -1 if self.better == "greater" else 1
        valued = [trial for trial in self.settings if trial.value is not None]
        return tuple(sorted(valued, key=lambda trial: (sign * (trial.value or 0.0), trial.number)))

    @property
    def front(self) -> tuple[TrialRecord, ...]:
        """The successful settings that no other beats in one objective and equals in the rest."""
        sign = -1 if self.better == "greater" else 1

        def losses(trial: TrialRecord) -> tuple[float, ...]:
            return sign * (trial.value or 0.0), *(trial.costs[name] for name in self.objectives)

        points = [(trial, losses(trial)) for trial in self.best]
        return tuple(
            trial
            for trial, own in points
            if not any(o != own and all(map(le, o, own)) for _, o in points)
        )
