"""Studies on disk, read and rendered once for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_on_disk import QUICK, SMALL, write_study

from passt_bench.analysis.results import Results, load_results
from passt_bench.report.pages import render
from passt_bench.report.view import StudyView, view


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Thirteen variants, three seeds; one diverged run, one missing, one variant out of memory."""
    return load_results("quick", [write_study(tmp_path_factory.mktemp("quick"), QUICK)])


@pytest.fixture(scope="session")
def quick_view(quick: Results) -> StudyView:
    """The same as a report sees it."""
    return view(quick)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered study of three variants, its records beside it."""
    root = tmp_path_factory.mktemp("small") / "quick"
    render(load_results("quick", [write_study(root, SMALL)]), root)
    return root
