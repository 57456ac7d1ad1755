"""The comparison of the paper's systems, small, on the CPU: what a GPU machine will run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from passt_bench.records.session import ComparisonRecord
from passt_bench.records.store import Store, read_comparison
from passt_bench.runner.compare import PAPER

SMALL = ("model.depth=1", "model.width=48", "model.heads=3")


def _run(folder: Path, words: str) -> str:
    shrink = [word for item in SMALL for word in ("--set", item)]
    sizes = "--device cpu --batch 1 --session-limit 1 --published-batch 1 --published-steps 2"
    done = subprocess.run(
        [sys.executable, "-m", "passt_bench", *words.split(), *sizes.split(), *shrink],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


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


def test_the_systems_of_the_paper_side_by_side(tmp_path: Path) -> None:
    words = "paper-costs --precision float32,bfloat16 --engine eager"
    assert "saved for backward, a small network" in _run(tmp_path, words)
    for precision in ("float32", "bfloat16"):
        record = _check(tmp_path, f"paper-costs-cpu-{precision}-eager")
        assert tuple(v.name for v in record.variants)[: len(PAPER)] == PAPER
        # The golden counts of the paper's Table 1.
        assert [v.tokens for v in record.variants[:5]] == [1190, 790, 474, 474, 254]


def test_compiled_models_are_measured_like_others(tmp_path: Path) -> None:
    _run(tmp_path, "paper-costs passt_s passt_s_n --precision float32 --engine compiled")
    record = _check(tmp_path, "paper-costs-cpu-float32-compiled")
    assert [v.recipe.engine.compile for v in record.variants] == [True, True]
