import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tracked_study import (
    MAP,
    cell_key,
    cell_record,
    client_of,
    runs_of,
    study_record,
    write_all,
)

from passt_bench.errors import InputError
from passt_bench.records.run import CellRecord
from passt_bench.records.store import Store
from passt_bench.runner.tracking import KEY, sync
from passt_bench.runner.tracking_uri import TrackingError, serve_ui
from passt_bench.spec import Recipe


def summary_of(root, variant):
    tags = {"role": "summary", "variant": variant}
    (run,) = [r for r in runs_of(root).values() if tags.items() <= r.data.tags.items()]
    return run


def test_the_four_numbers_and_the_verdict_of_a_variant_come_back(template):
    half = summary_of(template, "half")
    metrics, tags = half.data.metrics, half.data.tags
    assert metrics["mAP"] == pytest.approx(sum(MAP["half"]) / 3)
    assert metrics["mAP_low"] < metrics["mAP"] < metrics["mAP_high"]
    assert metrics["mAP_difference"] == pytest.approx(sum(MAP["half"]) / 3 - sum(MAP["none"]) / 3)
    assert metrics["step_time_ms"] == pytest.approx(12.0)
    assert metrics["step_time_ms_low"] == pytest.approx(10.8)
    assert metrics["step_time_ratio"] == pytest.approx(0.6)
    assert metrics["peak_memory_mib"] == pytest.approx(300.0)
    assert metrics["memory/saved_for_backward_mib"] == pytest.approx(1.0)
    assert metrics["tokens"] == 42 and metrics["parameters"] == 76_000
    assert tags["verdict"] == "worse"
    assert half.info.status == "FINISHED"
    assert half.data.params["patchout.kind"] == "unstructured"
    assert half.data.params["patchout.rate"] == "0.5"
    assert half.data.params["resolved.patches"] == "40"


def test_baseline_and_failed_variants_have_their_summaries(template):
    none, huge = summary_of(template, "none"), summary_of(template, "huge")
    assert none.data.tags["verdict"] == "baseline"
    assert none.data.metrics["mAP"] == pytest.approx(sum(MAP["none"]) / 3)
    assert "mAP_difference" not in none.data.metrics
    assert (huge.info.status, huge.data.tags["verdict"]) == ("FAILED", "failed")
    assert "mAP" not in huge.data.metrics and "step_time_ms" not in huge.data.metrics
    assert huge.data.metrics["tokens"] == 62


def test_a_cell_comes_back_whole(template):
    run = runs_of(template)[cell_key("half", 1)]
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 20_000
    assert run.data.metrics["mAP"] == MAP["half"][1]
    assert run.data.metrics["probe/hide_frequency/mAP"] == 0.3
    assert run.data.metrics["train/step_seconds"] == 0.02
    assert run.data.tags["seed"] == "1" and run.data.tags["variant"] == "half"
    assert run.data.tags["status"] == "ok" and "fold" not in run.data.tags
    assert run.data.tags["mlflow.parentRunId"] == summary_of(template, "half").info.run_id
    client = client_of(template)
    points = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(p.step, p.value) for p in points] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    kept = Path(client.download_artifacts(run.info.run_id, "record.json"))
    record = Store(template).folder(cell_key("half", 1)) / "record.json"
    assert kept.read_bytes() == record.read_bytes()
    assert run.info.artifact_uri.startswith((template / "mlartifacts").as_uri())


def test_a_failed_cell_is_a_failed_run_with_its_reason(template):
    run = runs_of(template)[cell_key("huge", 0)]
    assert run.info.status == "FAILED"
    assert run.data.tags["status"] == "oom"
    assert run.data.tags["message"] == "killed at 3 GiB"


def test_a_second_sync_changes_nothing(synced):
    before = (synced / "mlflow.db").read_bytes()
    report = sync(synced)
    assert (report.unchanged, report.created, report.updated, report.finished) == (12, 0, 0, 0)
    assert (synced / "mlflow.db").read_bytes() == before


def test_a_half_written_run_is_finished_without_doubling_a_point(synced):
    from mlflow.entities import Metric, Param

    client, key = client_of(synced), cell_key("none", 0)
    old = runs_of(synced)[key]
    client.delete_run(old.info.run_id)
    half = client.create_run(old.info.experiment_id, tags={KEY: key}).info.run_id
    param = Param("model.name", "passt_tiny")
    client.log_batch(half, [Metric("train_loss", 0.5, 1, 1), Metric("mAP", 0.8, 1, 0)], [param])
    report = sync(synced)
    assert (report.finished, report.unchanged) == (1, 11)
    run = runs_of(synced)[key]
    assert (run.info.run_id, run.info.status) == (half, "FINISHED")
    assert run.data.params == old.data.params and run.data.metrics == old.data.metrics
    assert [p.step for p in client.get_metric_history(half, "train_loss")] == [1, 2, 3]


def test_a_cell_in_training_shows_its_curve_and_becomes_the_record(synced):
    store, key = Store(synced), cell_key("none", 2)
    client = client_of(synced)
    client.delete_run(runs_of(synced)[key].info.run_id)
    (store.folder(key) / "record.json").unlink()
    progress = store.folder(key) / "progress.jsonl"
    lines = [{"epoch": i, "train_loss": loss, "seconds": i} for i, loss in ((1, 0.5), (2, 0.25))]
    progress.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 3, "tr')
    sync(synced)
    live = runs_of(synced)[key]
    assert (live.info.status, live.data.metrics) == ("RUNNING", {"train_loss": 0.25})
    assert summary_of(synced, "none").info.status == "RUNNING"
    assert summary_of(synced, "none").data.tags["cells"] == "2 of 3"
    assert sync(synced).unchanged == 12
    progress.unlink()
    store.write(cell_record("none", 2))
    sync(synced)
    run = runs_of(synced)[key]
    assert (run.info.run_id, run.info.status) == (live.info.run_id, "FINISHED")
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 3
    assert summary_of(synced, "none").info.status == "FINISHED"


def test_what_another_attempt_left_is_replaced(synced):
    store, key = Store(synced), cell_key("huge", 0)
    metrics = {"mAP": 0.7}
    retried = replace(cell_record("huge", 0), status="ok", attempt=2, message=None, metrics=metrics)
    store.write(retried)
    report = sync(synced)
    run = runs_of(synced)[key]
    assert (run.info.status, run.data.tags["attempt"]) == ("FINISHED", "2")
    assert "message" not in run.data.tags
    assert report.created == 1 and summary_of(synced, "huge").data.metrics["mAP"] == 0.7


def test_curves_that_contradict_the_record_are_replaced(synced):
    from mlflow.entities import Metric

    client, key = client_of(synced), cell_key("none", 0)
    old = runs_of(synced)[key]
    client.delete_run(old.info.run_id)
    other = client.create_run(old.info.experiment_id, tags={KEY: key}).info.run_id
    client.log_batch(other, [Metric("train_loss", 9.0, 1, 1)])
    sync(synced)
    run = runs_of(synced)[key]
    assert run.info.run_id != other
    points = client.get_metric_history(run.info.run_id, "train_loss")
    assert [p.value for p in points] == [0.5, 0.25, 0.125]


def test_new_seeds_and_lost_sessions_update_the_same_summary(tmp_path):
    store = write_all(tmp_path, seeds=(0, 1))
    sync(tmp_path)
    before = summary_of(tmp_path, "half")
    assert before.data.metrics["mAP"] == pytest.approx(0.605)
    write_all(tmp_path)
    shutil.rmtree(store.folder("5" * 16))
    report = sync(tmp_path)
    after = summary_of(tmp_path, "half")
    assert (report.created, report.updated) == (3, 3)
    assert after.info.run_id == before.info.run_id
    assert after.data.metrics["mAP"] == pytest.approx(sum(MAP["half"]) / 3)
    assert after.data.metrics["blocks"] == 3 and after.data.tags["cells"] == "3 of 3"
    assert after.data.params == before.data.params
    assert math.isnan(after.data.metrics["step_time_ms"])
    assert sync(tmp_path).unchanged == 12


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


def test_a_cell_of_two_studies_stands_in_both_experiments(synced):
    Store(synced).write_study(study_record(name="other"))
    report = sync(synced)
    assert (report.studies, report.created, report.unchanged) == (2, 12, 12)
    assert runs_of(synced).keys() >= {cell_key("none", 0)}
    assert runs_of(synced, "other").keys() >= {cell_key("none", 0)}


def test_what_was_deleted_or_doubled_in_mlflow_is_set_right(synced):
    client, key = client_of(synced), cell_key("none", 1)
    experiment = client.get_experiment_by_name("small").experiment_id
    client.create_run(experiment, tags={KEY: key})
    client.create_run(experiment)  # somebody's own, without a key
    client.delete_experiment(experiment)
    sync(synced)
    runs = client.search_runs([experiment])
    assert sum(run.data.tags.get(KEY) == key for run in runs) == 1
    assert sum(KEY not in run.data.tags for run in runs) == 1


def test_progress_counts_runs(synced):
    seen = []
    sync(synced, progress=lambda share, text: seen.append((share, text)))
    assert seen == [(i / 12, f"{i} of 12 runs") for i in range(1, 13)]


def test_an_empty_folder_makes_no_store(tmp_path):
    assert sync(tmp_path).studies == 0
    assert list(tmp_path.iterdir()) == []


def test_two_syncs_at_once_on_a_fresh_folder_write_each_run_once(tmp_path):
    write_all(tmp_path)
    code = (
        "import sys; from pathlib import Path; from passt_bench.runner.tracking import sync; "
        "print(sync(Path(sys.argv[1])).created)"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120) for process in both]
    assert sorted(out.strip() for out, _ in told) == ["0", "12"]
    assert [noise for _, noise in told] == ["", ""]
    assert len(runs_of(tmp_path)) == 12


def test_a_broken_record_is_named(synced):
    (Store(synced).folder(cell_key("none", 0)) / "record.json").write_text("{")
    with pytest.raises(InputError, match=cell_key("none", 0)):
        sync(synced)


def test_the_page_needs_something_to_show(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no MLflow store"):
        serve_ui(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    with pytest.raises(TrackingError, match="Open http://somewhere:5000"):
        serve_ui(tmp_path)


def test_one_study_alone_can_be_told(synced):
    Store(synced).write_study(study_record(name="other"))
    assert sync(synced, studies=["small"]).studies == 1
    assert client_of(synced).get_experiment_by_name("other") is None
    assert sync(synced, studies=["neither"]).studies == 0


def test_lines_that_a_killed_writer_left_are_skipped(synced):
    key = cell_key("none", 2)
    (Store(synced).folder(key) / "record.json").unlink()
    client_of(synced).delete_run(runs_of(synced)[key].info.run_id)
    lines = [json.dumps({"epoch": i, "train_loss": 1 / i, "seconds": i}) for i in (1, 2, 3, 5)]
    lines[2] = '{"epoch": 3, "tr' + lines[2]
    lines += [lines[1], "7"]  # a resumed run repeats an epoch
    (Store(synced).folder(key) / "progress.jsonl").write_text("\n".join(lines) + "\n")
    sync(synced)
    points = client_of(synced).get_metric_history(runs_of(synced)[key].info.run_id, "train_loss")
    assert [(p.step, p.value) for p in points] == [(1, 1.0), (2, 0.5)]


def test_of_doubles_the_one_that_tells_more_stays(synced):
    client, key = client_of(synced), cell_key("none", 1)
    full = runs_of(synced)[key]
    for _ in range(6):  # ids are random: some sort before, some after
        client.create_run(full.info.experiment_id, tags={KEY: key})
    assert sync(synced).unchanged == 12
    assert runs_of(synced)[key].info.run_id == full.info.run_id


def test_a_run_that_a_slow_server_made_twice_is_removed_by_the_same_sync(synced):
    client, key = client_of(synced), cell_key("none", 1)
    experiment = runs_of(synced)[key].info.experiment_id
    client.delete_run(runs_of(synced)[key].info.run_id)
    late = [{KEY: key}]

    def appear(share, text):
        if share == 1 and late:
            client.create_run(experiment, tags=late.pop())

    assert sync(synced, progress=appear).created == 1
    assert runs_of(synced)[key].info.status == "FINISHED"
