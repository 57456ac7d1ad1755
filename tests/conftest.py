"""What tests of all folders share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Small tensors on several threads cost up to fifteen times the CPU time, spent in waiting for each
# other, where tests run side by side. PyTorch reads it when it is imported; children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The process that only hands out files reads this one before it starts those that run them;
# imports of the package, seconds each time, are therefore in the fixtures.
if TYPE_CHECKING:
    from passt_bench.analysis.results import Results
    from passt_bench.errors import InputError
    from passt_bench.report.view import StudyView


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="drills in their long form")


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process; its exit status and what it printed, on one line."""
    from passt_bench.cli import main

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["passt-bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), " ".join(capsys.readouterr().out.split())

    return run


@pytest.fixture
def mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., InputError]:
    """Runs a command in this process that is refused; the error, which it has printed."""
    from passt_bench.cli import main
    from passt_bench.errors import InputError

    def run(*words: object) -> InputError:
        monkeypatch.setattr(sys, "argv", ["passt-bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        error = ended.value.__context__
        assert isinstance(error, InputError) and ended.value.code == 2
        assert f"error: {error}" in capsys.readouterr().out
        return error

    return run


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Thirteen variants, five seeds; one run diverged, one timed out, one variant out of memory."""
    from study_on_disk import QUICK, write_study

    from passt_bench.analysis.results import load_results

    return load_results("quick", [write_study(tmp_path_factory.mktemp("quick"), QUICK)])


@pytest.fixture(scope="session")
def quick_view(quick: Results) -> StudyView:
    """The same as a report sees it."""
    from passt_bench.report.view import study_view

    return study_view(quick)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered study of three variants, its records beside it."""
    from study_on_disk import SMALL, write_study

    from passt_bench.analysis.results import load_results
    from passt_bench.report.build import render

    root = tmp_path_factory.mktemp("small") / "quick"
    render(load_results("quick", [write_study(root, SMALL)]), root)
    return root
