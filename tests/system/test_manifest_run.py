"""Recordings of one's own from a manifest to a prediction, by the command line alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_study
import soundfile
from layouts import write_audioset_folder, write_manifest, write_prepared_hdf5

Cli = Callable[..., tuple[int, str]]
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


@pytest.mark.parametrize(
    ("multi_label", "folds", "loss", "metric"),
    [(False, 0, "ce", "accuracy"), (True, 2, "bce", "mAP")],
)
def test_trained_evaluated_and_predicted(
    multi_label: bool, folds: int, loss: str, metric: str, tmp_path: Path, cli: Cli
) -> None:
    written = write_manifest(tmp_path / "data", multi_label=multi_label, folds=folds, each=6)
    study, out = write_study(tmp_path, loss, metric), tmp_path / "runs"
    code, said = cli(
        "run", study, "--data", f"manifest={written.root}", "--runs", out,
        "--reports", tmp_path / "reports", "--keep-models",
        "--no-track", "--no-cost",
    )  # fmt: skip
    assert code == 0, said
    records = [json.loads(p.read_text()) for p in sorted(out.glob("records/*/record.json"))]
    trained = [record for record in records if record.get("seed") is not None]
    assert len(trained) == 2 * (folds or 1)
    for record in trained:
        fingerprint = record["fingerprint"]
        assert record["status"] == "ok"
        assert fingerprint["dataset"] == "manifest"
        assert tuple(fingerprint["classes"]) == written.classes
        assert fingerprint["multi_label"] == multi_label
        assert fingerprint["found"] == len(written.clips)
        assert set(record["per_class"][metric]) == set(written.classes)
        # The classes begin at tones of their own: guessing is left behind.
        assert record["metrics"][metric] > 0.6
        assert str(tmp_path) not in json.dumps(record)
    (model, *_) = sorted(out.glob("records/*/model.safetensors"))
    clips = [clip.path for clip in written.clips[:3]]
    code, said = cli("predict", "--checkpoint", model, *clips)
    assert code == 0, said
    assert all(name in said for name in written.classes)


def test_what_does_not_fit_the_labels_is_refused(tmp_path: Path, cli: Cli) -> None:
    written = write_manifest(tmp_path / "data", multi_label=True)
    study = write_study(tmp_path, "ce", "mAP")
    code, said = cli("plan", study, "--data", f"manifest={written.root}", "--runs", tmp_path / "o")
    assert code == 2
    assert "training.loss = 'ce': some clips have several classes, or none. Use 'bce'." in said


def test_without_its_training_part_audioset_is_not_trained_on(tmp_path: Path, cli: Cli) -> None:
    write_audioset_folder(tmp_path / "data", {"eval": 3})
    study = write_study(tmp_path, "bce", "mAP")
    code, said = cli(
        "plan", study, "--data", f"audioset={tmp_path / 'data'}", "--set", "data.name=audioset"
    )
    assert code == 2
    assert "data.name = 'audioset': no clip to train on" in said


def test_test_clips_alone_are_checked_and_prepared_and_not_trained_on(
    tmp_path: Path, cli: Cli
) -> None:
    written = write_manifest(tmp_path / "data")
    listed = written.root / "manifest.csv"
    head, *rows = listed.read_text().splitlines()
    listed.write_text("\n".join([head, *(row for row in rows if row.endswith(",test")), ""]))
    study = write_study(tmp_path, "ce", "accuracy")
    folders = [written.root]
    for form in ("cache", "hdf5"):
        folders.append(tmp_path / form)
        if form == "cache":
            words = ("--rate", 8000, "--workers", 1, "--folder", folders[-1])
            code, said = cli("data", "prepare", f"manifest={written.root}", *words)
            assert code == 0, said
        else:
            write_prepared_hdf5(folders[-2], folders[-1])
    for folder in folders:
        code, said = cli("data", "check", f"manifest={folder}")
        assert code == 0, said
        assert "train" not in said.split("Lengths")[0]
        for command in ("plan", "run"):
            out = tmp_path / "runs"
            code, said = cli(command, study, "--data", f"manifest={folder}", "--runs", out)
            assert code == 2
            assert "data.name = 'manifest': no clip to train on. Add the training split" in said
            assert not list(out.glob("records/*"))


def test_what_only_decoding_finds_ends_a_run_and_leaves_no_half_file(
    tmp_path: Path, cli: Cli
) -> None:
    written = write_manifest(tmp_path / "data")
    path = next(c.path for c in written.clips if c.path is not None and c.path.suffix == ".wav")
    soundfile.write(path, np.full(16000, np.nan), 16000, subtype="FLOAT")
    study, out = write_study(tmp_path, "ce", "accuracy"), tmp_path / "runs"
    words = ("--data", f"manifest={written.root}", "--runs", out, "--no-track", "--no-cost")
    code, said = cli("run", study, *words)
    assert code == 2
    assert f"{path}: the file holds NaN or infinity. Replace the file" in said
    assert not list((out / "cache").glob("*features*"))
    assert not (out / "records").exists()
