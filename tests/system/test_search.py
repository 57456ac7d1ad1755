import json
import math
import os
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import optuna
import pytest
from filelock import FileLock
from optuna.trial import TrialState
from small_search import BASE, STUDY, journal, run_search

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.models import resolve
from passt_bench.records.files import to_json
from passt_bench.records.run import Fingerprint
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import Store, read_search, write_document
from passt_bench.report.figures.search import history_data
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.plan import plan_study
from passt_bench.runner.request import Paths
from passt_bench.runner.search import CONFIRMED, Budget
from passt_bench.runner.trials import (
    KINDS,
    RATES,
    Trials,
    counted,
    importance,
    open_storage,
    setting_name,
    space_of,
)
from passt_bench.spec import ModelSpec, Patchout, Variant


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A finished search, and the folder it lies in."""
    root = tmp_path_factory.mktemp("search")
    record, failed = run_search(root)
    assert failed == 0
    return record, root


@pytest.fixture
def copied(found, tmp_path):
    """A folder with the journal of the finished search alone."""
    path = tmp_path / "search" / "search-tiny.journal"
    path.parent.mkdir()
    shutil.copy(found[1] / "search" / path.name, path)
    return tmp_path


def records(root):
    """The records of cells, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in root.glob("records/*/record.json")}


@pytest.mark.parametrize("grid", [(8, 8), (8, 18), (12, 99)])
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_what_the_rate_comes_to(kind, grid):
    assert counted(kind, 0.0, grid) == Patchout()
    for rate in RATES[1:]:
        setting = counted(kind, rate, grid)
        assert setting.kind == kind and setting.rate is None
        assert resolve(setting, grid) == resolve(Patchout(kind, rate=rate), grid)
    assert counted("structured", 1 / 8, (8, 8)) == counted("structured", 2 / 8, (8, 8))
    per_sample = Patchout("none", scope="sample")
    assert counted("time", 0.5, (8, 8), per_sample) == Patchout("time", time=4, scope="sample")


def test_rates_that_leave_nothing_with_some_kind_are_not_suggested(tmp_path):
    flat = replace(BASE, frontend=replace(BASE.frontend, mels=16))  # 2 x 4 patches
    datasets = Datasets(Paths(tmp_path))
    plan = plan_study(replace(STUDY, base=flat), datasets)
    space = space_of(plan)
    assert (space.grid, space.rates, space.seed) == ((2, 4), RATES[:6], 1)
    with pytest.raises(InputError, match="leaves no patches"):
        space.cell("frequency", 0.75, datasets)


def test_trials_are_of_the_validation_split_and_other_seeds(found):
    record, root = found
    store = Store(root)
    assert len(record.trials) == 6
    assert record.trials[0].patchout == Patchout()
    assert record.seeds == (1,) and record.confirmation_seeds == (0,)
    for trial in record.settings:
        (cell,) = (store.run(key) for key in trial.keys)
        assert cell.recipe.training.checkpoint_selection == "validation"
        assert (cell.seed, cell.tokens) == (1, trial.tokens)
        assert cell.metrics["mAP"] == trial.value
        assert trial.seconds == pytest.approx(sum(cell.clocks.values()), abs=1e-3)
    assert len(records(root)) == len(record.settings) + len(record.confirmed) + 1
    first = {}
    for trial in record.trials:
        known = first.setdefault(trial.patchout, trial)
        assert trial.value == known.value
        assert trial is known or trial.seconds == 0
        assert trial.repeats == (None if trial is known else known.number)


def test_the_best_are_confirmed_on_the_test_fold_as_a_study(found):
    record, root = found
    results = load_results("search-tiny", [Store(root)])
    best = [t for t in record.best if t.patchout.kind != "none"][:CONFIRMED]
    assert record.confirmed == tuple(setting_name(t.kind, t.rate) for t in best)
    names = [variant.name for variant in results.study.variants]
    assert names == ["none", *record.confirmed]
    assert len(results.records) == len(names)
    for cell in results.records.values():
        assert (cell.recipe.training.checkpoint_selection, cell.seed) == ("last", 0)
    assert [c.baseline for c in results.comparisons] == ["none"] * len(best)


def test_a_second_call_trains_nothing(found):
    record, root = found
    before = records(root)
    assert run_search(root) == (record, 0)
    assert records(root) == before
    assert read_search("search-tiny", root) == record
    text = (root / "search" / "search-tiny.json").read_text()
    host = re.compile(rf"\b{re.escape(os.uname().nodename)}\b")  # a short one is part of words
    assert str(root) not in text and not host.search(text)


def test_settings_on_record_are_not_trained_again_by_a_new_search(found, tmp_path):
    record, root = found
    (tmp_path / "records").symlink_to(root / "records")
    before = records(root)
    again, _ = run_search(tmp_path)  # a fresh journal: the same sampler, so the same suggestions
    assert records(root) == before
    assert [t.value for t in again.trials] == [t.value for t in record.trials]


def test_another_recipe_is_another_search(copied):
    other, _ = run_search(copied, 1, study=replace(STUDY, base=replace(BASE, salt=1)))
    assert len(other.trials) == 1 and len(records(copied)) == 1


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_trials_that_a_kill_left_are_ended_and_begun_again(tmp_path, kind):
    address = f"sqlite:///{tmp_path / 'trials.db'}" if kind == "database" else None

    def trials_of(owner="me"):
        return Trials(open_storage(tmp_path, "s", address), "s", RATES, owner, "greater")

    def state(number):
        storage = open_storage(tmp_path, "s", address)
        return optuna.load_study(study_name="s", storage=storage).trials[number].state

    one = trials_of()
    first, *nothing = one.ask()
    second, *lost = one.ask()
    one.tell(first, 0.5)
    trials_of("they")
    assert state(second) == TrialState.RUNNING  # not theirs
    two = trials_of()
    assert state(second) == TrialState.FAIL
    number, *again = two.ask()
    assert (nothing[1], again) == (0.0, lost) and number > second
    two.tell(number, 0.25)
    told = [(trial.params["kind"], trial.params["rate"], trial.value) for trial in two.ended()]
    assert told == [(*nothing, 0.5), (*lost, None), (*lost, 0.25)]
    assert (tmp_path / "search").exists() == (address is None)


def test_a_failure_is_a_trial_and_an_interruption_is_none(tmp_path):
    wild = replace(BASE, training=replace(BASE.training, learning_rate=1e30, warmup=0.0))
    study = replace(STUDY, base=wild)
    record, failed = run_search(tmp_path, 2, study=study)
    assert [trial.status for trial in record.trials] == ["diverged"] * 2
    assert (failed, record.best, record.confirmed) == (2, (), ())
    storage = open_storage(tmp_path, "search-tiny", None)
    (name,) = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
    optuna.load_study(study_name=name, storage=storage).ask()  # and then it is killed
    assert len(run_search(tmp_path, 2, study=study)[0].trials) == 2


def test_a_metric_of_which_less_is_better_is_searched_the_other_way(tmp_path, found):
    Trials(open_storage(tmp_path, "s", None), "s", RATES, "me", "less")
    assert journal(tmp_path, "s").direction == optuna.study.StudyDirection.MINIMIZE
    greatest, least = found[0], replace(found[0], better="less")
    values = [trial.value for trial in greatest.best]
    assert values == sorted(values, reverse=True)
    assert [trial.value for trial in least.best] == sorted(values)
    assert history_data(least)["best"].iloc[-1] == min(values)
    assert history_data(greatest)["best"].iloc[-1] == max(values)
    assert "better" not in json.loads(to_json(greatest))  # as the first records are written
    write_document(least, tmp_path)
    assert read_search(least.name, tmp_path) == least


def test_what_cannot_be_searched(tmp_path):
    with pytest.raises(InputError) as caught:
        run_search(tmp_path, storage="nonsense")
    assert caught.value.field == "--storage"
    cnn = replace(BASE, model=ModelSpec("panns_micro"))
    study = replace(STUDY, base=cnn, variants=(Variant("none"), Variant("salt", {"salt": 1})))
    with pytest.raises(InputError, match="no patches to drop"):
        run_search(tmp_path, study=study)
    (tmp_path / "search").mkdir(exist_ok=True)
    with (
        FileLock(tmp_path / "search" / "search-tiny.lock"),
        pytest.raises(InputError, match="already running"),
    ):
        run_search(tmp_path)


def budget(elapsed, seconds=100.0, taken=(9.0, 11.0)):
    made = Budget(seconds / 60, reserved=4, workers=2, factor=1.25)
    made.clock, made.taken = SimpleNamespace(elapsed=elapsed), list(taken)
    return made


def test_a_budget_leaves_time_for_the_confirmation():
    # 4 confirming cells by 2 workers: 2 x 10 s x 1.25 = 25 s, so trials have 75 s.
    assert budget(64.9).allows(2) and not budget(65.1).allows(2)
    assert budget(54.9).allows(3) and not budget(55.1).allows(3)
    assert budget(60.0).used() == pytest.approx(0.8)
    assert budget(74.9).allows_confirming(4) and not budget(75.1).allows_confirming(4)
    assert budget(1e9, math.inf).allows(99) and budget(1e9, math.inf).used() == 0
    assert budget(50.0, 60.0, taken=()).allows(1)  # nothing is known of how long a cell takes


def test_without_time_one_setting_is_still_confirmed(found, copied):
    (copied / "records").symlink_to(found[1] / "records")
    before = records(found[1])
    record, _ = run_search(copied, 99, 1e-9)
    assert (len(record.trials), records(found[1])) == (6, before)
    assert len(record.confirmed) >= 1


def searched(values):
    """A search whose trials have these values: (kind, rate) → value."""
    trials = tuple(
        TrialRecord(i, kind, rate, counted(kind, rate, (8, 8)), 10, (f"k{i}",), "ok", value)
        for i, ((kind, rate), value) in enumerate(values.items())
    )
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
