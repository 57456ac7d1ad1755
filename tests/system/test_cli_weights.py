"""The commands about weight files."""

from dataclasses import replace
from pathlib import Path

import pytest
import small_weights
from fixtures import Cli, Mistake

from passt_bench.cli.options import console
from passt_bench.published_weights import PUBLISHED

NAME = "passt_s_p16_s12_128_ap470"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of published files; one of them at the size of a toy, its server away."""
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(tmp_path / "weights"))
    entry = PUBLISHED[NAME]
    away = replace(entry, url=f"http://127.0.0.1:9/{entry.file}", width=64, depth=1)
    monkeypatch.setitem(PUBLISHED, NAME, away)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_the_list_of_weights(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / PUBLISHED[NAME].file).write_bytes(b"x")
    monkeypatch.setattr(console, "width", 80)
    text = cli("weights", "list", "--folder", folder)[1]
    assert all(f" {name} " in text for name in PUBLISHED)
    assert "openmic mAP 0.85 20 openmic no" in text
    assert text.count(" yes ") == 1 and "527 audioset yes " in text
    assert "ensemble_many: " in text and "passt_30sec: trained on 10 s clips" in text


def test_getting_checks_what_was_put_by_hand(folder: Path, cli: Cli, mistake: Mistake) -> None:
    path = folder / PUBLISHED[NAME].file
    assert str(path) in str(mistake("weights", "get", NAME))
    small_weights.save(path, small_weights.passt(stride=12))
    assert cli("weights", "get", NAME)[0] == 0
    for name in ("nothing", "ensemble_9"):
        assert mistake("weights", "get", name).value == name
