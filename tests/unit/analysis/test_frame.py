from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_studies import DATA, key, run, session, study

from passt_bench import load_frame
from passt_bench.analysis import frame as module
from passt_bench.analysis.frame import cells_of, find_runs
from passt_bench.errors import InputError
from passt_bench.records.run import CellRecord, TriedRecord
from passt_bench.records.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_load_frame_has_one_row_a_quality_record(store: Store) -> None:
    tiny = study()
    store.write(run(tiny, "none", 0, 0.9))
    store.write(run(tiny, "time", 1, 0.8))
    store.write(run(tiny, "time", 2, 0.8, status="oom"))
    store.write(session("s", "2026-01-01", {"none": 1.0}))
    frame = load_frame(str(store.root)).set_index("key")
    none, time, failed = (key(*cell, None) for cell in (("none", 0), ("time", 1), ("time", 2)))
    assert sorted(frame.index) == sorted((none, time, failed))
    known = {
        "patchout.kind": "unstructured", "patchout.rate": 0.01, "model.name": "passt_tiny",
        "training.epochs": 10, "salt": 0, "mAP": 0.8, "probe/hide_time/mAP": 0.4,
        "train/step_seconds": 0.02, "clocks/train": 5.0, "resolved/rate": 0.25, "tokens": 65,
        "grid_frequency": 8, "fingerprint": "a1b2",
    }  # fmt: skip
    assert frame.loc[time, list(known)].to_dict() == known
    assert frame.loc[failed, "status"] == "oom"
    assert np.isnan(frame.loc[failed, "mAP"])
    assert frame["fold"].isna().all()
    for name in ("cost/train_step", "cost/train_step_ratio", "spent/epochs", "cost/mfu"):
        assert frame[name].dtype == float and frame[name].isna().all()
    assert frame["study"].isna().all()  # no study is on record


def test_the_examples_of_load_frame(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, tiny = Store(store.root / "runs"), study(("none", "half"), (0, 1))
    runs.write_study(tiny)
    runs.write(session("s", "2026-01-01", {"none": 1.0, "half": 0.6}))
    for variant, seed in (("none", 0), ("none", 1), ("half", 1)):
        classes = {"mAP": {"band": 0.875, "clicks": 0.625}}
        curves = {"train_loss": (0.5, 0.25), "learning_rate": (1.0,)}
        record = run(tiny, variant, seed, 0.75)
        runs.write(replace(record, curves=curves, per_class=classes))
    monkeypatch.chdir(store.root)
    (examples,) = doctest.DocTestFinder().find(load_frame, "load_frame", module)
    assert doctest.DocTestRunner().run(examples) == (0, 6)


def test_rows_know_study_variant_and_costs(store: Store) -> None:
    tiny = study(seeds=(0,))
    alone = replace(run(tiny, "none", 0, 0.9), key="f" * 16, seed=7)
    store.write(alone)
    store.write(session("s", "2026-01-01", {"none": 1.0, "time": 0.5}))
    for variant in ("none", "time"):
        store.write(run(tiny, variant, 0, 0.9))
    shared = replace(tiny, name="other", variants=tiny.variants[:1])
    costs = [replace(v, cells=()) for v in tiny.variants]
    for each in (tiny, shared, replace(tiny, name="costs", variants=tuple(costs), seeds=())):
        store.write_study(each)
    frame = load_frame(store.root)
    rows = frame[["study", "variant", "kind"]].fillna("").agg(" ".join, axis=1)
    assert rows.tolist() == [
        "costs none cost", "costs time cost", "other none quality", "tiny none quality",
        "tiny time quality", "  quality",
    ]  # fmt: skip
    assert frame["seed"].tolist() == [pd.NA, pd.NA, 0, 0, 0, 7]
    of_time = frame[frame["variant"] == "time"]
    assert of_time["cost/train_step"].tolist() == [0.5, 0.5]
    assert of_time["cost/train_step_ratio_low"].tolist() == [0.475, 0.475]
    assert of_time["memory/saved_for_backward"].tolist() == [1e8, 1e8]
    assert of_time["tokens"].tolist() == [50, 65]  # of the session, and of the run
    assert np.isnan(frame["cost/train_step"].iloc[-1])
    assert load_frame(store.root, "epochs").empty
    with pytest.raises(InputError) as refused:
        load_frame(store.root, "seeds")  # type: ignore[arg-type]
    assert refused.value.value == "seeds"


def test_what_was_trained_is_told_from_what_was_tried_in_a_folder_of_reports(store: Store) -> None:
    tiny, report = study(seeds=(0,)), Store(store.root / "tiny")
    none = replace(tiny.variants[0], spent={"epochs": 64.0, "steps": 2944.0, "flops": 2e12})
    tried = TriedRecord(("none",), {}, (CellRecord("e" * 16, 1000, None),), 0.9)
    report.write_study(replace(tiny, variants=(none,), tried=(tried,)))
    report.write(run(tiny, "none", 0, 0.9))
    report.write(replace(run(tiny, "none", 0, 0.8), key="e" * 16, seed=1000))
    frame = load_frame(store.root).set_index("kind")
    assert frame.loc["quality", "study"] == frame.loc["trial", "study"] == "tiny"
    given = frame.loc["quality", ["spent/epochs", "spent/steps", "spent/flops", "training.epochs"]]
    assert given.tolist() == [64, 2944, 2e12, 10]
    assert frame.loc["trial", ["variant", "spent/epochs"]].isna().all()


def test_an_empty_folder_has_no_row_and_a_missing_one_is_refused(store: Store) -> None:
    assert load_frame(store.root).empty
    with pytest.raises(InputError) as refused:
        load_frame(store.root / "nowhere")
    assert refused.value.source == store.root / "nowhere"


def test_cells_have_a_row_each_whether_run_failed_or_missing(store: Store) -> None:
    tiny = study(seeds=(0, 1), folds=(1, 2))
    store.write(run(tiny, "none", 0, 0.9, fold=1))
    store.write(run(tiny, "none", 0, 0.1, fold=2, status="diverged"))
    frame = cells_of(tiny, find_runs(tiny, [store]))
    assert len(frame) == 3 * 2 * 2
    assert frame["fold"].dtype == pd.Int64Dtype()
    assert frame["status"].tolist()[:3] == ["ok", "diverged", "missing"]
    assert frame["message"].tolist()[:2] == ["", "killed"]
    assert frame["mAP"].notna().tolist() == [True] + [False] * 11
    # Tokens of failed and missing cells come from the expansion.
    assert frame["tokens"].tolist() == [66] * 4 + [65] * 4 + [64] * 4
    assert (frame["grid_time"] == 8).all()
    assert frame["parameters"].notna().sum() == 2
    other = replace(DATA, digest="ffff")
    store.write(replace(run(tiny, "none", 0, 0.9, fold=1), fingerprint=other))
    with pytest.raises(InputError) as refused:
        cells_of(tiny, find_runs(tiny, [store]))
    assert (refused.value.field, refused.value.value) == ("fingerprint.digest", "ffff")
