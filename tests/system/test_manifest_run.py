"""Studies on recordings of one's own, by the command line; test_data_how_to.py predicts, too."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_study
import soundfile
from fixtures import Cli, Mistake
from layouts import write_audioset_folder, write_manifest
from sounds import sound, write_sound

from passt_bench import load_frame
from passt_bench.errors import InputError
from passt_bench.models import read_model
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.kept_models import find_model
from passt_bench.runner.plan import plan_request
from passt_bench.runner.request import Paths, StudyRequest
from passt_bench.runner.studies import load_study
from passt_bench.runner.train import note_on_epoch
from passt_bench.spec import DataSpec, Recipe

CHANGES = """
    "data.name": "manifest", "data.seconds": 0.8, "data.train_clips": None, "data.test_clips": None,
    "model.width": 32, "frontend.sampling_rate": 8000, "frontend.n_fft": 256,
    "frontend.window": 200, "frontend.hop": 80, "frontend.mels": 32, "frontend.fmax": 3500.0,
    "training.epochs": 12, "training.batch_size": 8, "training.learning_rate": 1e-3,
"""


def write_study(folder: Path, loss: str, metric: str) -> Path:
    more = f'"training.loss": {loss!r}, "metrics": ({metric!r},)'
    changes = small_study.SMALL + CHANGES + more
    return small_study.write(
        folder, "mine", changes=changes, variants=small_study.TIME, seeds=(0,), metric=metric
    )


def test_what_a_study_needs_for_several_classes_a_clip_is_said_as_it_is_typed(
    tmp_path: Path, cli: Cli, mistake: Mistake
) -> None:
    data = write_manifest(tmp_path / "data", multi_label=True, each=6).root
    study = write_study(tmp_path, "ce", "accuracy")
    words = ["plan", study, "--data", f"manifest={data}", "--runs", tmp_path / "runs"]
    for field, remedy in (
        ("training.loss", ("--set", "training.loss=bce")),
        ("metrics", ("--set", "metrics=mAP")),
    ):
        error = mistake(*words)
        assert error.field == field and " ".join(remedy) in str(error)
        words += remedy
    code, said = cli(*words)
    assert code == 0, said
    request = StudyRequest(str(study), ("training.loss=bce", "metrics=mAP"))
    paths = Paths(tmp_path / "runs", {"manifest": data})
    assert plan_request(load_study(str(study)), request, paths).record.metric == "mAP"


@pytest.mark.parametrize(
    ("multi_label", "folds", "loss", "metric"),
    [(False, 2, "ce", "accuracy"), (True, 0, "bce", "mAP")],
)
def test_trained_and_evaluated(
    multi_label: bool,
    folds: int,
    loss: str,
    metric: str,
    tmp_path: Path,
    cli: Cli,
    mistake: Mistake,
) -> None:
    written = write_manifest(tmp_path / "data", multi_label=multi_label, folds=folds, each=6)
    study, out = write_study(tmp_path, loss, metric), tmp_path / "runs"
    words = ("--data", f"manifest={written.root}", "--runs", out, "--reports", tmp_path / "reports")
    code, said = cli("run", study, *words, "--no-track", "--no-cost")
    assert code == 0, said
    trained = [record for record in Store(out).records() if isinstance(record, RunRecord)]
    assert len(trained) == 2 * (folds or 1)
    for record in trained:
        assert record.status == "ok"
        found = record.fingerprint
        assert (found.dataset, found.classes) == ("manifest", written.classes)
        assert (found.multi_label, found.found) == (multi_label, len(written.clips))
        assert set(record.per_class[metric]) == set(written.classes)
        # The classes begin at tones of their own: guessing is left behind.
        assert record.metrics[metric] > 0.6
    model = read_model(find_model("mine:none", out)).net
    assert (model.thresholds is None) == bool(folds)  # chosen on the validation split
    if folds:
        data = ("--data", f"manifest={written.root}", "--runs", out)
        other = ("evaluate", "--checkpoint", "mine:none", *data, "--fold")
        error = mistake(*other, 2)
        assert (error.field, error.value) == ("--checkpoint", "mine:none")
        assert "Kept: mine:none:0:1, mine:time:0:1." in str(error)
        assert "with fold 3" in mistake(*other, 3).problem
        again = ("run", study, *words, "--no-track", "--no-cost", "--keep-models")
        assert cli(*again)[0] == 0
        code, said = cli(*other, 2)
        assert code == 0 and "mine:none:0:2:" in said and "trained on clips" not in said
        _evaluated_where_it_was_held_out(written.root, out, cli)


def _evaluated_where_it_was_held_out(root: Path, runs: Path, cli: Cli) -> None:
    """Of two folds: the one that the kept model held out, the other, and one of a new division."""
    held = Store(runs).run(Store(runs).study("mine").variants[0].cells[0].key)
    assert held is not None and held.fold == 1
    words = ("evaluate", "--checkpoint", "mine:none:0:1", "--json")

    def found(*more: object, data: Path = root) -> tuple[dict[str, Any], str]:
        code, said = cli(*words, "--data", f"manifest={data}", "--runs", runs, *more)
        assert code == 0, said
        answer = json.loads(said[said.index("{") :])
        (row,) = (r for r in answer["tables"]["evaluations"] if r["metric"] == "accuracy")
        return row, " ".join(answer["notes"])

    row, notes = found()
    assert (row["data"], "trained" in notes) == ("data, test, fold 1", False)
    assert row["value"] == pytest.approx(held.metrics["accuracy"], abs=1e-4)
    row, notes = found("--fold", 2)
    assert row["data"] == "data, test, fold 2 (perhaps trained on)"
    assert "this model was trained on clips of fold 2: its scores are not those of new" in notes
    listed = root / "manifest.csv"
    head, *rows = listed.read_text().splitlines()
    rows = [row[:-1] + "12"[at % 2] for at, row in enumerate(rows)]
    listed.write_text("\n".join([head, *rows, ""]))
    row, notes = found()
    assert row["data"] == "data, test, fold 1 (perhaps trained on)"
    assert "on other data of this name, or another division of these: its scores" in notes
    with (runs / "reports" / "evaluations" / "tables" / "evaluations.csv").open() as file:
        shown = Counter(
            line["data"] for line in csv.DictReader(file) if line["metric"] == "accuracy"
        )
    folds = "fold 2", "fold 1", "fold 1 (perhaps trained on)", "fold 2 (perhaps trained on)"
    assert shown == {f"data, test, {fold}": 1 for fold in folds}
    other = shutil.copytree(root, root.with_name("yard"))
    (other / "manifest.csv").write_text("\n".join([head, *rows[1:], ""]))
    row, notes = found(data=other)  # another place, as far as names tell
    assert (row["data"], "trained on" in notes) == ("yard, test, fold 1", False)
    assert {*load_frame(runs)["dataset"]} == {"data", "yard"}


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path, mistake: Mistake) -> None:
    several = write_manifest(tmp_path / "data", multi_label=True)
    study = write_study(tmp_path, "ce", "mAP")
    error = mistake("plan", study, "--data", f"manifest={several.root}")
    assert (error.field, error.value) == ("training.loss", "ce")
    given = Recipe(data=DataSpec("manifest")), Datasets(Paths(tmp_path, {"manifest": several.root}))
    assert "The epoch is the last one, and each class is decided from 0.5 on" in note_on_epoch(
        *given
    )
    only_tested = write_audioset_folder(tmp_path / "audioset", {"eval": 3})
    study = write_study(tmp_path, "bce", "mAP")
    words = ("--data", f"audioset={only_tested.root}", "--set", "data.name=audioset")
    error = mistake("plan", study, *words)
    assert (error.field, error.value) == ("data.name", "audioset")


def test_test_clips_alone_are_not_trained_on(tmp_path: Path, cli: Cli, mistake: Mistake) -> None:
    written = write_manifest(tmp_path / "data")
    listed = written.root / "manifest.csv"
    head, *rows = listed.read_text().splitlines()
    listed.write_text("\n".join([head, *(row for row in rows if row.endswith(",test")), ""]))
    study, out = write_study(tmp_path, "ce", "accuracy"), tmp_path / "runs"
    cache = tmp_path / "cache"
    words = ("--rate", 8000, "--workers", 1, "--folder", cache)
    code, said = cli("data", "prepare", f"manifest={written.root}", *words)
    assert code == 0, said
    for folder in (written.root, cache):
        code, said = cli("data", "check", f"manifest={folder}")
        assert code == 0, said
        assert "train" not in said.split("Lengths")[0]
        error = mistake("run", study, "--data", f"manifest={folder}", "--runs", out)
        assert (error.field, error.value) == ("data.name", "manifest")
        assert not list(out.glob("records/*"))


def test_what_only_decoding_finds_leaves_no_half_file(tmp_path: Path, mistake: Mistake) -> None:
    written = write_manifest(tmp_path / "data")
    path = next(c.path for c in written.clips if c.path is not None and c.path.suffix == ".wav")
    soundfile.write(path, np.full(16000, np.nan), 16000, subtype="FLOAT")
    study, out = write_study(tmp_path, "ce", "accuracy"), tmp_path / "runs"
    words = ("--data", f"manifest={written.root}", "--runs", out, "--no-track", "--no-cost")
    assert mistake("run", study, *words).source == path
    assert not list((out / "cache").glob("*features*"))
    assert not (out / "records").exists()


def test_a_metric_that_no_scores_can_have_is_refused_before_the_training(tmp_path: Path) -> None:
    """All clips of the test split are of one class; accuracy can be computed."""
    rows = ["path,labels,split"]
    for name, label, split in (("a", "x", "train"), ("b", "y", "train"), ("c", "x", "test")):
        write_sound(tmp_path / f"{name}.wav", sound(1, 0.1, 8000), 8000)
        rows.append(f"{name}.wav,{label},{split}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    datasets = Datasets(Paths(tmp_path / "runs", {"manifest": tmp_path}))
    recipe = Recipe(data=DataSpec("manifest", seconds=0.1), metrics=("accuracy",))
    datasets.check(recipe, None)
    for metric in ("mAP", "AUC", "dprime"):
        with pytest.raises(InputError) as caught:
            datasets.check(replace(recipe, metrics=("accuracy", metric)), None)
        assert (caught.value.field, caught.value.value) == ("metrics", metric)
        assert caught.value.source == "test split of manifest"


def test_a_metric_that_a_split_drawn_for_validation_cannot_have_is_refused_too(
    tmp_path: Path,
) -> None:
    """The only training clip of a class is not drawn, since a class keeps half of its clips."""
    rows = ["path,labels,split"]
    for n, label in enumerate("xxxxxxy"):
        write_sound(tmp_path / f"{n}.wav", sound(1, 0.1, 8000), 8000)
        rows.append(f"{n}.wav,{label},{'test' if n in (0, 6) else 'train'}")
    write_sound(tmp_path / "7.wav", sound(1, 0.1, 8000), 8000)
    rows.append("7.wav,y,train")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    datasets = Datasets(Paths(tmp_path / "runs", {"manifest": tmp_path}))
    recipe = Recipe(data=DataSpec("manifest", seconds=0.1), metrics=("mAP", "accuracy"))
    datasets.check(recipe, None)
    chosen = replace(recipe.training, checkpoint_selection="best_on_validation")
    with pytest.raises(InputError) as caught:
        datasets.check(replace(recipe, training=chosen), None)
    assert (caught.value.value, caught.value.source) == ("mAP", "validation split of manifest")
    datasets.check(replace(recipe, training=chosen, metrics=("accuracy", "mAP")), None)
