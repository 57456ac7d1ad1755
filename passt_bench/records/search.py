"""Records of searches: their trials, for pages that do not use Optuna.

``search/NAME.json`` under an output folder, written again after every batch of trials. The records
of the trials' cells are in the store like all others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from passt_bench.records.run import SCHEMA, Fingerprint, Status
from passt_bench.registry import Better
from passt_bench.spec.key import Key, Name
from passt_bench.spec.recipe import Patchout, Recipe


@dataclass(frozen=True)
class TrialRecord:
    """One setting that a search tried.

    Attributes:
        number: order of the trial, from 0.
        kind: suggested patchout kind.
        rate: suggested rate; at 0 every kind keeps all patches.
        patchout: the setting in counts on the grid; equal counts are one setting.
        tokens: tokens kept in training, class tokens included.
        keys: keys of its cells, one per seed.
        status: ``ok``, or the status of a failed cell.
        value: mean of the metric over its cells; None if one failed.
        repeats: number of the first trial with the same setting, which was not trained again.
        seconds: total seconds of its cells; 0 if it repeats another trial.
    """

    number: int
    kind: str
    rate: float
    patchout: Patchout
    tokens: int
    keys: tuple[Key, ...]
    status: Status
    value: float | None
    repeats: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class SearchRecord:
    """A search over kind and rate of patchout.

    Attributes:
        name: name of the search, and of the study that confirms its best settings.
        question: question of the search.
        metric: the objective, on a split cut from the training clips.
        better: direction of the metric; written only if less is better, because the first records
            do not have it.
        baseline: name of the study's baseline, whose recipe every trial changes.
        recipe: recipe of the baseline in the search.
        kinds: kinds of patchout in the space.
        rates: rates in the space.
        fold: fold whose training clips were used; None for a data set without folds.
        seeds: seeds of every trial.
        importance: parameter → fraction of the objective's variance that it explains; empty if
            there are too few trials.
        confirmed: names of the variants that were trained again, the best first.
        confirmation_seeds: seeds of the confirmation; none of them is among ``seeds``.
    """

    name: Name
    question: str
    metric: str
    baseline: str
    recipe: Recipe
    kinds: tuple[str, ...]
    rates: tuple[float, ...]
    fold: int | None
    seeds: tuple[int, ...]
    fingerprint: Fingerprint
    trials: tuple[TrialRecord, ...] = ()
    importance: dict[str, float] = field(default_factory=dict)
    confirmed: tuple[str, ...] = ()
    confirmation_seeds: tuple[int, ...] = ()
    better: Annotated[Better, Field(exclude_if=lambda better: better == "greater")] = "greater"
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
