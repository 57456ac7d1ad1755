"""Trained models: which are kept, how they are called, and how one is made again."""

import html
import json
import re
import shlex
from pathlib import Path

import pytest
import small_study
from fixtures import Cli, Mistake

from passt_bench import load_frame
from passt_bench.models import read_model
from passt_bench.records.run import RunRecord
from passt_bench.records.store import MODEL, Store
from passt_bench.runner.evaluation import evaluate_checkpoints
from passt_bench.runner.initial_weights import sha256_of
from passt_bench.runner.kept_models import find_model, with_kept_models
from passt_bench.runner.plan import plan_request
from passt_bench.runner.request import Paths, StudyRequest
from passt_bench.runner.run_status import CURVES
from passt_bench.runner.studies import load_study
from passt_bench.spec import InitSpec


def test_a_study_keeps_one_model_per_variant_and_others_on_request(
    cli: Cli, mistake: Mistake, study_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
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
    caplog.clear()
    assert find_model("tiny:time", tmp_path) == find_model("tiny:time:0", tmp_path)
    said = "note: tiny:time is tiny:time:0, the first of 2 models"
    assert [record.getMessage() for record in caplog.records] == [said]
    for name, problem in (
        ("tiny", "several models"),
        ("tiny:time:3", "no such run"),
        ("tiny:tame", "has no such run"),
        ("tiny:diverges", "was not kept"),
        ("tin:time", "There are: tiny:"),
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


def test_a_kept_model_has_the_metric_of_its_run_and_starts_more(cli: Cli, tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    def run(name: str, epochs: int, other: str, *more: str) -> list[RunRecord]:
        changes = small_study.SMALL + f'"training.epochs": {epochs}, "training.learning_rate": 0.01'
        variants = f'Variant("none"), {other}'
        study = small_study.write(tmp_path, name, variants=variants, changes=changes, seeds=(0,))
        words = ("--no-cost", "--no-track", "--runs", runs, "--reports", tmp_path / "reports")
        status, said = cli("run", study, *words, *more)
        assert status == 0, said
        cells = [variant.cells[0] for variant in Store(runs).study(name).variants]
        return [record for cell in cells if (record := Store(runs).run(cell.key))]

    first = 'Variant("time", {"patchout": Patchout("time", rate=0.5)})'
    taught, _ = run("learn", 6, first, "--keep-models")
    model = runs / "records" / taught.key / "model.safetensors"
    kept = read_model(model)
    assert kept.recipe == taught.recipe
    assert kept.classes == taught.fingerprint.classes

    record, _ = evaluate_checkpoints([str(model)], "synthetic", runs)
    assert record.name == "learn:none:0"
    assert record.fingerprint.digest == taught.fingerprint.digest
    assert record.metrics["mAP"] == pytest.approx(taught.metrics["mAP"], abs=1e-6)
    assert sorted(load_frame(runs)["kind"]) == ["evaluation", "quality", "quality"]

    page, words = tmp_path / "reports" / "learn" / "index.html", ("--runs", runs, "--reports")
    command = (
        html.unescape(re.sub(r"</?span>", "", page.read_text()))
        .split("passt-bench evaluate ")[1]
        .split("</code>")[0]
    )
    assert "--checkpoint 'learn:time:0' --against 'learn:none:0'" in command
    status, said = cli("evaluate", *shlex.split(command), *words, tmp_path / "reports")
    assert status == 0, said
    assert cli("report", "learn", *words, tmp_path / "reports")[0] == 0
    text = page.read_text()
    assert "passt-bench evaluate" not in text and "these weights on these clips" in text
    (against,) = (r.against for r in Store(page.parent).evaluations() if r.against)
    difference = f"{against.differences['mAP'].value:+.3f}".replace("-", "−")
    assert difference in text
    run("shared", 6, first)  # another study with the same runs
    other = (tmp_path / "reports" / "shared" / "index.html").read_text()
    assert "passt-bench evaluate" not in other and difference in other
    assert "“time” of shared, seed 0" in other

    tuned = 'Variant("tuned", {"init": InitSpec("checkpoint", "learn:none")})'
    scratch, after = run("tune", 1, tuned)
    assert after.curves["train_loss"][0] < 0.8 * scratch.curves["train_loss"][0]
    assert after.metrics["mAP"] > scratch.metrics["mAP"]
    assert after.recipe.init == InitSpec("checkpoint", "model.safetensors", sha256_of(model))
    assert after.notes[0].startswith("model.safetensors: PaSST, ")
    assert scratch.notes == ()
    status, said = cli("show", "tune", "--runs", runs, "--reports", tmp_path / "reports")
    assert status == 0 and f"Start weights: {after.notes[0]}" in " ".join(said.split())
    page = tmp_path / "reports" / "tune" / "index.html"
    assert html.escape(after.notes[0]) in page.read_text()
    file = runs / "records" / after.key / "record.json"
    assert str(tmp_path) not in file.read_text()
    assert file.with_name("model.safetensors").is_file()  # the first run of each variant
