"""Fingerprints of small data sets, and what is said of odd audio files, as in the first edition."""

from __future__ import annotations

from pathlib import Path

import golden_fingerprints
import golden_sounds
import guards
import pytest

from passt_bench.registry import DATASETS

FINGERPRINTS = guards.read("fingerprints")["fingerprints"]
VERDICTS = guards.read("sounds")["verdicts"]


@pytest.mark.parametrize("name", golden_fingerprints.CASES)
def test_a_data_set_keeps_its_fingerprint(name: str, tmp_path: Path) -> None:
    found = golden_fingerprints.told(
        golden_fingerprints.opened(golden_fingerprints.CASES[name], tmp_path / "data")
    )
    assert guards.changed(found, FINGERPRINTS[name]) == {}


def test_every_data_set_has_a_fingerprint() -> None:
    cases = golden_fingerprints.CASES
    assert sorted(cases) == sorted(FINGERPRINTS)
    assert {component.name for component in DATASETS.all()} <= {c.name for c in cases.values()}


def test_odd_audio_files_are_judged_as_before(tmp_path: Path) -> None:
    assert guards.changed(golden_sounds.made(tmp_path)["verdicts"], VERDICTS) == {}
