from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from passt_bench.records.files import read
from passt_bench.records.run import Outcome, RunRecord
from passt_bench.records.store import Store

KEPT = Path(__file__).parents[2] / "reports" / "quick"


@pytest.fixture(scope="module")
def paths() -> list[Path]:
    """The records of the quick study's cells, as they are kept with its report."""
    store = Store(KEPT)
    keys = [key for key in store.record_keys() if store.kind(key) is RunRecord]
    return [store.folder(key) / "record.json" for key in keys]


def test_bench_read_records(benchmark: BenchmarkFixture, paths: list[Path]) -> None:
    """Whole records, as a report reads them."""
    found = benchmark(lambda: [read(RunRecord, path) for path in paths])
    benchmark.extra_info |= {"records": len(found), "bytes": sum(p.stat().st_size for p in paths)}


def test_bench_read_outcomes(benchmark: BenchmarkFixture, paths: list[Path]) -> None:
    """Only how runs ended, as a plan and a status read them."""
    found = benchmark(lambda: [read(Outcome, path) for path in paths])
    benchmark.extra_info["records"] = len(found)


def test_bench_sessions(benchmark: BenchmarkFixture) -> None:
    """The cost sessions among all records."""
    found = benchmark(Store(KEPT).sessions)
    assert found
