from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_studies import DATA, key, run, session, study

from passt_bench import load_frame
from passt_bench.analysis.frame import cells_frame
from passt_bench.errors import InputError
from passt_bench.records.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_load_frame_has_one_row_a_quality_record(store: Store) -> None:
    tiny = study()
    store.write(run(tiny, "none", 0, 0.9))
    store.write(run(tiny, "time", 1, 0.8))
    store.write(run(tiny, "time", 2, 0.8, status="oom"))
    store.write(session("s", "2026", {"none": 1.0}))
    frame = load_frame(str(store.root)).set_index("key")
    cells = (("none", 0), ("time", 1), ("time", 2))
    assert sorted(frame.index) == sorted(key(variant, seed, None) for variant, seed in cells)
    row = frame.loc[key("time", 1, None)]
    assert row["patchout.kind"] == "unstructured"
    assert row["patchout.rate"] == 0.01
    assert row["model.name"] == "passt_tiny"
    assert row["training.epochs"] == 10
    assert row["salt"] == 0
    assert row["mAP"] == 0.8
    assert row["probe/hide_time/mAP"] == 0.4
    assert row["train/step_seconds"] == 0.02
    assert row["clocks/train"] == 5.0
    assert row["resolved/rate"] == 0.25
    assert (row["tokens"], row["grid_frequency"], row["fingerprint"]) == (65, 8, "a1b2")
    assert frame.loc[key("time", 2, None), "status"] == "oom"
    assert np.isnan(frame.loc[key("time", 2, None), "mAP"])
    assert frame["fold"].isna().all()


def test_load_frame_of_an_empty_folder_is_empty(store: Store) -> None:
    frame = load_frame(store.root)
    assert len(frame) == 0
    assert {"key", "status", "seed", "fold"} <= set(frame.columns)
    with pytest.raises(InputError) as refused:
        load_frame(store.root / "nowhere")
    assert refused.value.source == store.root / "nowhere"


def test_load_frame_names_a_broken_record(store: Store) -> None:
    store.write(run(study(), "none", 0, 0.9))
    path = store.folder(key("none", 0, None)) / "record.json"
    path.write_text('{"kind": "quality", "schema": 99}')
    with pytest.raises(InputError, match="schema = 99"):
        load_frame(store.root)


def test_cells_have_a_row_each_whether_run_failed_or_missing(store: Store) -> None:
    tiny = study(seeds=(0, 1), folds=(1, 2))
    store.write(run(tiny, "none", 0, 0.9, fold=1))
    store.write(run(tiny, "none", 0, 0.1, fold=2, status="diverged"))
    frame = cells_frame(tiny, store)
    assert len(frame) == 3 * 2 * 2
    assert frame["fold"].dtype == pd.Int64Dtype()
    assert frame["status"].tolist()[:3] == ["ok", "diverged", "missing"]
    assert frame["message"].tolist()[:2] == ["", "killed"]
    assert frame["mAP"].notna().tolist() == [True] + [False] * 11
    # Tokens of failed and missing cells come from the expansion.
    assert frame["tokens"].tolist() == [66] * 4 + [65] * 4 + [64] * 4
    assert (frame["grid_time"] == 8).all()
    assert frame["parameters"].notna().sum() == 2


def test_cells_of_other_data_are_refused(store: Store) -> None:
    tiny = study()
    record = replace(run(tiny, "none", 0, 0.9), fingerprint=replace(DATA, digest="ffff"))
    store.write(record)
    with pytest.raises(InputError, match="fingerprint.digest = 'ffff'"):
        cells_frame(tiny, store)
