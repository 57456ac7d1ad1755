"""Fingerprints of small data sets, and what is said of odd audio files, as in the first edition."""

from __future__ import annotations

from pathlib import Path

import golden_sounds
import guards
import pytest
from golden_fingerprints import CASES, data_set, opened, told

from passt_bench.registry import DATASETS

FINGERPRINTS = guards.read("fingerprints")["fingerprints"]
VERDICTS = guards.read("sounds")["verdicts"]


@pytest.mark.parametrize("name", CASES)
def test_a_data_set_keeps_its_fingerprint(name: str, tmp_path: Path) -> None:
    found = told(opened(name, tmp_path / "data"))
    assert guards.changed(found, FINGERPRINTS[name]) == {}


def test_every_data_set_has_a_fingerprint() -> None:
    assert sorted(CASES) == sorted(FINGERPRINTS)
    assert {component.name for component in DATASETS.all()} <= {data_set(name) for name in CASES}


def test_odd_audio_files_are_judged_as_before(tmp_path: Path) -> None:
    assert guards.changed(golden_sounds.made(tmp_path)["verdicts"], VERDICTS) == {}
