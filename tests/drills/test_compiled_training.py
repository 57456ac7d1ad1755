"""A compiled model trains like the model itself; compiling takes the better part of a minute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import RECIPE, equal, make_task, stopped, trained

from passt_bench.spec import EngineSpec
from passt_bench.training.state import Task


def _task(mode: Any, folder: Path) -> Task:
    return make_task(folder, recipe=replace(RECIPE, engine=EngineSpec(compile=mode)))


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
def test_compiled_training_computes_the_same_and_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, compiled = (trained(_task(mode, tmp_path / mode)) for mode in ("off", "default"))
    assert compiled.progress.train_loss == pytest.approx(plain.progress.train_loss, rel=1e-4)
    for one, two in zip(compiled.net.parameters(), plain.net.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-3)
    state = torch.load(tmp_path / "default" / "checkpoint.pt", weights_only=True)
    assert "cls_token" in state["net"]  # not under torch.compile's prefix
    stopped(monkeypatch, 6, _task("default", tmp_path / "parts"))
    again = trained(_task("default", tmp_path / "parts"))
    assert again.progress.train_loss == compiled.progress.train_loss
    assert equal(again.net.state_dict(), compiled.net.state_dict())
