"""The plug-in's own tests: its components keep the contracts of passt-bench."""

from __future__ import annotations

from typing import ClassVar

from passt_bench.data.testing import DatasetContract
from passt_bench.models.testing import FrontEndContract, ModelContract, PatchoutContract
from passt_bench.report.testing import FigureContract
from passt_bench.spec import DataSpec, FrontendSpec, Patchout
from passt_bench.training.testing import MetricContract


class TestLily(ModelContract):
    model = "lily"
    options: ClassVar = {"width": 16}


class TestCheckerboard(PatchoutContract):
    setting = Patchout("checkerboard", share=0.75)  # type: ignore[call-arg]  # its own


class TestAmplitude(FrontEndContract):
    spec = FrontendSpec("amplitude", mels=32, preemphasis=0.0, mean=0.0, std=1.0)


class TestTones(DatasetContract):
    spec = DataSpec("tones", seconds=0.5)


class TestTopTwo(MetricContract):
    metric = "top_two"


class TestRipples(FigureContract):
    figure = "ripples"
