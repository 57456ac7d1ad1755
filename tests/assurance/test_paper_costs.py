"""The comparison of the paper's systems, small, on the CPU: what a GPU machine will run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from passt_bench.records.session import ComparisonRecord
from passt_bench.records.store import Store, read_comparison
from passt_bench.runner.compare import PAPER

SMALL = ("model.depth=1", "model.width=48", "model.heads=3")


SIZES = "--device cpu --batch 1 --session-limit 1 --published-batch 1 --published-steps 2"


@pytest.fixture
def run(
    cli: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    shrink = [word for item in SMALL for word in ("--set", item)]

    def run(words: str) -> str:
        status, out = cli("paper-costs", *words.split(), *SIZES.split(), *shrink)
        assert status == 0, out
        return out

    return run


def _check(folder: Path, name: str) -> ComparisonRecord:
    record = read_comparison(name, folder / "runs")
    assert (folder / "runs" / "reports" / name / "comparison.html").is_file()
    sessions = [s for s in Store(folder / "runs").sessions() if s.key in record.sessions]
    arms = [arm for session in sessions for arm in session.arms]
    assert {arm.status for arm in arms} == {"ok"}
    for arm in arms:
        assert (arm.compile_seconds is not None) == arm.recipe.engine.compile
        assert arm.published is not None
    return record


def test_the_systems_of_the_paper_side_by_side(run: Callable[[str], str], tmp_path: Path) -> None:
    out = run("--precision float32,bfloat16 --engine eager")
    assert "saved for backward, a small network" in out
    for precision in ("float32", "bfloat16"):
        record = _check(tmp_path, f"paper-costs-cpu-{precision}-eager")
        assert tuple(v.name for v in record.variants)[: len(PAPER)] == PAPER
        # The golden counts of the paper's Table 1.
        assert [v.tokens for v in record.variants[:5]] == [1190, 790, 474, 474, 254]


def test_compiled_models_are_measured_like_others(
    run: Callable[[str], str], tmp_path: Path
) -> None:
    run("passt_s passt_s_n --precision float32 --engine compiled")
    record = _check(tmp_path, "paper-costs-cpu-float32-compiled")
    assert [v.recipe.engine.compile for v in record.variants] == [True, True]
