"""The plug-in's own tests: its model and its data set keep the contracts of passt-bench."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from passt_bench.data import testing as data
from passt_bench.models.testing import CHECKS, Subject
from passt_bench.spec import DataSpec


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_model(check: Callable[[Subject], None]) -> None:
    check(Subject("lily", {"width": 16}))


@pytest.mark.parametrize("check", data.CHECKS, ids=lambda check: check.__name__)
def test_data_set(check: Callable[[data.Subject], None]) -> None:
    check(data.Subject(DataSpec("tones", seconds=0.5)))
