"""The plug-in's own tests: its components keep the contracts of passt-bench."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from passt_bench.data import testing as data
from passt_bench.models.testing import CHECKS, Subject
from passt_bench.report import testing as report
from passt_bench.spec import DataSpec
from passt_bench.training import testing as metrics


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_model(check: Callable[[Subject], None]) -> None:
    check(Subject("lily", {"width": 16}))


@pytest.mark.parametrize("check", data.CHECKS, ids=lambda check: check.__name__)
def test_data_set(check: Callable[[data.Subject], None]) -> None:
    check(data.Subject(DataSpec("tones", seconds=0.5)))


@pytest.mark.parametrize("check", metrics.CHECKS, ids=lambda check: check.__name__)
def test_metric(check: Callable[[str], None]) -> None:
    check("wrong_labels")


@pytest.mark.parametrize("check", report.CHECKS, ids=lambda check: check.__name__)
def test_figure(check: Callable[[str], None]) -> None:
    check("ripples")
