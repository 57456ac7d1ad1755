"""Two runs that end at once render into one folder."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from study_on_disk import SMALL, write_study

from passt_bench.report.build import build_study


def _render(folder: Path) -> None:
    build_study("quick", folder / "runs", folder / "reports")


def test_two_processes_render_one_report(tmp_path: Path) -> None:
    write_study(tmp_path / "runs", SMALL, rich=False)
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_render, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    page = tmp_path / "reports" / "quick" / "index.html"
    first = page.read_bytes()
    _render(tmp_path)
    assert page.read_bytes() == first
    tables = {path.name for path in (tmp_path / "reports" / "quick" / "tables").iterdir()}
    assert {"verdicts.csv", "cost.tex"} <= tables
