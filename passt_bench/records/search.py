"""Records of searches: their trials, for pages that know nothing of Optuna.

``search/NAME.json`` under an output folder, written again after every batch of trials. The records
of the trials' cells are in the store like all others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from passt_bench.names import Key, Name
from passt_bench.records.run import SCHEMA, Fingerprint, Status
from passt_bench.registry import Better
from passt_bench.spec.recipe import Patchout, Recipe


@dataclass(frozen=True)
class TrialRecord:
    """One setting that a search tried.

    Attributes:
        number: order of the trial, from 0.
        kind: patchout kind that was suggested.
        rate: share that was suggested; at 0 every kind keeps all patches.
        patchout: what the two amount to on the grid, in counts; equal counts are one setting.
        tokens: kept in training, class tokens included.
        keys: of its cells, one a seed.
        status: ``ok``, or that of a cell that failed.
        value: mean of the metric over its cells; None where one failed.
        repeats: number of the first trial with the same setting, which was not trained again.
        seconds: of its cells, added up; 0 where it repeats.
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
        name: of the search, and of the study that confirms its best settings.
        question: what is searched for.
        metric: the objective, on a split cut from the training clips.
        better: which way it is; written only where less is better, as the first records were of
            metrics of which more is.
        baseline: name of the study's baseline, whose recipe every trial changes.
        recipe: of the baseline as it was trained in the search.
        kinds: of patchout that were suggested.
        rates: that were suggested.
        fold: whose training clips were used; None for a data set with one split.
        seeds: of every trial.
        importance: parameter → share of the objective's variance over the space that it explains;
            empty while there are too few trials.
        confirmed: names of the variants that were trained again, the best first.
        confirmation_seeds: of the confirmation; none of them is among ``seeds``.
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
        """The trials that were the first with their setting."""
        return tuple(trial for trial in self.trials if trial.repeats is None)

    @property
    def best(self) -> tuple[TrialRecord, ...]:
        """The settings that succeeded, the best first; of equal ones the earlier."""
        sign = -1 if self.better == "greater" else 1
        valued = [trial for trial in self.settings if trial.value is not None]
        return tuple(sorted(valued, key=lambda trial: (sign * (trial.value or 0.0), trial.number)))
