from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_studies import arm_key, session, session_key, study

from passt_bench.analysis.costs import (
    costs_of,
    memory_of,
    sessions_used,
)
from passt_bench.records.store import Store


def test_each_variant_keeps_the_ratio_of_its_own_session(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(session("old", "2026-01", {"none": 1.0, "time": 0.5}))
    store.write(session("new", "2026-02", {"none": 2.0, "frequency": 0.8}))
    costs = costs_of(study(), store.sessions()).set_index("variant")
    assert costs.loc["time", "session"] == session_key("old")
    assert costs.loc["time", "ratio"] == 0.5
    assert costs.loc["frequency", "session"] == session_key("new")
    assert costs.loc["frequency", "ratio"] == pytest.approx(0.4)
    assert costs.loc["frequency", "baseline_median"] == 2.0
    assert (costs["phase"] == "train_step").all()
    assert costs.loc["time", ["median", "low", "high", "n"]].tolist() == [0.5, 0.45, 0.55, 45]
    found = memory_of(study(), store.sessions())["session"].tolist()
    assert found == [session_key(name) for name in ("new", "old", "new")]


def test_the_newest_session_wins_then_the_greater_key() -> None:
    sessions = [
        session("b", "2026-02", {"none": 1.0, "time": 0.3}),
        session("c", "2026-01", {"none": 1.0, "time": 0.1}),
        session("a", "2026-02", {"none": 1.0, "time": 0.2}),
    ]
    costs = costs_of(study(), sessions).set_index("variant")
    assert costs.loc["time", "session"] == session_key("b")
    assert [s.key for s in sessions_used(study(), sessions)] == [session_key("b")]


def test_the_baseline_is_shown_where_most_variants_are() -> None:
    sessions = [
        session("all", "2026-01", {"none": 1.0, "time": 0.5, "frequency": 0.6}),
        session("one", "2026-02", {"none": 3.0, "late": 1.2}),
        session("alone", "2026-03", {"none": 9.0}),
    ]
    of = study(("none", "time", "frequency", "late"))
    costs = costs_of(of, sessions).set_index("variant")
    assert costs.loc["none", "session"] == session_key("all")
    assert costs.loc["none", "ratio"] == 1.0
    # A session that another study opened with the same baseline is not this one's.
    assert [s.key for s in sessions_used(of, sessions)] == [session_key("all"), session_key("one")]


def test_arms_that_share_a_key_share_the_measurement() -> None:
    aa = study(("none", "salt 1"))
    shared = replace(aa, variants=tuple(replace(v, arm=arm_key("none")) for v in aa.variants))
    costs = costs_of(shared, [session("s", "2026", {"none": 1.0})])
    assert costs["variant"].tolist() == ["none", "salt 1"]
    assert costs["ratio"].tolist() == [1.0, 1.0]


def test_a_session_of_another_baseline_does_not_count() -> None:
    other = session("s", "2026", {"time": 1.0, "frequency": 0.5}, baseline="time")
    assert len(costs_of(study(), [other])) == 0
    assert sessions_used(study(), [other]) == ()


def test_memory_has_a_row_for_failed_and_for_unmeasured_variants() -> None:
    seconds = {"none": 1.0, "time": 0.5}
    memory = memory_of(study(), [session("s", "2026", seconds, failed=["time"])])
    memory = memory.set_index("variant")
    assert memory["status"].tolist() == ["ok", "oom", "missing"]
    assert memory.loc["time", "message"] == "out of memory"
    assert memory["train_peak"].tolist()[0] == 3e8
    assert np.isnan(memory["train_peak"].tolist()[1:]).all()
    assert np.isnan(memory.loc["time", "flops"])
    assert np.isnan(memory.loc["time", "parameters"])
    assert (memory.loc["time", "tokens"], memory.loc["none", "tokens"]) == (65, 50)
    assert memory.loc["none", ["batch_size", "mfu", "attention"]].tolist() == [32, 0.2, "math"]


def test_without_any_session_the_columns_stand() -> None:
    assert {"ratio", "session", "median"} <= set(costs_of(study(), []).columns)
    memory = memory_of(study(), [])
    assert memory["status"].tolist() == ["missing"] * 3
    assert memory["flops"].isna().all()
