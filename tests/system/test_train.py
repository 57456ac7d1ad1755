"""Trained models: which are kept, how they are called, and how one is made again."""

import json
from pathlib import Path

import pytest
from fixtures import Cli, Mistake

from passt_bench.records.store import Store
from passt_bench.runner.kept_models import find_model, with_kept_models
from passt_bench.runner.plan import plan_request
from passt_bench.runner.planned_cell import MODEL
from passt_bench.runner.request import Paths, StudyRequest
from passt_bench.runner.run_status import CURVES
from passt_bench.runner.studies import load_study


def test_a_study_keeps_one_model_per_variant_and_others_on_request(
    cli: Cli, mistake: Mistake, study_file: Path, tmp_path: Path
) -> None:
    words = ("run", study_file, "--no-cost", "--no-track", "--runs", tmp_path)
    cli(*words)
    store = Store(tmp_path)
    keys = [c.key for v in store.study("tiny").variants for c in v.cells if store.run(c.key)]
    kept = {key for key in keys if (store.folder(key) / MODEL).is_file()}
    assert 0 < len(kept) < len(keys)
    before = {key: store.run(key) for key in keys}
    _, text = cli(*words, "--keep-models", "--curves")
    assert "will be kept" in text
    assert text.count(" epoch 2 of 2, loss 0.") == 4 - len(kept)
    for key in keys:
        old, new = before[key], Store(tmp_path).run(key)
        assert old is not None
        assert new is not None
        if old.status == "ok":
            curves = (store.folder(key) / CURVES).read_text().splitlines()
            losses = [json.loads(line)["train_loss"] for line in curves]
            assert tuple(losses) == old.curves["train_loss"]
            assert (new.metrics, new.finished) == (old.metrics, old.finished)
            assert (store.folder(key) / MODEL).is_file()
    path = find_model("tiny:time:1", tmp_path)
    assert path == find_model(str(Path(path).parent), tmp_path)
    for name, problem in (
        ("tiny", "several models"),
        ("tiny:time:3", "no such run"),
        ("tiny:tame", "no such variant"),
        ("tiny:diverges", "was not kept"),
    ):
        error = mistake("predict", study_file, "--checkpoint", name, "--runs", tmp_path)
        assert (error.field, problem in str(error)) == ("--checkpoint", True)


def test_models_beyond_a_gigabyte_are_not_kept(study_file: Path, tmp_path: Path) -> None:
    plan = plan_request(
        load_study(str(study_file), Store(tmp_path)), StudyRequest("tiny"), Paths(tmp_path)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "passt_bench.runner.kept_models.MODEL_BYTES", 3 * plan.cells[0].model_bytes // 2
        )
        assert sum(cell.keeps_model for cell in with_kept_models(plan.cells, None)) == 1
    first = [cell.pictured for cell in plan.cells]
    assert [cell.keeps_model for cell in with_kept_models(plan.cells, None)] == first
    assert not any(cell.keeps_model for cell in with_kept_models(plan.cells, keep=False))
