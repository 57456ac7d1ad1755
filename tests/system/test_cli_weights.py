"""The commands about weight files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from passt_bench.cli import app
from passt_bench.cli.options import console
from passt_bench.models import create_model, save_model
from passt_bench.published_weights import PUBLISHED
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Recipe

Cli = Callable[..., tuple[int, str]]
NAME = "passt_s_p16_s12_128_ap470"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of published files; one of them at the size of a toy, its server away."""
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(console, "width", 250)
    entry = PUBLISHED[NAME]
    away = replace(entry, url=f"http://127.0.0.1:9/{entry.file}", width=64, depth=1)
    monkeypatch.setitem(PUBLISHED, NAME, away)
    return tmp_path / "weights"


def test_the_list_tells_what_is_here(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    (folder / PUBLISHED[NAME].file).write_bytes(b"x")
    app(["weights", "list"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    rows = {name: next(line for line in lines if f" {name} " in line) for name in PUBLISHED}
    assert [name for name, row in rows.items() if row.endswith("│ yes  │")] == [NAME]
    assert any(line.startswith("ensemble_many: ") for line in lines)
    assert "passt_30sec: trained on 10 s clips" in lines
    assert str(folder) in lines[-1]


def test_names_are_whole_in_a_narrow_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "width", 80)
    folder.mkdir()
    app(["weights", "list", "--folder", str(folder)], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    shown = {line.split()[0]: line for line in lines if line.rstrip().endswith((" no", " yes"))}
    assert set(shown) == set(PUBLISHED)
    assert shown["openmic"].split() == ["openmic", "mAP", "0.85", "20", "openmic", "no"]
    assert all(len(line) <= 80 for line in shown.values())


def test_getting_checks_what_was_put_there_by_hand(folder: Path, cli: Cli) -> None:
    status, said = cli("weights", "get", NAME)
    path = folder / PUBLISHED[NAME].file
    assert status == 2 and "could not be downloaded" in said and str(path) in said
    net = create_model("passt_s", 527, width=64, depth=1, heads=1, stride=12)
    torch.save(net.state_dict(), path)
    assert cli("weights", "get", NAME)[0] == 0
    assert path.name in (folder / "SHA256SUMS").read_text()
    for name, words in (("nothing", "no published weights"), ("ensemble_9", "mean 'ensemble_")):
        status, said = cli("weights", "get", name)
        assert status == 2 and words in said


def test_export(tmp_path: Path, cli: Cli) -> None:
    recipe = Recipe(
        model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
        frontend=FrontendSpec(hop=250),
        data=DataSpec(seconds=1.0),
    )
    net = create_model("passt_micro", 2, patch=8, stride=8, mels=64, frames=64)
    own = save_model(tmp_path / "m.safetensors", net, recipe, ("a", "b"))
    assert cli("weights", "export", own, tmp_path / "official.pt")[0] == 0
    state = torch.load(tmp_path / "official.pt", weights_only=True)
    assert torch.equal(state["cls_token"], net.cls_token)
    assert cli("weights", "export", "none.safetensors", tmp_path / "x.pt")[0] == 2
