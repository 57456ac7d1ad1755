"""Trials of a search: kinds and rates of patchout, suggested by Optuna (used only here)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from passt_bench.errors import InputError
from passt_bench.models.patchout import resolve
from passt_bench.records.run import VariantRecord
from passt_bench.records.search import SearchRecord
from passt_bench.registry import PATCHOUTS, Better
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.plan import StudyPlan
from passt_bench.runner.planned_cell import PlannedCell, plan_cell
from passt_bench.spec.recipe import Pair, Patchout, Recipe
from passt_bench.spec.study import override

KINDS = ("unstructured", "time", "frequency", "structured")
STEP = 1 / 8
RATES = tuple(STEP * i for i in range(8))  # at 0 no kind drops anything

_MIN_FOR_IMPORTANCE = 8  # settings; a forest on fewer is meaningless


@dataclass(frozen=True)
class Space:
    """A search space: the baseline's recipe on a validation split, one fold and one other seed.

    The rates are those that leave some patches of the grid (frequency, time) with every kind.
    """

    recipe: Recipe
    grid: Pair
    rates: tuple[float, ...]
    fold: int | None
    seed: int

    def cell(self, kind: str, rate: float, datasets: Datasets) -> PlannedCell:
        """The cell of a setting, in exact counts; settings with the same patches share a cell."""
        patchout = counted(kind, rate, self.grid, self.recipe.patchout)
        recipe = override(self.recipe, {"patchout": patchout})
        return plan_cell(setting_name(kind, rate), recipe, self.seed, self.fold, datasets)


def setting_name(kind: str, rate: float) -> str:
    """The name of a setting: ``time 0.375``."""
    return f"{kind} {rate:g}" if rate else "none"


def counted(kind: str, rate: float, grid: Pair, like: Patchout | None = None) -> Patchout:
    """Turns a kind and rate into counts on a grid, with the scope of another setting.

    Raises:
        InputError: the kind is unknown, or the rate leaves no patches.
    """
    if rate == 0:
        return Patchout()
    resolved = resolve(Patchout(kind, rate=rate), grid)
    counts: dict[str, Any] = {
        "patches": grid[0] * grid[1] - resolved.kept,
        "frequency": grid[0] - resolved.kept_rows,
        "time": grid[1] - resolved.kept_columns,
    }
    fields = PATCHOUTS.get(kind).build.fields
    counts = {name: number if name in fields else None for name, number in counts.items()}
    return replace(like or Patchout(), kind=kind, rate=None, **counts)


def space_of(plan: StudyPlan) -> Space:
    """The search space of a study.

    Raises:
        InputError: the baseline's model has no patches, or too few to drop any.
    """
    baseline = baseline_of(plan)
    grid = baseline.grid
    if grid is None:
        problem, name = "the baseline's model has no patches to drop", baseline.recipe.model.name
        remedy = "Search over a study whose baseline is a PaSST."
        raise plan.study.error(problem, "model.name", name, remedy)

    def leaves_patches(rate: float) -> bool:
        try:
            return all(counted(kind, rate, grid) for kind in KINDS)
        except InputError:
            return False

    rates = tuple(takewhile(leaves_patches, RATES))
    if len(rates) < 2:
        raise InputError(
            f"a grid of {grid[0]} x {grid[1]} patches is too small to drop any with every kind",
            source=plan.study.name,
            field="model",
        )
    return Space(
        recipe=override(baseline.recipe, {"training.checkpoint_selection": "validation"}),
        grid=grid,
        rates=rates,
        fold=plan.record.folds[0] if plan.record.folds else None,
        seed=max(plan.study.seeds) + 1,
    )


def baseline_of(plan: StudyPlan) -> VariantRecord:
    """The baseline of a plan."""
    return next(v for v in plan.record.variants if v.name == plan.record.baseline)


class Trials:
    """The trials of one search, from Optuna's tree-structured Parzen estimator.

    Trials that an earlier process of the same owner (an output folder; several may share a storage)
    left running are ended, and suggested first. The very first suggestion is to drop nothing.
    """

    def __init__(
        self, storage: BaseStorage, name: str, rates: Sequence[float], owner: str, better: Better
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes, self._owner = _axes(KINDS, rates), owner
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize" if better == "greater" else "minimize",
            load_if_exists=True,
        )
        past = self._study.get_trials(deepcopy=False)
        # The sampler's own state does not outlive a process; another seed keeps it from
        # suggesting again what it began with.
        self._study.sampler = optuna.samplers.TPESampler(seed=len(past))
        if not past:
            self._study.enqueue_trial({"kind": KINDS[0], "rate": 0.0})
        for trial in past:
            if trial.state == TrialState.RUNNING and trial.user_attrs.get("owner", owner) == owner:
                self.tell(trial.number, None)
                if "rate" in trial.params:
                    self._study.enqueue_trial(trial.params)

    def ask(self) -> tuple[int, str, float]:
        """The next trial: its number, and the kind and rate that it suggests."""
        trial = self._study.ask(self._axes)
        trial.set_user_attr("owner", self._owner)
        return trial.number, trial.params["kind"], trial.params["rate"]

    def tell(self, number: int, value: float | None) -> None:
        """Ends a trial with its value, or as failed."""
        state = TrialState.FAIL if value is None else None
        self._study.tell(number, value, state=state)

    def ended(self) -> list[FrozenTrial]:
        """The trials that ended, in order; those without a value failed or were interrupted."""
        states = (TrialState.COMPLETE, TrialState.FAIL)
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [trial for trial in trials if "rate" in trial.params]


def open_storage(root: Path, name: str, address: str | None) -> BaseStorage:
    """Opens the storage of Optuna's trials: at an SQLAlchemy address, or a journal in the folder.

    Raises:
        InputError: the address cannot be opened.
    """
    if address is None:
        path = root / "search" / f"{name}.journal"
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    try:
        return RDBStorage(address)
    except Exception as error:  # drivers raise kinds of their own
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"the Optuna storage cannot be opened ({type(error).__name__}: {reason})",
            field="--storage",
            remedy="Give an SQLAlchemy address such as postgresql://server/base, or omit it.",
        ) from error


def importance(record: SearchRecord) -> dict[str, float]:
    """Fractions of the objective's variance that kind and rate explain (fANOVA).

    Each setting counts once; empty if there are too few, or all have the same value.
    """
    settings = [trial for trial in record.settings if trial.value is not None]
    if len(settings) < _MIN_FOR_IMPORTANCE or len({t.value for t in settings}) == 1:
        return {}
    axes = _axes(record.kinds, record.rates)
    study = optuna.create_study(direction="maximize")
    for trial in settings:
        params = {"kind": trial.kind, "rate": trial.rate}
        study.add_trial(create_trial(params=params, distributions=axes, value=trial.value))
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: round(float(share), 4) for name, share in found.items()}


def _axes(kinds: Sequence[str], rates: Sequence[float]) -> dict[str, BaseDistribution]:
    return {
        "kind": CategoricalDistribution(tuple(kinds)),
        "rate": FloatDistribution(0.0, rates[-1], step=STEP),
    }
