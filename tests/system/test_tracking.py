"""What MLflow shows of a study whose results are known, and how a sync keeps it up to date."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
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

from passt_bench.errors import InputError
from passt_bench.records.run import CellRecord
from passt_bench.records.store import Store
from passt_bench.registry import TRACKERS
from passt_bench.runner.run_status import lock
from passt_bench.runner.tracked_run import VIEW, store_uri
from passt_bench.runner.tracking import KEY, pages, sync
from passt_bench.spec import Recipe

CURVE = [(1, 0.5), (2, 0.25), (3, 0.125)]


def test_a_summary_holds_the_four_numbers_and_the_verdict(template):
    none, half, huge = (summary_of(template, name) for name in MAP)
    mean = {name: sum(values) / 3 for name, values in MAP.items()}
    metrics = half.data.metrics
    expected = {
        "mAP": mean["half"],
        "mAP_difference": mean["half"] - mean["none"],
        "step_time_ms": 12.0,
        "step_time_ms_low": 10.8,
        "step_time_ratio": 0.6,
        "memory_mib": 1e8 / 2**20,  # saved for backward, on a CPU
        "peak_memory_mib": 3e8 / 2**20,
        "memory/saved_for_backward_mib": 1e8 / 2**20,
        "tokens": 65,
        "parameters": 76_000,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert metrics["mAP_low"] < metrics["mAP"] < metrics["mAP_high"]
    params = {
        "variant": "half",
        "patchout.kind": "unstructured",
        "patchout.rate": "0.01",
        "resolved.rate": "0.01",
    }
    assert params.items() <= half.data.params.items()
    assert not {"", "null", "[]"} & set(half.data.params.values())
    (data,) = half.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("synthetic", "a1b2")
    states = [(run.info.status, run.data.tags["verdict"]) for run in (none, half, huge)]
    assert states == [("FINISHED", "baseline"), ("FINISHED", "worse"), ("FAILED", "failed")]
    assert none.data.metrics["mAP"] == pytest.approx(mean["none"])
    assert "mAP_difference" not in none.data.metrics
    assert not {"mAP", "step_time_ms"} & huge.data.metrics.keys()
    assert huge.data.metrics["tokens"] == 64


def test_a_cell_holds_its_whole_record(template):
    key = cell_key("half", 1)
    run, failed = runs_of(template)[key], runs_of(template)[cell_key("huge", 0)]
    assert (run.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert run.info.end_time - run.info.start_time == 5_000
    value = MAP["half"][1]
    metrics = {"mAP": value, "probe/hide_time/mAP": value / 2, "train/step_seconds": 0.02}
    assert metrics.items() <= run.data.metrics.items()
    parent = summary_of(template, "half").info.run_id
    tags = {"seed": "1", "variant": "half", "status": "ok", "mlflow.parentRunId": parent}
    assert tags.items() <= run.data.tags.items() and "fold" not in run.data.tags
    assert {"variant": "half", "seed": "1"}.items() <= run.data.params.items()
    assert curve_of(template, key) == CURVE
    kept = Path(client_of(template).download_artifacts(run.info.run_id, "record.json"))
    assert kept.read_bytes() == (Store(template).folder(key) / "record.json").read_bytes()
    assert run.info.artifact_uri.startswith((template / "mlartifacts").as_uri())
    tags = {"status": "oom", "message": "killed"}
    assert tags.items() <= failed.data.tags.items()


def test_the_page_opens_with_the_columns_and_charts_of_the_results(template):
    found = client_of(template).get_experiment_by_name("small")
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"
    state = json.loads(json.loads(found.tags[VIEW])["state"])
    assert {"metrics.`mAP`", "metrics.`memory_mib`", "tags.`verdict`"} <= {
        *state["selectedColumns"]
    }
    assert state["compareRunCharts"][0]["metricKey"] == "mAP"
    shown = {name.strip("`") for name in (c.partition(".")[2] for c in state["selectedColumns"])}
    known = summary_of(template, "half").data
    assert shown <= {*known.metrics, *known.tags}
    place = pages(template, store_uri(template))["small"]
    assert place.startswith(
        f"/#/experiments/{found.experiment_id}/runs?viewStateShareKey=passt-bench&"
    )


def test_other_trackers_get_each_study_and_their_failure_is_told(tmp_path, monkeypatch):
    write_all(tmp_path)
    seen = []

    @TRACKERS.register("seen", version=1, summary="what it was given")
    def see(root, study, runs):
        seen.append((root, study.name, len(runs)))
        if len(seen) > 1:
            raise ValueError("no more")

    monkeypatch.setenv("PASST_BENCH_TRACKERS", "csv, seen")
    assert sync(tmp_path).uri == "csv, seen"
    table = pd.read_csv(tmp_path / "csv" / "small.csv").set_index("key")
    assert len(table) == 12 and not (tmp_path / "mlflow.db").exists()
    assert table.loc[cell_key("half", 1), "mAP"] == MAP["half"][1]
    assert (table["verdict"] == "worse").sum() == 1
    with pytest.raises(InputError, match="no more") as refused:
        sync(tmp_path)
    assert refused.value.source == "tracker seen"
    assert seen == [(tmp_path, "small", 12)] * 2


def test_a_second_sync_changes_nothing(synced):
    before, seen = (synced / "mlflow.db").read_bytes(), []
    report = sync(synced, progress=lambda share, text: seen.append((share, text)))
    assert report.runs == {"unchanged": 12}
    assert (synced / "mlflow.db").read_bytes() == before
    assert seen == [(i / 12, f"{i} of 12 runs") for i in range(1, 13)]


def test_runs_that_are_open_of_another_record_or_attempt_are_written_anew(synced):
    from mlflow.entities import Metric, Param

    client, keys = client_of(synced), [cell_key("none", 0), cell_key("none", 1)]
    old = [runs_of(synced)[key] for key in keys]
    client.set_tag(old[0].info.run_id, "passt_bench.digest", "0" * 16)
    client.delete_run(old[1].info.run_id)
    begun = client.create_run(old[1].info.experiment_id, tags={KEY: keys[1]}).info.run_id
    points = [Metric("train_loss", 9.0, 1, 1), Metric("mAP", 0.8, 1, 0)]
    client.log_batch(begun, points, [Param("model.name", "passt_tiny")])
    failed = cell_record("huge", 0)
    retried = replace(cell_record("none", 0), key=failed.key, recipe=failed.recipe)
    Store(synced).write(replace(retried, attempt=2, metrics={"mAP": 0.7}))
    done = sync(synced).runs
    assert (done["created"], done["finished"]) == (2, 1)
    runs = runs_of(synced)
    for key, before in zip(keys, old, strict=True):
        run = runs[key]
        assert run.info.run_id not in (before.info.run_id, begun)
        assert run.info.status == "FINISHED"
        assert run.data.params == before.data.params and run.data.metrics == before.data.metrics
        assert curve_of(synced, key) == CURVE
    run = runs[failed.key]
    assert (run.info.status, run.data.tags["attempt"]) == ("FINISHED", "2")
    assert "message" not in run.data.tags
    assert summary_of(synced, "huge").data.metrics["mAP"] == 0.7


def test_a_cell_is_followed_from_its_first_epoch_to_its_record(synced):
    store, key = Store(synced), cell_key("none", 2)
    for seed in (0, 1, 2):  # these have not begun
        shutil.rmtree(store.folder(cell_key("half", seed)))

    def states():
        runs = (runs_of(synced)[key], summary_of(synced, "none"), summary_of(synced, "half"))
        return [run.info.status for run in runs]

    progress = make_unfinished(synced, key, (0.5, 0.25))
    with progress.open("a") as file:  # of a writer that was killed, and of the next one
        file.write('{"epoch": 3, "tr{"epoch": 3, "train_loss": 1, "seconds": 3}\n7\n')
        again = '{"epoch": 2, "train_loss": 0.25, "seconds": 2, "inner/mAP": 0.7}'
        file.write(again + '\n{"epoch": 3, "tr')
    with lock(synced, f"{key}.lock"):
        sync(synced)
        live = runs_of(synced)[key]
        assert states() == ["RUNNING", "RUNNING", "SCHEDULED"]
        assert live.data.tags["status"] == "running"
        assert curve_of(synced, key) == CURVE[:2]
        assert live.data.metrics["inner/mAP"] == 0.7
        assert summary_of(synced, "none").data.tags["cells"] == "2 of 3"
        assert sync(synced).runs.keys() == {"unchanged"}
    sync(synced)  # whoever trained it was killed
    assert states() == ["KILLED", "KILLED", "SCHEDULED"]
    assert sync(synced).runs.keys() == {"unchanged"}
    make_unfinished(synced, key, (0.5, 0.25, 0.125))
    with lock(synced, f"{key}.work.lock"):
        assert sync(synced).runs["updated"] == 2
    assert runs_of(synced)[key].info.run_id == live.info.run_id
    assert states()[0] == "RUNNING"
    assert curve_of(synced, key) == CURVE
    progress.unlink()
    store.write(cell_record("none", 2))
    assert sync(synced).runs["finished"] == 1
    assert states()[:2] == ["FINISHED", "FINISHED"]
    assert curve_of(synced, key) == CURVE


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


def test_another_recipe_and_another_study_get_runs_of_their_own(synced):
    Store(synced).write_study(study_record(name="other"))
    assert sync(synced, study="small").studies == 1
    assert client_of(synced).get_experiment_by_name("other") is None
    report = sync(synced)
    assert (report.studies, report.runs) == (2, {"created": 12, "unchanged": 12})
    assert cell_key("none", 0) in runs_of(synced, "other")
    study = study_record()
    none, *others = study.variants
    longer = replace(Recipe(), training=replace(Recipe().training, epochs=99))
    changed = replace(none, recipe=longer, cells=(CellRecord("9" * 16, 0, None),))
    Store(synced).write_study(replace(study, variants=(changed, *others)))
    sync(synced, study="small")
    found = [run.data for run in runs_of(synced).values() if run.data.tags["role"] == "summary"]
    epochs = {x.params["training.epochs"] for x in found if x.tags["variant"] == "none"}
    assert epochs == {"10", "99"}


def test_what_was_deleted_or_doubled_in_mlflow_is_repaired(synced):
    client, key, other = client_of(synced), cell_key("none", 1), cell_key("none", 0)
    full = runs_of(synced)[key]
    experiment = full.info.experiment_id
    for _ in range(6):  # ids are random: some sort before, some after
        client.create_run(experiment, tags={KEY: key})
    client.create_run(experiment)  # somebody's own, without a key
    client.delete_experiment(experiment)
    assert sync(synced).runs == {"unchanged": 12}
    assert [run.info.run_id for run in runs_of_key(client, experiment, key)] == [full.info.run_id]
    assert len(runs_of_key(client, experiment, None)) == 1
    client.delete_run(runs_of_key(client, experiment, other)[0].info.run_id)
    late = [{KEY: other}]

    def appear(share, text):
        if share == 1 and late:  # a run that a slow server made twice
            client.create_run(experiment, tags=late.pop())

    assert sync(synced, progress=appear).runs == {"created": 1, "unchanged": 11}
    (run,) = runs_of_key(client, experiment, other)
    assert run.info.status == "FINISHED"
    client.set_tag(run.info.run_id, "passt_bench.digest", "0" * 16)
    assert sync(synced).runs == {"created": 1, "unchanged": 11}
    client.delete_experiment(experiment)  # restoring it also restores what was deleted before
    sync(synced)
    (again,) = runs_of_key(client, experiment, other)
    assert again.data.metrics == run.data.metrics
    assert len(client.search_runs([experiment])) == 13
    assert sync(synced).runs == {"unchanged": 12}


def runs_of_key(client, experiment, key):
    return [run for run in client.search_runs([experiment]) if run.data.tags.get(KEY) == key]
