"""Suggests and counts the trials of a search with Optuna (used only here)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from warnings import catch_warnings

import optuna
from optuna import distributions, pruners, storages
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import NullPool
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from passt_bench.errors import InputError, without_password
from passt_bench.records.run import Status
from passt_bench.records.search import SearchRecord
from passt_bench.registry import Better
from passt_bench.runner.search_space import Params, Space, setting_name
from passt_bench.spec.key import digest
from passt_bench.spec.search import Range, Search

Pruned = optuna.TrialPruned
Report = Callable[[float, int], None]  # a value so far and its step; raises to end the trial
Objective = Callable[[Params, Report], tuple[float, ...]]

_HEARTBEAT, _GRACE = 30, 180  # seconds
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # seconds that a storage may be out of reach
_RACES = (0.2, 0.4, 0.8, 1.6)  # seconds until tables that another process creates are complete
_POLL = 0.3
_MIN_FOR_IMPORTANCE = 8  # settings; a forest on fewer is meaningless


class Failed(Exception):
    """A run of a trial failed; the argument is its status."""

    def __init__(self, status: Status | None) -> None:
        super().__init__(status)
        self.status = status  # None if it was killed, so that the trial does not count


def _suggest(trial: optuna.Trial, space: Space) -> Params:
    """The parameters that Optuna suggests; only those that apply."""
    params: Params = {}
    for name, axis in space.axes.items():
        if name != "kind" and not space.applies(name, params["kind"]):
            continue
        if not isinstance(axis, Range):
            params[name] = trial.suggest_categorical(name, [*axis])
        elif isinstance(axis.low, int) and isinstance(axis.high, int):
            step = int(axis.step or 1)
            params[name] = trial.suggest_int(name, axis.low, axis.high, step=step, log=axis.log)
        else:
            params[name] = trial.suggest_float(
                name, axis.low, axis.high, step=axis.step, log=axis.log
            )
    return params


class _Sampler(optuna.samplers.TPESampler):  # type: ignore[misc]
    """Draws each trial with random numbers of its own; the first ones are fixed."""

    def __init__(self, seed: int, starts: Sequence[Params]) -> None:
        super().__init__()
        self._seed, self._starts, self._fixed = seed, starts, Params()

    def begin(self, earlier: int) -> None:
        """Begins a trial after so many that have ended or are running."""
        self._fixed = self._starts[earlier] if earlier < len(self._starts) else {}
        super().__init__(seed=int(digest([self._seed, 0, earlier])[:8], 16))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: distributions.BaseDistribution,
    ) -> Any:
        """The value of a parameter of this trial."""
        if param_name in self._fixed:
            return self._fixed[param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)


class _Server(storages.RDBStorage):  # type: ignore[misc]
    """A database that may be out of reach for a while; a heartbeat that is missed is no error."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Records that a trial is running."""
        with suppress(StorageInternalError, SQLAlchemyError):
            super().record_heartbeat(trial_id)


def _connect(address: str, pauses: Sequence[float] = _RACES) -> _Server:
    """Opens a database; again, if another process created the same tables at the same time."""
    try:
        with catch_warnings(action="ignore", category=ExperimentalWarning):  # heartbeats
            return _Server(
                address,
                engine_kwargs={"poolclass": NullPool},
                heartbeat_interval=_HEARTBEAT,
                grace_period=_GRACE,
                heartbeat_stale_trial_callback=_suggest_again,
            )
    except SQLAlchemyError as error:
        raced = isinstance(error, IntegrityError) or "already exists" in str(error)
        if not (raced and pauses):
            raise
    time.sleep(pauses[0])
    return _connect(address, pauses[1:])


def _suggest_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Suggests a trial again that was interrupted, unless it has only some of its parameters."""
    if "setting" in trial.user_attrs:
        study.enqueue_trial(trial.params)


def open_storage(root: Path, name: str, address: str | None) -> storages.BaseStorage:
    """Opens the storage of Optuna's trials: at an SQLAlchemy address, or a journal in the folder.

    In a database a trial whose process gives no sign of life is failed, and begun again.

    Raises:
        InputError: the address cannot be opened, or has a password.
    """
    if address is None:
        path = root / "search" / f"{name}.journal"
        path.parent.mkdir(parents=True, exist_ok=True)
        return storages.JournalStorage(JournalFileBackend(str(path)))
    user, query = address.partition("://")[2].rpartition("@")[0], address.partition("?")[2]
    if ":" in user or query != without_password(query):
        problem = "has a password, which other users could read in the list of processes"
        remedy = "Leave it out of the address, and put it into ~/.pgpass or PGPASSWORD."
        raise InputError(problem, field="--storage", remedy=remedy)
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # seconds; by default minutes
    try:
        return _connect(address)
    except Exception as error:  # drivers raise kinds of their own
        reason = without_password((str(error).strip().splitlines() or [""])[0])
        problem = f"the Optuna storage cannot be opened ({type(error).__name__}: {reason})"
        remedy = "Give an SQLAlchemy address such as postgresql://server/base, or omit it."
        if isinstance(error, ImportError):
            remedy = "Install the driver; of PostgreSQL: pip install 'passt-bench[postgresql]'."
        raise InputError(problem, field="--storage", remedy=remedy) from error


@dataclass
class Trials:
    """The trials of one search, in an Optuna study that several commands may share.

    Suggestions come from the tree-structured Parzen estimator, whose random numbers depend on the
    seed and the number of earlier trials that have ended or are running: no two commands draw the
    same, and with one worker an interruption changes no suggestion. The first ones are those of
    `Space`. Trials that an earlier command of the same ``owner`` (an output folder) or journal left
    running are failed, and suggested again.
    """

    open: Callable[[], storages.BaseStorage]  # once in each thread
    name: str  # of the Optuna study
    space: Space
    search: Search
    owner: str
    better: Better  # direction of the first objective; the others are minimized
    resource: int = 1  # of Hyperband, the last step that a trial reports
    metric: str = "metric"  # the name of the first objective

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.stopped = Event()
        self._study = self._load()
        if self._study.metric_names is None:  # which optuna-dashboard shows
            with catch_warnings(action="ignore", category=ExperimentalWarning):
                self._study.set_metric_names([self.metric, *self.search.objectives])
        # A journal is of one folder, in which one command searches, if on another machine now.
        alone = isinstance(self._study._storage, storages.JournalStorage)
        self._fail_orphans(self._study, "" if alone else self.owner)

    def _load(self) -> optuna.Study:
        """The study, for one thread."""
        pruner: pruners.BasePruner = pruners.NopPruner()
        with catch_warnings(action="ignore", category=ExperimentalWarning):  # of Wilcoxon
            if self.search.pruning == "hyperband":
                pruner = pruners.HyperbandPruner(max_resource=self.resource)
            elif self.search.pruning == "wilcoxon":
                pruner = pruners.WilcoxonPruner()
            first = "maximize" if self.better == "greater" else "minimize"
            return optuna.create_study(
                storage=self.open(),
                study_name=self.name,
                directions=[first, *("minimize" for _ in self.search.objectives)],
                pruner=pruner,
                load_if_exists=True,
            )

    @staticmethod
    def _fail_orphans(study: optuna.Study, owner: str) -> None:
        """Ends trials of an owner (empty: of all) that run no more, and suggests them again."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            began = trial.datetime_start or datetime.min
            # Without an owner it has just begun, perhaps on another machine, or was killed then.
            old = datetime.now() - began > timedelta(seconds=_GRACE)
            if trial.user_attrs.get("owner", owner if old else " ").startswith(owner):
                study.tell(trial.number, state=TrialState.FAIL)
                _suggest_again(study, trial)

    def ended(self) -> list[FrozenTrial]:
        """The trials that ended, in order, without interrupted ones."""
        return _ended(self._study)

    def elsewhere(self) -> int:
        """The number of trials that other commands left running or are running."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return sum(not t.user_attrs.get("owner", "").startswith(self.owner) for t in running)

    def optimize(
        self,
        objective: Objective,
        total: int,
        workers: int,
        seconds: float,
        show: Callable[[int], None],
    ) -> None:
        """Runs trials in threads until there are so many, or none may begin any more.

        ``show`` is called a few times per second with the number of trials that have ended.
        """
        deadline = time.monotonic() + seconds
        with ThreadPoolExecutor(workers) as pool:
            missing = min(workers, total - len(self.ended()))
            threads = {
                pool.submit(self._work, objective, total, number, deadline)
                for number in range(missing)
            }
            try:
                while threads:
                    done, threads = wait(threads, _POLL, FIRST_EXCEPTION)
                    for thread in done:
                        thread.result()
                    with suppress(StorageInternalError, SQLAlchemyError):
                        show(len(self.ended()))
            except BaseException:
                self.stopped.set()
                raise

    def _work(self, objective: Objective, total: int, worker: int, deadline: float) -> None:
        """Runs trials one after the other; waits while the storage is out of reach."""
        study, owner = self._load(), f"{self.owner}/{worker}/"
        study.sampler = sampler = _Sampler(self.search.seed, self.space.starts)

        def run(trial: optuna.Trial) -> tuple[float, ...]:
            """One trial; one too many, begun while another worker began the last, is no trial."""
            trial.set_user_attr("owner", owner)
            if (earlier := _earlier(study, trial.number)) >= total:
                raise Failed(None)
            sampler.begin(earlier)
            params = _suggest(trial, self.space)
            trial.set_user_attr("setting", setting_name(params))

            def report(value: float, step: int) -> None:
                trial.report(value, step)
                if trial.should_prune():
                    raise optuna.TrialPruned

            try:
                return objective(params, report)
            except Failed as error:
                if error.status is not None:
                    trial.set_user_attr("status", error.status)
                raise

        def after(study: optuna.Study, trial: FrozenTrial) -> None:
            if not _counts(trial) or len(_ended(study)) >= total:
                study.stop()

        for pause in (*_PAUSES, None):
            try:
                self._fail_orphans(study, owner)
                left = deadline - time.monotonic()
                study.optimize(run, timeout=left, catch=(Failed,), callbacks=[after])
                return
            except Exception as error:
                if not _is_outage(error) or pause is None or self.stopped.wait(pause):
                    raise


def _is_outage(error: BaseException | None) -> bool:
    """Whether a storage was out of reach; Optuna's own handling of that can fail as well."""
    known = isinstance(error, StorageInternalError | SQLAlchemyError)
    return known or (error is not None and _is_outage(error.__cause__ or error.__context__))


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial has ended and counts; a failed one without status was interrupted."""
    finished = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return finished or (trial.state == TrialState.FAIL and "status" in trial.user_attrs)


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if _counts(trial)]


def _earlier(study: optuna.Study, number: int) -> int:
    """The number of trials before one of a number that have ended or are running."""
    trials = study.get_trials(deepcopy=False)[:number]
    return sum(_counts(trial) or trial.state == TrialState.RUNNING for trial in trials)


def importance(record: SearchRecord) -> dict[str, float]:
    """Fractions of the objective's variance that parameters explain (fANOVA).

    ``rate`` is the share of patches that is dropped, of any kind. Each setting counts once; empty
    if there are too few, or all have the same value.
    """
    settings = [trial for trial in record.settings if trial.value is not None]
    if len(settings) < _MIN_FOR_IMPORTANCE or len({t.value for t in settings}) == 1:
        return {}
    others = (n for n in settings[0].params if all(n in t.params for t in settings))
    names = [name for name in others if name not in ("kind", "rate")]
    rows: list[Params] = [
        {"kind": t.kind, "rate": t.rate, **{name: t.params[name] for name in names}}
        for t in settings
    ]
    axes: dict[str, distributions.BaseDistribution] = {}
    for name in rows[0]:
        values = {row[name] for row in rows}
        if all(isinstance(value, int | float) for value in values):
            axes[name] = distributions.FloatDistribution(min(values), max(values))
        else:
            axes[name] = distributions.CategoricalDistribution(sorted(values, key=str))
    study = optuna.create_study(direction="maximize")
    for row, trial in zip(rows, settings, strict=True):
        study.add_trial(
            optuna.trial.create_trial(params=row, distributions=axes, value=trial.value)
        )
    forest = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=forest)
    return {name: round(float(share), 4) for name, share in found.items()}
