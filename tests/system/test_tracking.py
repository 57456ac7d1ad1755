"""What MLflow shows of a study whose results are known, and how a sync keeps it up to date."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tracked_study import (
    MAP,
    SESSION,
    cell_key,
    cell_record,
    client_of,
    curve_of,
    make_unfinished,
    runs_of,
    study_record,
    summary_of,
    write_all,
)

from passt_bench.records.run import CellRecord
from passt_bench.records.store import Store
from passt_bench.runner.run_status import lock
from passt_bench.runner.tracking import KEY, sync
from passt_bench.spec import Recipe


def test_a_summary_holds_the_four_numbers_and_the_verdict(template):
    half = summary_of(template, "half")
    metrics = half.data.metrics
    assert metrics["mAP"] == pytest.approx(sum(MAP["half"]) / 3)
    assert metrics["mAP_low"] < metrics["mAP"] < metrics["mAP_high"]
    assert metrics["mAP_difference"] == pytest.approx(sum(MAP["half"]) / 3 - sum(MAP["none"]) / 3)
    assert metrics["step_time_ms"] == pytest.approx(12.0)
    assert metrics["step_time_ms_low"] == pytest.approx(10.8)
    assert metrics["step_time_ratio"] == pytest.approx(0.6)
    assert metrics["peak_memory_mib"] == pytest.approx(3e8 / 2**20)
    assert metrics["memory/saved_for_backward_mib"] == pytest.approx(1e8 / 2**20)
    assert metrics["tokens"] == 65 and metrics["parameters"] == 76_000
    assert (half.info.status, half.data.tags["verdict"]) == ("FINISHED", "worse")
    params = {"patchout.kind": "unstructured", "patchout.rate": "0.01", "resolved.rate": "0.01"}
    assert params.items() <= half.data.params.items()
    none, huge = summary_of(template, "none"), summary_of(template, "huge")
    assert none.data.tags["verdict"] == "baseline"
    assert none.data.metrics["mAP"] == pytest.approx(sum(MAP["none"]) / 3)
    assert "mAP_difference" not in none.data.metrics
    assert (huge.info.status, huge.data.tags["verdict"]) == ("FAILED", "failed")
    assert "mAP" not in huge.data.metrics and "step_time_ms" not in huge.data.metrics
    assert huge.data.metrics["tokens"] == 64


def test_a_cell_holds_its_whole_record(template):
    run = runs_of(template)[cell_key("half", 1)]
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 5_000
    metrics = {
        "mAP": MAP["half"][1],
        "probe/hide_time/mAP": MAP["half"][1] / 2,
        "train/step_seconds": 0.02,
    }
    assert metrics.items() <= run.data.metrics.items()
    parent = summary_of(template, "half").info.run_id
    tags = {"seed": "1", "variant": "half", "status": "ok", "mlflow.parentRunId": parent}
    assert tags.items() <= run.data.tags.items() and "fold" not in run.data.tags
    assert curve_of(template, cell_key("half", 1)) == [(1, 0.5), (2, 0.25), (3, 0.125)]
    kept = Path(client_of(template).download_artifacts(run.info.run_id, "record.json"))
    record = Store(template).folder(cell_key("half", 1)) / "record.json"
    assert kept.read_bytes() == record.read_bytes()
    assert run.info.artifact_uri.startswith((template / "mlartifacts").as_uri())
    failed = runs_of(template)[cell_key("huge", 0)]
    assert failed.info.status == "FAILED"
    tags = {"status": "oom", "message": "killed"}
    assert tags.items() <= failed.data.tags.items()


def test_a_second_sync_changes_nothing(synced):
    before, seen = (synced / "mlflow.db").read_bytes(), []
    report = sync(synced, progress=lambda share, text: seen.append((share, text)))
    assert report.runs == {"unchanged": 12}
    assert (synced / "mlflow.db").read_bytes() == before
    assert seen == [(i / 12, f"{i} of 12 runs") for i in range(1, 13)]


@pytest.mark.parametrize("left", ["open", "of another record"])
def test_a_run_that_is_open_or_of_another_record_is_written_anew(synced, left):
    from mlflow.entities import Metric, Param

    client, key = client_of(synced), cell_key("none", 0)
    old = runs_of(synced)[key]
    if left == "of another record":
        client.set_tag(old.info.run_id, "passt_bench.digest", "0" * 16)
        run_id = old.info.run_id
    else:
        client.delete_run(old.info.run_id)
        run_id = client.create_run(old.info.experiment_id, tags={KEY: key}).info.run_id
        points = [Metric("train_loss", 9.0, 1, 1), Metric("mAP", 0.8, 1, 0)]
        client.log_batch(run_id, points, [Param("model.name", "passt_tiny")])
    outcome = "created" if left == "of another record" else "finished"
    assert sync(synced).runs == {outcome: 1, "unchanged": 11}
    run = runs_of(synced)[key]
    assert (run.info.run_id != run_id, run.info.status) == (True, "FINISHED")
    assert run.data.params == old.data.params and run.data.metrics == old.data.metrics
    assert curve_of(synced, key) == [(1, 0.5), (2, 0.25), (3, 0.125)]


def test_another_attempt_replaces_the_run(synced):
    store, key = Store(synced), cell_key("huge", 0)
    retried = replace(cell_record("none", 0), key=key, recipe=cell_record("huge", 0).recipe)
    store.write(replace(retried, attempt=2, metrics={"mAP": 0.7}))
    assert sync(synced).runs["created"] == 1
    run = runs_of(synced)[key]
    assert (run.info.status, run.data.tags["attempt"]) == ("FINISHED", "2")
    assert "message" not in run.data.tags
    assert summary_of(synced, "huge").data.metrics["mAP"] == 0.7


def test_a_cell_is_followed_from_its_first_epoch_to_its_record(synced):
    key = cell_key("none", 2)
    progress = make_unfinished(synced, key, (0.5, 0.25))
    with progress.open("a") as file:  # of a writer that was killed, and of the next one
        file.write('{"epoch": 3, "tr{"epoch": 3, "train_loss": 1, "seconds": 3}\n7\n')
        file.write('{"epoch": 2, "train_loss": 0.25, "seconds": 2}\n{"epoch": 3, "tr')
    with lock(synced, f"{key}.lock"):
        sync(synced)
        live = runs_of(synced)[key]
        assert (live.info.status, live.data.tags["status"]) == ("RUNNING", "running")
        assert curve_of(synced, key) == [(1, 0.5), (2, 0.25)]
        assert summary_of(synced, "none").info.status == "RUNNING"
        assert summary_of(synced, "none").data.tags["cells"] == "2 of 3"
        assert sync(synced).runs == {"unchanged": 12}
    sync(synced)  # whoever trained it was killed
    assert runs_of(synced)[key].info.status == "KILLED"
    assert summary_of(synced, "none").info.status == "KILLED"
    assert sync(synced).runs == {"unchanged": 12}
    make_unfinished(synced, key, (0.5, 0.25, 0.125))
    with lock(synced, f"{key}.work.lock"):
        assert sync(synced).runs == {"updated": 2, "unchanged": 10}
    resumed = runs_of(synced)[key]
    assert (resumed.info.run_id, resumed.info.status) == (live.info.run_id, "RUNNING")
    assert curve_of(synced, key) == [(1, 0.5), (2, 0.25), (3, 0.125)]
    progress.unlink()
    Store(synced).write(cell_record("none", 2))
    assert sync(synced).runs["finished"] == 1
    assert runs_of(synced)[key].info.status == "FINISHED"
    assert summary_of(synced, "none").info.status == "FINISHED"
    assert len(curve_of(synced, key)) == 3


def test_what_has_not_begun_is_not_running(synced):
    store = Store(synced)
    for seed in (0, 1, 2):
        shutil.rmtree(store.folder(cell_key("half", seed)))
    make_unfinished(synced, cell_key("none", 2), ())
    sync(synced)
    assert summary_of(synced, "half").info.status == "SCHEDULED"
    assert summary_of(synced, "none").info.status == "KILLED"
    assert sync(synced).runs["unchanged"] == 8  # the runs of the cells above have no records


def test_new_seeds_and_lost_sessions_update_the_same_summary(synced):
    store = write_all(synced, seeds=(0, 1), name="grows")
    sync(synced)
    before = summary_of(synced, "half", "grows")
    assert before.data.metrics["mAP"] == pytest.approx(0.605)
    write_all(synced, name="grows")
    shutil.rmtree(store.folder(SESSION))
    assert sync(synced, study="grows").runs == {"created": 3, "updated": 3, "unchanged": 6}
    after = summary_of(synced, "half", "grows")
    assert after.info.run_id == before.info.run_id
    assert after.data.metrics["mAP"] == pytest.approx(sum(MAP["half"]) / 3)
    assert after.data.metrics["blocks"] == 3 and after.data.tags["cells"] == "3 of 3"
    assert after.data.params == before.data.params
    assert math.isnan(after.data.metrics["step_time_ms"])
    assert sync(synced, study="grows").runs["unchanged"] == 12


def test_another_recipe_under_the_same_name_gets_a_summary_of_its_own(synced):
    study = study_record()
    longer = replace(Recipe(), training=replace(Recipe().training, epochs=99))
    changed = tuple(
        replace(v, recipe=longer, cells=(CellRecord("9" * 16, 0, None),)) if v.name == "none" else v
        for v in study.variants
    )
    Store(synced).write_study(replace(study, variants=changed))
    sync(synced)
    epochs = {
        run.data.params["training.epochs"]
        for run in runs_of(synced).values()
        if run.data.tags["role"] == "summary" and run.data.tags["variant"] == "none"
    }
    assert epochs == {"10", "99"}


def test_a_cell_of_two_studies_is_in_both_experiments(synced):
    Store(synced).write_study(study_record(name="other"))
    assert sync(synced, study="small").studies == 1
    assert client_of(synced).get_experiment_by_name("other") is None
    report = sync(synced)
    assert (report.studies, report.runs) == (2, {"created": 12, "unchanged": 12})
    assert runs_of(synced, "other").keys() >= {cell_key("none", 0)}


def test_what_was_deleted_or_doubled_in_mlflow_is_repaired(synced):
    client, key = client_of(synced), cell_key("none", 1)
    full = runs_of(synced)[key]
    experiment = full.info.experiment_id
    for _ in range(6):  # ids are random: some sort before, some after
        client.create_run(experiment, tags={KEY: key})
    client.create_run(experiment)  # somebody's own, without a key
    client.delete_experiment(experiment)
    assert sync(synced).runs["unchanged"] == 12
    runs = client.search_runs([experiment])
    assert [r.info.run_id for r in runs if r.data.tags.get(KEY) == key] == [full.info.run_id]
    assert sum(KEY not in run.data.tags for run in runs) == 1


def test_a_run_that_a_slow_server_made_twice_is_removed_by_the_same_sync(synced):
    client, key = client_of(synced), cell_key("none", 1)
    experiment = runs_of(synced)[key].info.experiment_id
    client.delete_run(runs_of(synced)[key].info.run_id)
    late = [{KEY: key}]

    def appear(share, text):
        if share == 1 and late:
            client.create_run(experiment, tags=late.pop())

    assert sync(synced, progress=appear).runs["created"] == 1
    assert runs_of(synced)[key].info.status == "FINISHED"
