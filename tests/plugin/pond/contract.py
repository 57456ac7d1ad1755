"""The plug-in's own tests: its components keep the contracts of passt-bench."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

from passt_bench.data import testing as data
from passt_bench.models.testing import FrontEndContract, ModelContract, PatchoutContract
from passt_bench.report import testing as report
from passt_bench.spec import DataSpec, FrontendSpec, Patchout
from passt_bench.training.testing import MetricContract


class TestLily(ModelContract):
    model = "lily"
    options: ClassVar = {"width": 16}


class TestCheckerboard(PatchoutContract):
    setting = Patchout("checkerboard", share=0.75)  # type: ignore[call-arg]  # its own


class TestAmplitude(FrontEndContract):
    spec = FrontendSpec("amplitude", mels=32, preemphasis=0.0, mean=0.0, std=1.0)


class TestTopTwo(MetricContract):
    metric = "top_two"


@pytest.mark.parametrize("check", data.CHECKS, ids=lambda check: check.__name__)
def test_data_set(check: Callable[[data.Subject], None]) -> None:
    check(data.Subject(DataSpec("tones", seconds=0.5)))


@pytest.mark.parametrize("check", report.CHECKS, ids=lambda check: check.__name__)
def test_figure(check: Callable[[str], None]) -> None:
    check("ripples")
