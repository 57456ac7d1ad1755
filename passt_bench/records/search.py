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
    """One setting that a search tried."""

    number: int  # order, from 0
    kind: str
    rate: float  # at 0 every kind keeps all patches
    patchout: Patchout  # in counts on the grid; equal counts are one setting
    tokens: int  # kept in training, class tokens included
    keys: tuple[Key, ...]  # of its cells, one per seed
    status: Status  # ``ok``, or that of a failed cell
    value: float | None  # mean of the metric over its cells; None if one failed
    repeats: int | None = None  # first trial with the same setting, which was not trained again
    seconds: float = 0.0  # of all its cells; 0 if it repeats another trial


@dataclass(frozen=True)
class SearchRecord:
    """A search over kind and rate of patchout."""

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
    confirmation_seeds: tuple[int, ...] = ()  # none of them is among ``seeds``
    # Written only if less is better, because the first records do not have it.
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
