"""Optuna: what to try next, what was told of it, and which parameter mattered.

The journal holds suggestions and their values alone; what came of them are records in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from passt_bench.errors import InputError
from passt_bench.records.search import SearchRecord
from passt_bench.runner.space import KINDS, STEP
from passt_bench.runner.trials import Suggestion

_FEWEST_FOR_IMPORTANCE = 8  # settings; a forest on fewer says nothing


class Suggester:
    """The trials of one search, on Optuna's tree-structured Parzen estimator.

    Trials that an earlier process of the same owner left running are ended, and their suggestions
    come first. The very first suggestion is to drop nothing.

    Args:
        storage: see `open_storage`.
        name: of the Optuna study; another space or recipe needs another one.
        rates: from 0 in steps of `space.STEP`.
        owner: tells the trials of one output folder from those of others on a shared storage.
    """

    def __init__(self, storage: BaseStorage, name: str, rates: Sequence[float], owner: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes, self._owner = _axes(KINDS, rates), owner
        self._study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        past = self._study.get_trials(deepcopy=False)
        # The sampler's own state does not outlive a process; another seed keeps it from
        # suggesting again what it began with.
        self._study.sampler = optuna.samplers.TPESampler(seed=len(past))
        if not past:
            self._study.enqueue_trial({"kind": KINDS[0], "rate": 0.0})
        for trial in past:
            mine = trial.user_attrs.get("owner", owner) == owner
            if trial.state == TrialState.RUNNING and mine:
                self._study.tell(trial.number, state=TrialState.FAIL)
                if "rate" in trial.params:
                    self._study.enqueue_trial(trial.params)

    def ask(self) -> tuple[int, Suggestion]:
        """The next trial: its number and what it suggests."""
        trial = self._study.ask(self._axes)
        trial.set_user_attr("owner", self._owner)
        return trial.number, Suggestion(**trial.params)

    def tell(self, number: int, value: float | None) -> None:
        """Ends a trial with its value, or as failed."""
        if value is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, value)

    def told(self, failed: Callable[[Suggestion], bool]) -> list[tuple[Suggestion, float | None]]:
        """What was told so far, in order; None for a failure.

        Args:
            failed: whether the records of a suggestion say that it failed; a trial that ended
                without them was interrupted, and is left out.
        """
        found: list[tuple[Suggestion, float | None]] = []
        for trial in self._study.get_trials(deepcopy=False):
            if "rate" not in trial.params:
                continue
            suggestion = Suggestion(**trial.params)
            if trial.state == TrialState.COMPLETE:
                found.append((suggestion, trial.value))
            elif trial.state == TrialState.FAIL and failed(suggestion):
                found.append((suggestion, None))
        return found


def open_storage(root: Path, name: str, address: str | None) -> BaseStorage:
    """Where Optuna keeps its trials: a journal under the output folder, or a server.

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
            f"not an Optuna storage that can be opened ({type(error).__name__}: {reason})",
            field="--storage",
            remedy="Give an SQLAlchemy address such as postgresql://server/base, or leave it out.",
        ) from error


def importance(record: SearchRecord) -> dict[str, float]:
    """Shares of the objective's variance over the space that kind and rate explain (fANOVA).

    Each setting counts once; empty while there are too few, or all have the same value.
    """
    settings = record.best
    if len(settings) < _FEWEST_FOR_IMPORTANCE or len({t.value for t in settings}) == 1:
        return {}
    axes = _axes(record.kinds, record.rates)
    study = optuna.create_study(direction="maximize")
    for trial in sorted(settings, key=lambda trial: trial.number):
        params = {"kind": trial.kind, "rate": trial.rate}
        study.add_trial(create_trial(params=params, distributions=axes, value=trial.value))
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: round(float(share), 4) for name, share in found.items()}


def _axes(kinds: Sequence[str], rates: Sequence[float]) -> dict[str, BaseDistribution]:
    return {
        "kind": CategoricalDistribution(tuple(kinds)),
        "rate": FloatDistribution(0.0, rates[-1], step=STEP),
    }
