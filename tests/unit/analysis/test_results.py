from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_studies import key, run, session, session_key, study

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.records.store import Store


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    return Store(tmp_path / "runs"), Store(tmp_path / "reports" / "tiny")


def fill(store: Store, value: float) -> None:
    tiny = study()
    for seed in (0, 1, 2):
        for shift, variant in enumerate(tiny.variants):
            store.write(run(tiny, variant.name, seed, value + 0.01 * seed - 0.1 * shift))


def test_everything_of_a_study_comes_together(stores: tuple[Store, Store]) -> None:
    first, _ = stores
    first.write_study(study())
    fill(first, 0.9)
    seconds = {"none": 1.0, "time": 0.5, "frequency": 0.4}
    first.write(session("s", "2026", seconds))
    results = load_results("tiny", [first])
    assert results.study == study()
    assert len(results.cells) == len(results.records) == 9
    assert [m.variant for m in results.means] == ["none", "time", "frequency"]
    assert [c.verdict for c in results.comparisons] == ["worse", "worse"]
    assert results.costs["ratio"].tolist() == [1.0, 0.5, 0.4]
    assert results.memory["status"].tolist() == ["ok"] * 3
    assert [s.key for s in results.sessions] == [session_key("s")]


def test_all_comes_from_the_first_store_that_has_it(stores: tuple[Store, Store]) -> None:
    first, second = stores
    first.write_study(study())
    second.write_study(replace(study(), question="Old?"))
    fill(second, 0.5)
    first.write(run(study(), "none", 0, 0.9))
    first.write(session("s", "2026-02", {"none": 1.0, "time": 0.5}))
    second.write(session("s", "2026-02", {"none": 1.0, "time": 0.9}))
    second.write(session("t", "2026-01", {"none": 1.0, "frequency": 0.7}))
    assert load_results("tiny", [second, first]).study.question == "Old?"
    results = load_results("tiny", [first, second])
    assert results.study == study()
    assert results.records[key("none", 0, None)].metrics["mAP"] == 0.9
    assert results.records[key("none", 1, None)].metrics["mAP"] == pytest.approx(0.51)
    assert results.costs.set_index("variant")["ratio"].to_dict() == {
        "none": 1.0, "time": 0.5, "frequency": 0.7,
    }  # fmt: skip
    assert [s.key for s in results.sessions] == [session_key("t"), session_key("s")]


def test_an_unknown_study_names_the_known(stores: tuple[Store, Store]) -> None:
    first, second = stores
    second.write_study(study())
    with pytest.raises(InputError, match=r"study = 'tinny'.*Did you mean 'tiny'"):
        load_results("tinny", [first, second])
