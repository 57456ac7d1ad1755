"""The plug-in's own tests: its model keeps the contract of passt-bench's models."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from passt_bench.models.testing import CHECKS, Subject


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_model(check: Callable[[Subject], None]) -> None:
    check(Subject("lily", {"width": 16}))
