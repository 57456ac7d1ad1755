import json
import os
import re
import shutil
from dataclasses import replace

import optuna
import pytest
from filelock import FileLock
from layouts import write_manifest
from rich.console import Console
from small_search import BASE, STUDY, journal, run_search
from tracked_study import client_of

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.records.files import to_json
from passt_bench.records.store import Store, read_search, write_document
from passt_bench.report.build import build_study
from passt_bench.report.search import history_data, search_headline
from passt_bench.runner.cells import split_clips
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.maintenance import merge
from passt_bench.runner.plan import plan_study
from passt_bench.runner.planned_cell import plan_cell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.run_status import list_record
from passt_bench.runner.search import _Search, search
from passt_bench.runner.search_space import setting_name
from passt_bench.runner.tracked_run import tracked_trials
from passt_bench.runner.tracking import sync
from passt_bench.runner.trials import open_storage
from passt_bench.spec import ModelSpec, Patchout, Range, Search, Variant, override
from passt_bench.study_run import execute_plan, write_study
from passt_bench.training.batches import total_steps

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A finished search by one worker with its confirmation, and the folder it lies in."""
    root = tmp_path_factory.mktemp("search")
    record, best = run_search(root, workers=1)
    assert not execute_plan(best, RunConfig(workers=2, cost=False, track=False), Paths(root), QUIET)
    return record, root


def records(root):
    """The records of cells, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in root.glob("records/*/record.json")}


def test_trials_are_of_the_validation_split_and_other_seeds(found):
    record, root = found
    store = Store(root)
    assert len(record.trials) == 6
    assert record.trials[0].patchout == Patchout()
    assert record.seeds == (5,) and record.confirmation_seeds == (0,)
    assert store.study(record.name).looks == (5,)  # no verdict with fewer
    for trial in record.settings:
        (cell,) = (store.run(key) for key in trial.keys)
        assert cell.recipe.training.checkpoint_selection == "validation"
        assert (cell.seed, cell.tokens) == (5, trial.tokens)
        assert cell.metrics["mAP"] == trial.value
        assert trial.seconds == pytest.approx(sum(cell.clocks.values()), abs=1e-3)
    first = {}
    for trial in record.trials:
        known = first.setdefault(trial.patchout, trial)
        assert trial.value == known.value
        assert trial is known or trial.seconds == 0
        assert trial.repeats == (None if trial is known else known.number)


def test_the_best_is_confirmed_with_the_baseline_and_the_default_as_a_study(found):
    record, root = found
    results = load_results("search-tiny", [Store(root)])
    (best,) = record.confirmed
    assert best == setting_name(record.best[0].params) and record.default == "half"
    assert [variant.name for variant in results.study.variants] == ["none", best, "half"]
    assert len(results.records) == 3
    for cell in results.records.values():
        assert (cell.recipe.training.checkpoint_selection, cell.seed) == ("last", 0)
    assert [c.baseline for c in results.comparisons] == ["none"] * 2
    ((family, (contrast,)),) = results.declared.items()
    assert contrast.variant == f"{best} − half" and family == "the best and the default"


def test_every_trial_is_logged_to_mlflow_with_its_runs(found):
    record, root = found
    _, runs = tracked_trials(record, Store(root))
    cells = {run.key: run for run in runs if run.parent is not None}
    assert cells.keys() == {key for trial in record.settings for key in trial.keys}
    assert len(runs) == 2 * len(record.settings)
    assert {run.status for run in runs} == {"FINISHED"}
    for trial in record.settings:
        assert cells[trial.keys[0]].metrics["mAP"] == trial.value


def test_beside_its_page_it_is_listed_with_all_its_trials(found, tmp_path, cli):
    record, root = found
    folder = build_study(record.name, root, tmp_path).parent
    (study, search), number = list_record(Store(folder)), len(record.settings)
    assert not any(Store(folder).has(trial.keys[0]) for trial in record.settings)
    assert (search["kind"], search["done"], search["planned"]) == ("search", number, number)
    assert (study["kind"], study["done"], study["planned"]) == ("study", 3, 3)
    failed = [replace(trial, status="diverged", value=None) for trial in record.trials]
    write_document(replace(record, trials=tuple(failed)), folder)
    assert list_record(Store(folder))[1]["done"] == 0
    status, said = cli("status", record.name, "--runs", folder)
    assert status == 0 and "all done." in said  # and nothing of costs, which no search measures
    assert "not measured" not in said and "For the rest" not in said


def test_a_second_call_trains_nothing(found):
    record, root = found
    before = records(root)
    again, best = run_search(root, workers=1)
    assert again == record and [v.name for v in best.study.variants][1:] == [
        *record.confirmed, "half"
    ]  # fmt: skip
    assert records(root) == before
    assert read_search("search-tiny", root) == record
    text = (root / "search" / "search-tiny.json").read_text()
    host = re.compile(rf"\b{re.escape(os.uname().nodename)}\b")  # a short one is part of words
    assert str(root) not in text and not host.search(text)


def test_settings_on_record_are_not_trained_again_by_a_new_search(found, tmp_path):
    record, root = found
    (tmp_path / "records").symlink_to(root / "records")
    before = records(root)
    again, _ = run_search(tmp_path, workers=1)  # a fresh journal, and the same suggestions
    assert records(root) == before
    assert [t.value for t in again.trials] == [t.value for t in record.trials]


def test_another_recipe_is_another_search(found, tmp_path):
    path = tmp_path / "search" / "search-tiny.journal"
    path.parent.mkdir()
    shutil.copy(found[1] / "search" / path.name, path)
    other, _ = run_search(tmp_path, 1, study=replace(STUDY, base=replace(BASE, salt=1)))
    assert len(other.trials) == 1 and len(records(tmp_path)) == 1


def test_another_space_is_another_search_and_the_message_names_what_differs(found):
    space = Search(budget="epochs", rates=Range(0.1, 0.2))
    work = planned(replace(STUDY, search=space), found[1])
    assert work.name == f"{found[0].name}-2"
    assert work._difference(found[0].name) == "space.rate = 0.1 to 0.2"


def planned(study, root, **datasets):
    """A search whose cells can be planned."""
    paths = Paths(root, data=datasets)
    return _Search(plan_study(study, Datasets(paths)), RunConfig(workers=1), paths, QUIET)


def test_a_trial_gets_the_flops_of_the_baseline_also_with_another_stride(tmp_path):
    training = replace(BASE.training, epochs=150)
    space = Search(strides=((4, 4),), fields={"training.learning_rate": Range(1e-3, 1e-2)})
    study = replace(STUDY, base=replace(BASE, training=training), search=space)
    work = planned(study, tmp_path)
    others = {"stride": "(4, 4)", "training.learning_rate": 0.005}
    base, half, fine = (
        work._cells(given | {"training.learning_rate": 0.001} | more)[0]
        for given, more in (
            ({"kind": "none", "stride": "(8, 8)"}, {}),
            ({"kind": "time", "rate": 0.5, "stride": "(8, 8)"}, {}),
            ({"kind": "none"}, others),
        )
    )
    assert total_steps(base.recipe.training, 40) == 300
    spent = [total_steps(c.recipe.training, 40) * c.summary.flops for c in (base, half, fine)]
    assert spent == pytest.approx([spent[0]] * 3, rel=0.01)
    assert (fine.recipe.model.stride, fine.recipe.training.learning_rate) == ((4, 4), 0.005)
    least = 1  # the fewest epochs of two steps that pay for 100 steps of the dearest stride
    while round(2 * least * base.summary.flops / fine.summary.flops) < 100:
        least += 1
    dear = replace(STUDY, base=override(BASE, {"training.epochs": 52}), search=space)
    with pytest.raises(
        InputError, match=rf"^tiny: .*stride \(4, 4\).*Give .*={least}\.$"
    ) as refused:
        run_search(tmp_path / "dear", study=dear)
    assert refused.value.field == "training.epochs" and not records(tmp_path / "dear")
    short = replace(STUDY, search=Search())
    with pytest.raises(InputError) as refused:
        planned(short, tmp_path)
    assert refused.value.field == "search.budget"


def test_a_run_that_is_watched_by_epoch_comes_to_the_same_and_a_pruned_one_is_in_mlflow(tmp_path):
    rates = {"training.learning_rate": Range(1e-6, 1e-2, log=True)}
    study = replace(
        STUDY, base=override(BASE, {"training.epochs": 4}),
        search=Search(budget="epochs", pruning="hyperband", fields=rates),
    )  # fmt: skip
    record, _ = run_search(tmp_path, 8, study=study, workers=1)
    assert {trial.status for trial in record.trials} == {"ok", "pruned"}
    assert read_search(record.name, tmp_path) == record
    sync(tmp_path)
    client = client_of(tmp_path)
    experiment = client.get_experiment_by_name(f"{record.name}-trials").experiment_id
    logged = client.search_runs([experiment], "tags.role = 'summary'")
    by_number = {int(re.findall(r"\d+", run.info.run_name)[0]): run for run in logged}
    assert by_number.keys() == {trial.number for trial in record.settings}
    for trial in record.settings:
        run = by_number[trial.number]
        if trial.status == "pruned":
            assert (run.info.status, run.data.tags["verdict"]) == ("KILLED", "pruned")
            points = client.get_metric_history(run.info.run_id, "inner/mAP")
            assert tuple(point.value for point in points) == trial.curve
            # One that was pruned after its last epoch has a run, and its curve is there.
            assert 0 < len(points) < 4 or Store(tmp_path).run(trial.keys[0])
            rate = float(run.data.params["training.learning_rate"])
            assert rate == trial.params["training.learning_rate"]
            assert run.data.params["patchout.kind"] == trial.patchout.kind
        else:
            assert run.info.status == "FINISHED" and run.data.metrics["mAP"] == trial.value
    assert sync(tmp_path).runs.keys() == {"unchanged"}
    runs = [run for t in record.settings if (run := Store(tmp_path).run(t.keys[0]))]
    for run in runs:
        curve = run.curves["inner/mAP"]
        assert len(curve) == 4 and curve[-1] == run.metrics["mAP"]
    plain = replace(study, search=replace(study.search, pruning="off"))
    other, _ = run_search(tmp_path / "plain", 1, study=plain)
    assert other.trials[0].value == record.trials[0].value


def test_inner_folds_leave_the_tested_fold_alone(tmp_path):
    root = tmp_path / "data"
    write_manifest(root, folds=4)
    recipe = override(BASE, {"data.name": "manifest", "data.train_clips": None,
                             "data.test_clips": None})  # fmt: skip
    space = Search(budget="epochs", pruning="wilcoxon")
    work = planned(replace(STUDY, base=recipe, search=space), tmp_path, manifest=root)
    cells = work._cells({"kind": "none"})
    dataset = cells[0].data
    train, tested = dataset.split(1)
    assert [cell.recipe.training.validation_fold for cell in cells] == [2, 3, 4]
    for cell in cells:
        own, nothing, shown = split_clips(cell, dataset)
        assert nothing is None and not {*tested} & {*own, *shown}
        assert sorted((*own, *shown)) == sorted(train)
        assert list(shown) == list(dataset.split(cell.recipe.training.validation_fold)[1])
    for fold in (1, 9):
        wrong = override(recipe, {"training.validation_fold": fold})
        with pytest.raises(InputError) as refused:
            plan_cell("a", wrong, 0, 1, work._plan.datasets)
        assert refused.value.field == "training.validation_fold"


def test_several_objectives_have_a_front(tmp_path):
    study = replace(STUDY, search=Search(budget="epochs", objectives=("time", "memory")))
    record, _ = run_search(tmp_path, 5, study=study)
    assert record.trials[0].costs == {"time": 1.0, "memory": 1.0}
    assert journal(tmp_path).metric_names == ["mAP", "time", "memory"]
    dropped = [trial for trial in record.settings if trial.patchout != Patchout()]
    assert all(0 < cost < 1 for trial in dropped for cost in trial.costs.values())
    front = record.front
    assert front and max(front, key=lambda trial: trial.value).value == record.best[0].value
    for trial in record.settings:  # known by hand: each other one is dominated
        beaten = any(
            other.value >= trial.value
            and all(other.costs[name] <= cost for name, cost in trial.costs.items())
            and (other.value, other.costs) != (trial.value, trial.costs)
            for other in record.settings
        )
        assert beaten is (trial not in front)
    assert {*record.confirmed} <= {setting_name(trial.params) for trial in front}


def test_a_failure_is_a_trial_and_an_interruption_is_none(tmp_path):
    wild = replace(BASE, training=replace(BASE.training, learning_rate=1e30, warmup=0.0))
    study = replace(STUDY, base=wild)
    record, best = run_search(tmp_path, 2, study=study)
    assert [trial.status for trial in record.trials] == ["diverged"] * 2
    assert (best, record.best, record.confirmed) == (None, (), ())
    storage = open_storage(tmp_path, "search-tiny", None)
    (name,) = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
    optuna.load_study(study_name=name, storage=storage).ask()  # and then it is killed
    assert len(run_search(tmp_path, 2, study=study)[0].trials) == 2


def test_the_command_whose_trials_end_last_confirms_and_the_searches_merge(tmp_path):
    address = f"sqlite:///{tmp_path / 'trials.db'}"
    paths, said = Paths(tmp_path / "a", storage=address), Console(record=True, width=200)
    plan, config = plan_study(STUDY, Datasets(paths)), RunConfig(workers=1)
    assert len(search(plan, 2, config, paths, said)[0].trials) == 2
    storage = open_storage(tmp_path, "search-tiny", address)
    (name,) = optuna.get_all_study_names(storage)
    theirs = storage.create_new_trial(storage.get_study_id_from_name(name))
    storage.set_trial_user_attr(theirs, "owner", "another machine/0/")
    assert "Still running" not in said.export_text()
    _, best = search(plan, 3, config, paths, said)
    assert best is None and "Still running in other commands: 1 of 3 trials" in said.export_text()
    storage.set_trial_state_values(theirs, optuna.trial.TrialState.FAIL)  # it was stopped
    last, best = run_search(tmp_path / "b", 3, storage=address)
    assert best is not None and last.confirmed and len(last.trials) == 3
    write_study(best, Store(tmp_path / "b"))
    for folders in ("ab", "ba"):
        merge([tmp_path / folder for folder in folders], tmp_path / folders)
        assert read_search("search-tiny", tmp_path / folders) == last
        assert all(Store(tmp_path / folders).has(t.keys[0]) for t in last.trials)
    other = replace(STUDY, base=replace(BASE, salt=1))
    run_search(tmp_path / "c", 1, study=other)
    with pytest.raises(InputError, match="another of this name differs"):
        merge([tmp_path / "c"], tmp_path / "ab")


def test_only_the_baseline_confirms_nothing_and_the_study_keeps_what_was_confirmed(tmp_path):
    said, paths = Console(record=True, width=200), Paths(tmp_path)
    plan = plan_study(STUDY, Datasets(paths))
    record, best = search(plan, 1, RunConfig(workers=1), paths, said)
    assert best is None and "trials have not ended" not in said.export_text()
    assert "None that drops patches has succeeded yet" in search_headline(record)
    names = ["none"]
    for trials in (2, 3, 6):  # the best changes
        record, best = run_search(tmp_path, trials, workers=1)
        assert best.study.name == "search-tiny"
        assert {*names} <= {variant.name for variant in best.study.variants}
        names = [variant.name for variant in best.study.variants]
        write_study(best, Store(tmp_path))
    assert len(record.confirmed) > 1
    search(plan, 9, RunConfig(workers=1, search_minutes=1e-9), paths, said)
    assert "3 of 9 trials have not ended" in said.export_text()


def test_a_metric_of_which_less_is_better_is_searched_the_other_way(tmp_path, found):
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
    for address in ("nonsense", "postgresql://me:secret@host/base", "sqlite:///x?password=secret",
                    "postgresql://me@host/base?sslPassword=secret",
                    "postgresql://me:a@b:secret@host/base"):  # fmt: skip
        with pytest.raises(InputError, match=r"^--storage: ") as caught:
            run_search(tmp_path, storage=address)
        assert "secret" not in str(caught.value)
        assert ("PGPASSWORD" in str(caught.value)) is (address != "nonsense")
    with pytest.raises(InputError, match="Install the driver"):
        run_search(tmp_path, storage="oracle://server/base")  # whose driver no test installs
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


@pytest.mark.parametrize(
    ("space", "field"),
    [
        ({"kinds": ("none", "no kind")}, "patchout kind"),
        ({"kinds": ()}, "kinds"),
        ({"kinds": ("time",)}, "search.kinds"),
        ({"rates": Range(0.5, 1.0)}, "search.rates"),
        ({"fields": {"training.epochs": (1, 2)}}, "search.fields"),
        ({"fields": {"training.mixup": (0.1,)}}, "search.fields.training.mixup"),
        ({"fields": {"training.mixup": (0.1, -1)}}, "training.mixup"),
        ({"strides": ((0, 0),)}, "model.stride"),
        ({"budget": "seconds"}, "budget"),
        ({"objectives": ("speed",)}, "objectives.0"),
        ({"pruning": "median"}, "pruning"),
        ({"pruning": "hyperband", "objectives": ("time",)}, "search.pruning"),
        ({"pruning": "hyperband", "runs": 2}, "search.pruning"),
        ({"pruning": "wilcoxon"}, "search.pruning"),
        ({"runs": 0}, "runs"),
    ],
)
def test_spaces_that_are_refused(tmp_path, space, field):
    with pytest.raises(InputError) as refused:
        run_search(tmp_path, study=replace(STUDY, search=Search(**{"budget": "epochs"} | space)))
    assert refused.value.field == field
    for wrong in ({"high": 1}, {"high": 2, "step": 0.1, "log": True}, {"high": 2, "step": 0}):
        with pytest.raises(InputError):
            Range(1, **wrong)


def test_a_setting_that_is_on_record_is_not_pruned(tmp_path):
    study = replace(STUDY, search=Search(budget="epochs", pruning="wilcoxon", runs=3))
    record, _ = run_search(tmp_path, 1, study=study, workers=1)

    def prune(value, step):
        raise AssertionError

    work = planned(study, tmp_path)
    work._costs_of_baseline = work._costs(work._recipe)
    value, *_ = work._objective({"kind": "none"}, prune)
    assert value == record.trials[0].value
