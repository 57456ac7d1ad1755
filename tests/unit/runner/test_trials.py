"""Trials of plain functions, which train nothing."""

import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from threading import Barrier

import optuna
import pytest
from optuna.trial import TrialState
from small_search import BASE

from passt_bench.models import resolve
from passt_bench.records.run import Fingerprint
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.runner.search_space import counted, is_same, make_space, setting_name
from passt_bench.runner.trials import Failed, Trials, importance, open_storage
from passt_bench.spec import Patchout, Range, Search, TrainingSpec

KINDS = ("unstructured", "time", "frequency", "structured")
RATES = tuple(i / 8 for i in range(8))


def params(kind, rate):
    if not rate:
        return {"kind": "none"}
    axes = {"time rate": rate, "frequency rate": rate}
    return {"kind": kind, **(axes if kind == "structured" else {"rate": rate})}


@pytest.mark.parametrize("grid", [(8, 8), (8, 18), (12, 99)])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_counts_are_what_the_rate_comes_to(kind, grid):
    for rate in RATES[1:]:
        setting = counted(params(kind, rate), grid)
        assert setting.kind == kind and setting.rate is None
        assert resolve(setting, grid) == resolve(Patchout(kind, rate=rate), grid)


def test_counts_of_both_axes_and_of_rates_that_would_leave_nothing():
    both = {"kind": "structured", "time rate": 0.25, "frequency rate": 0.5}
    assert counted(both, (8, 8)) == Patchout("structured", time=2, frequency=4)
    assert counted(both | {"frequency rate": 0.0}, (8, 8)).frequency == 0
    assert counted({"kind": "none"}, (8, 8)) == counted(params("time", 0.1), (8, 4)) == Patchout()
    per_sample = Patchout("none", scope="sample")
    assert counted(params("time", 0.5), (8, 8), per_sample) == replace(
        per_sample, kind="time", time=4
    )
    assert counted(params("frequency", 0.875), (2, 4)) == Patchout("frequency", frequency=1)
    assert counted(params("unstructured", 0.99), (2, 4)) == Patchout("unstructured", patches=7)
    assert counted(params("structured", 0.99), (2, 4)) == Patchout(
        "structured", frequency=1, time=3
    )
    assert setting_name(both | {"training.learning_rate": 0.003}) == (
        "structured, time rate 0.25, frequency rate 0.5, learning_rate 0.003"
    )


def test_a_rate_and_the_counts_that_it_comes_to_are_the_same_setting():
    half = replace(BASE, patchout=Patchout("time", rate=0.5))
    counts = replace(BASE, patchout=Patchout("time", time=2))
    assert is_same(half, counts, 16)
    assert not is_same(half, replace(counts, patchout=Patchout("time", time=1)), 16)
    assert not is_same(half, replace(counts, training=TrainingSpec(epochs=9)), 16)


def trials_of(root, space=Search(), owner="me", address=None, resource=1, better="greater"):  # noqa: B008
    own, opened = (
        make_space(space, BASE, 16),
        partial(open_storage, root, "s", address),
    )
    return Trials(opened, "s", own, space, owner, better, resource)


def peak(given, report):
    """The best is to drop three of eight columns."""
    return (1 - 0.2 * (given["kind"] != "time") - abs(given.get("rate", 0.9) - 0.375),)


def optimize(trials, total, objective=peak, workers=1):
    trials.optimize(objective, total, workers, math.inf, lambda ended: None)
    return [(trial.params, trial.values) for trial in trials.ended()]


def test_a_metric_of_which_less_is_better_is_minimized(tmp_path):
    trials_of(tmp_path, better="less")
    storage = open_storage(tmp_path, "s", None)
    study = optuna.load_study(study_name="s", storage=storage)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE


def test_the_first_trials_are_of_each_kind(tmp_path):
    middle = {"kind": "structured", "time rate": 0.375, "frequency rate": 0.375}
    each = [{"kind": "none"}, *({"kind": kind, "rate": 0.5} for kind in KINDS[:3]), middle]
    assert [given for given, _ in optimize(trials_of(tmp_path / "all"), 5)] == each
    one = Search(kinds=("time",), rates=Range(0.2, 0.4))
    ((given, _),) = optimize(trials_of(tmp_path / "one", one), 1)
    assert given == {"kind": "time", "rate": pytest.approx(0.3)}


def test_the_dearest_combination_of_other_parameters_is_checked():
    own = {"training.batch_size": (8, 16), "training.learning_rate": Range(1e-3, 1e-2)}
    space = make_space(Search(strides=((4, 4),), fields=own), BASE, 16)
    ends = [[given[n] for n in ("stride", *own) if n in given] for given in space.extremes()]
    assert ["(4, 4)", 16, 1e-2] in ends and ["(8, 8)", 8, 1e-3] in ends
    assert all(given["kind"] == "none" for given in space.extremes())


def test_the_planted_best_is_found(tmp_path):
    for seed in (1, 2):
        ended = optimize(trials_of(tmp_path / str(seed), Search(seed=seed)), 30)
        assert max(values for _, values in ended) == [1.0]


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_interrupted_anywhere_one_worker_suggests_the_same(tmp_path, kind):
    address = f"sqlite:///{tmp_path / 'trials.db'}" if kind == "database" else None
    undisturbed = optimize(trials_of(tmp_path / "undisturbed"), 14)
    assert undisturbed[0][0] == {"kind": "none"}
    for at in (1, 6, 7):
        count = 0

        def killed(given, report, at=at):
            nonlocal count
            count += 1
            if count == at:
                raise SystemExit
            return peak(given, report)

        with pytest.raises(SystemExit):
            optimize(trials_of(tmp_path, address=address), 14, killed)
        trials_of(tmp_path, owner="they", address=address)  # who leave it alone in a database
        storage = open_storage(tmp_path, "s", address)
        states = [t.state for t in optuna.load_study(study_name="s", storage=storage).trials]
        assert states.count(TrialState.RUNNING) == (kind == "database")
    assert optimize(trials_of(tmp_path, address=address), 14) == undisturbed
    states = [t.state for t in optuna.load_study(study_name="s", storage=storage).trials]
    assert states.count(TrialState.COMPLETE) == 14 and TrialState.RUNNING not in states


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_a_trial_of_nobody_is_another_machines_only_in_a_database(tmp_path, kind):
    address = f"sqlite:///{tmp_path / 'trials.db'}" if kind == "database" else None
    trials_of(tmp_path, owner="they", address=address)
    storage = open_storage(tmp_path, "s", address)
    study = storage.get_study_id_from_name("s")
    killed = optuna.trial.create_trial(state=TrialState.RUNNING)
    killed.datetime_start = datetime.now() - timedelta(minutes=4)
    old = storage.create_new_trial(study, killed)  # before it had an owner
    begun = storage.create_new_trial(study)  # it has no owner yet
    trials_of(tmp_path, address=address)
    left_alone = kind == "database"
    assert storage.get_trial(old).state == TrialState.FAIL
    assert storage.get_trial(begun).state == (TrialState.FAIL, TrialState.RUNNING)[left_alone]


def test_commands_begun_together_open_an_empty_database(tmp_path):
    together = Barrier(6)

    def begin(owner):
        together.wait()
        return trials_of(tmp_path, owner=str(owner), address=f"sqlite:///{tmp_path / 'trials.db'}")

    with ThreadPoolExecutor(6) as pool:
        first, *_ = pool.map(begin, range(6))
    assert len(optimize(first, 2)) == 2


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_two_machines_draw_different_trials_and_one_of_them_the_baseline(tmp_path, kind):
    address = f"sqlite:///{tmp_path / 'trials.db'}" if kind == "database" else None
    machines = [trials_of(tmp_path, owner=name, address=address) for name in ("a", "b")]
    together = Barrier(2)

    def in_step(given, report):
        together.wait(60)  # both are drawn before either ends
        return peak(given, report)

    with ThreadPoolExecutor(2) as pool:
        [*pool.map(lambda machine: optimize(machine, 8, in_step), machines)]
    # The first ten do not learn: many machines draw what one would, each of them once.
    alone = optimize(trials_of(tmp_path / "alone"), 8)
    assert [trial.params for trial in machines[0].ended()] == [given for given, _ in alone]
    assert alone[0][0] == {"kind": "none"} != alone[1][0]


def test_several_workers_come_to_the_total_and_failures_count(tmp_path):
    # Not by the setting: which ones are drawn depends on how the workers take turns.
    calls = itertools.count(1)

    def some_fail(given, report):
        time.sleep(0.01)
        if next(calls) % 3 == 0:
            raise Failed("diverged")
        return peak(given, report)

    ended = optimize(trials_of(tmp_path), 12, some_fail, workers=4)
    assert [values is None for _, values in ended].count(True) == 4
    assert len(ended) == 12


def test_hyperband_ends_trials_and_wilcoxon_compares_runs(tmp_path):
    def by_epoch(given, report):
        (value,) = peak(given, report)
        for epoch in range(1, 10):
            report(value * epoch / 9, epoch)
        return (value,)

    halving = trials_of(tmp_path / "h", Search(pruning="hyperband"), resource=9)
    optimize(halving, 25, by_epoch)
    states = [trial.state for trial in halving.ended()]
    assert len(states) == 25 and states.count(TrialState.PRUNED) >= 3
    best = max(halving.ended(), key=lambda trial: (trial.values or [0])[0])
    assert best.state == TrialState.COMPLETE

    def by_run(given, report):
        (value,) = peak(given, report)
        for run in range(6):
            report(value + 0.01 * run, run)
        return (value,)

    paired = trials_of(tmp_path / "w", Search(pruning="wilcoxon", runs=6))
    optimize(paired, 10, by_run)
    assert TrialState.PRUNED in [trial.state for trial in paired.ended()]


def searched(values):
    """A search whose trials have these values: (kind, rate) → value."""
    trials = tuple(
        TrialRecord(
            i, kind, rate, counted(params(kind, rate), (8, 8)), 10, (f"k{i}",), "ok", value,
            params={"kind": kind, "training.mixup": i % 2},
        )
        for i, ((kind, rate), value) in enumerate(values.items())
    )  # fmt: skip
    fingerprint = Fingerprint("synthetic", "f", 1, 1, ("a",), True)
    return SearchRecord(
        "s", "?", "mAP", "none", BASE, KINDS, RATES, None, (3,), fingerprint, trials
    )  # fmt: skip


def test_importance_finds_the_parameter_that_decides():
    def of(value):
        return importance(searched({(k, r): value(k, r) for k in KINDS for r in RATES[1:]}))

    assert of(lambda kind, rate: 1 - rate)["rate"] > 0.95
    by_kind = of(lambda kind, rate: KINDS.index(kind))
    assert by_kind["kind"] > 0.95 and sum(by_kind.values()) == pytest.approx(1, abs=1e-3)
    assert of(lambda kind, rate: 0.5) == {}
    assert importance(searched({("time", rate): rate for rate in RATES[1:5]})) == {}
