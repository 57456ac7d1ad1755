"""The tables in docs/performance.md are those of the files beside it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import step_profile

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def read(name: str) -> Any:
    return json.loads((DOCS / name).read_text(encoding="utf-8"))


def page() -> list[str]:
    return (DOCS / "performance.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("device", ["cpu", "h100"])
def test_the_profiles(device: str) -> None:
    rows = step_profile.table(read(f"profile_{device}.json")).splitlines()
    assert len(rows) > 3
    assert [row for row in rows if row not in page()] == []


def test_the_steps_on_two_cores() -> None:
    steps = runpy.run_path(str(ROOT / "tests" / "bench" / "cpu_steps.py"))
    rows = steps["markdown"](read("cpu_steps.json")["tokens"]).splitlines()
    assert len(rows) == 1 + len(steps["ENGINES"])
    assert [row for row in rows if row not in page()] == []
