"""Records: writing, reading, tables and pages of the committed quick study; average precision."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from passt_bench.analysis.results import load_results
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.report.build import build_study
from passt_bench.training.metrics import score

QUICK = Path(__file__).parents[2] / "reports" / "quick"


@pytest.fixture
def store() -> Store:
    return Store(QUICK)


def test_bench_read_records(benchmark: BenchmarkFixture, store: Store) -> None:
    """Every record of the quick study, from disk."""
    records = benchmark(lambda: list(store.records()))
    runs = [record for record in records if isinstance(record, RunRecord)]
    benchmark.extra_info |= {"records": len(records)}
    assert len(runs) == 36


def test_bench_write_record(benchmark: BenchmarkFixture, store: Store, tmp_path: Path) -> None:
    """One record, with fsync."""
    record = next(r for r in store.records() if isinstance(r, RunRecord))
    path = benchmark(Store(tmp_path).write, record)
    benchmark.extra_info |= {"bytes": path.stat().st_size}
    assert Store(tmp_path).run(record.key) == record


def test_bench_load_results(benchmark: BenchmarkFixture, store: Store) -> None:
    """Tables and comparisons of the quick study."""
    results = benchmark.pedantic(
        load_results, args=("quick", [store]), rounds=5, warmup_rounds=1, iterations=1
    )
    assert len(results.comparisons) == len(results.study.variants) - 1


def test_bench_report(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The whole page of the quick study: tables, figures, files."""
    shutil.copytree(QUICK / "records", tmp_path / "runs" / "records")
    shutil.copytree(QUICK / "studies", tmp_path / "runs" / "studies")

    def build() -> Path:
        return build_study("quick", tmp_path / "runs", tmp_path / "reports")

    page = benchmark.pedantic(build, rounds=2, warmup_rounds=0, iterations=1)
    assert page.is_file()


@pytest.mark.parametrize(("clips", "classes"), [(400, 16), (4000, 100)])
def test_bench_average_precision(benchmark: BenchmarkFixture, clips: int, classes: int) -> None:
    """Macro average precision of random scores."""
    random = np.random.default_rng(0)
    targets = (random.random((clips, classes)) < 0.1).astype(np.float32)
    scores = random.random((clips, classes)).astype(np.float32)
    value, per_class = benchmark.pedantic(
        score, args=("mAP", targets, scores), rounds=3, warmup_rounds=1, iterations=1
    )
    benchmark.extra_info |= {"clips": clips, "classes": classes}
    assert len(per_class) == classes
    assert abs(value - 0.1) < 0.05
