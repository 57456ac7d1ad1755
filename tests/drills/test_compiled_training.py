"""A compiled model trains like the model itself; compiling takes the better part of a minute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import make_task, trained

from passt_bench.spec import EngineSpec
from passt_bench.training.state import Training


def _train(engine: EngineSpec, folder: Path) -> Training:
    task = make_task(folder)
    return trained(replace(task, recipe=replace(task.recipe, engine=engine)))


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
def test_compiled_training_computes_the_same(tmp_path: Path) -> None:
    plain, compiled = (
        _train(EngineSpec(compile=mode), tmp_path / mode) for mode in ("off", "default")
    )
    assert compiled.progress.train_loss == pytest.approx(plain.progress.train_loss, rel=1e-4)
    for one, two in zip(compiled.net.parameters(), plain.net.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-3)
    state = torch.load(tmp_path / "default" / "checkpoint.pt", weights_only=True)
    assert "cls_token" in state["net"]  # not under torch.compile's prefix
