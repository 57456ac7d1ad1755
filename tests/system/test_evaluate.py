"""Evaluations: what they compute, refuse, resume and leave behind."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluating import evaluated, model
from filelock import FileLock
from sklearn.metrics import average_precision_score

from passt_bench import load_frame
from passt_bench.data import open_dataset
from passt_bench.data.synthetic import CLASSES
from passt_bench.errors import InputError
from passt_bench.models.ensemble import build_ensemble
from passt_bench.records.files import to_json
from passt_bench.records.store import Store
from passt_bench.runner import evaluation
from passt_bench.runner.evaluation import evaluate_checkpoints
from passt_bench.runner.maintenance import compare_records, find_record, find_removable
from passt_bench.runner.merge import merge
from passt_bench.spec import DataSpec

Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return model(tmp_path / "one.safetensors")


def by_hand(
    checkpoint: Path, data: str = "synthetic", test_clips: int | None = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Targets and logits of the test clips, one clip at a time."""
    ensemble = build_ensemble(checkpoint)
    dataset = open_dataset(DataSpec(data, 1.0, test_clips=test_clips), 16000, None)
    _, test = dataset.split(None)
    with torch.no_grad():
        rows = [ensemble(torch.from_numpy(dataset.waveform(int(i)))[None])[0].numpy() for i in test]
    return dataset.targets[test], np.stack(rows)


def test_the_metric_is_that_of_the_models_own_logits(one: Path, tmp_path: Path) -> None:
    record = evaluated(tmp_path, one, batch=7)
    targets, logits = by_hand(one)
    present = targets.any(axis=0)
    wanted = average_precision_score(targets[:, present], logits[:, present], average="macro")
    assert record.metrics == {"mAP": pytest.approx(wanted, abs=1e-6)}
    low, high = record.intervals["mAP"]
    assert low < record.metrics["mAP"] < high
    assert (record.clips, record.seconds, record.sampling_rate) == (40, 1.0, 16000)
    assert (record.split, record.fold, record.name) == ("test", None, "one.safetensors")
    assert record.scored["mAP"] == len(record.per_class["mAP"]) == present.sum()
    assert set(record.per_class["mAP"]) <= set(CLASSES)
    assert "numbers of clips as in the model's recipe: test_clips=40" in record.notes
    assert any("40 clips" in note for note in record.notes)
    assert str(tmp_path) not in to_json(record)


def test_an_ensemble_is_the_mean_of_logits_in_any_order(one: Path, tmp_path: Path) -> None:
    two = model(tmp_path / "two.safetensors", seed=1)
    record = evaluated(tmp_path, one, two)
    targets, first = by_hand(one)
    mean = (first + by_hand(two)[1]) / 2
    present = targets.any(axis=0)
    wanted = average_precision_score(targets[:, present], mean[:, present], average="macro")
    assert record.metrics["mAP"] == pytest.approx(wanted, abs=1e-6)
    assert record.name == "one.safetensors, two.safetensors"
    assert evaluated(tmp_path, two, one).key == record.key
    assert len(Store(tmp_path).evaluations()) == 1


def test_what_is_on_record_is_not_computed_again(one: Path, tmp_path: Path) -> None:
    record, fresh = evaluate_checkpoints([str(one)], "synthetic", tmp_path)
    assert fresh
    told: list[float] = []
    again, fresh = evaluate_checkpoints(
        [str(one)],
        "synthetic",
        tmp_path,
        batch=3,
        progress=lambda share, text: told.append(share),
    )
    assert (again, fresh, told) == (record, False, [])
    assert not list(tmp_path.glob(f"records/*/{evaluation.PARTIAL}"))


def test_whatever_decides_is_another_key(one: Path, tmp_path: Path) -> None:
    two = model(tmp_path / "two.safetensors", seed=1)
    reversed_ = model(tmp_path / "three.safetensors", CLASSES[::-1])
    keys = [
        evaluated(tmp_path, one).key,
        evaluated(tmp_path, two).key,
        evaluated(tmp_path, reversed_).key,
        evaluated(tmp_path, one, metrics=("AUC",)).key,
        evaluated(tmp_path, one, metrics=("AUC", "mAP")).key,
        evaluated(tmp_path, model(tmp_path / "a", data=DataSpec(test_clips=41))).key,
    ]
    assert len(set(keys)) == len(keys)


def test_an_interrupted_evaluation_goes_on(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(share: float, text: str) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    resume = functools.partial(
        evaluate_checkpoints, [str(one)], "synthetic", tmp_path / "cut", batch=4
    )
    with pytest.raises(KeyboardInterrupt):
        resume(progress=interrupt)
    (partial,) = (tmp_path / "cut").glob(f"records/*/{evaluation.PARTIAL}")
    assert np.load(partial).shape == (24, 16)
    shares: list[float] = []
    record, _ = resume(progress=lambda share, text: shares.append(share))
    assert shares[0] == pytest.approx(28 / 40)
    assert not partial.exists()
    whole = evaluated(tmp_path / "whole", one, batch=4)
    assert (record.key, record.metrics, record.intervals, record.per_class) == (
        whole.key,
        whole.metrics,
        whole.intervals,
        whole.per_class,
    )


def test_logits_are_kept_on_the_way(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def look(share: float, text: str) -> None:
        kept.extend(len(np.load(path)) for path in tmp_path.glob(f"records/*/{evaluation.PARTIAL}"))

    monkeypatch.setattr(evaluation, "SAVE_SECONDS", 0.0)
    evaluate_checkpoints([str(one)], "synthetic", tmp_path, batch=10, progress=look)
    assert kept == [10, 20, 30, 40]  # before the second, third and last batch, and at the end


def test_a_batch_too_large_is_told(tmp_path: Path) -> None:
    whole = model(tmp_path / "whole", data=DataSpec())
    # In a process of its own: the heap of a test session has room for a batch.
    code = f"""if True:
        from pathlib import Path
        from evaluating import evaluated
        from passt_bench.errors import InputError
        from passt_bench.measure.memory import memory_limit
        status = Path("/proc/self/status").read_text()
        used = 1024 * int(status.split("VmData:")[1].split()[0])
        with memory_limit(used + 50 * 2**20):
            try:
                evaluated(Path({str(tmp_path)!r}), Path({str(whole)!r}), batch=400)
            except InputError as error:
                print(error)
    """
    path = os.pathsep.join(
        [str(Path(__file__).parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert "--batch = 400: memory ran out" in done.stdout, done.stderr


@pytest.mark.parametrize("broken", [b"", b"\x93NUMPY half", b"something else"])
def test_what_was_left_broken_is_computed_anew(broken: bytes, one: Path, tmp_path: Path) -> None:
    key = evaluated(tmp_path / "whole", one).key
    folder = Store(tmp_path / "cut").folder(key)
    folder.mkdir(parents=True)
    (folder / evaluation.PARTIAL).write_bytes(broken)
    whole = Store(tmp_path / "whole").evaluation(key)
    assert whole is not None
    assert evaluated(tmp_path / "cut", one).metrics == whole.metrics


def test_two_at_once_are_kept_apart(one: Path, tmp_path: Path) -> None:
    key = evaluated(tmp_path, one).key
    with (
        FileLock(tmp_path / "locks" / f"{key}.lock"),
        pytest.raises(InputError, match="another process is running this evaluation"),
    ):
        evaluated(tmp_path, one)


def test_logits_are_brought_into_the_datas_order(one: Path, tmp_path: Path) -> None:
    turned = model(tmp_path / "turned.safetensors", CLASSES[::-1])  # the same weights
    record = evaluated(tmp_path, turned)
    targets, logits = by_hand(one)
    for c, name in enumerate(CLASSES):
        if targets[:, c].any():
            wanted = average_precision_score(targets[:, c], logits[:, 15 - c])
            assert record.per_class["mAP"][name] == pytest.approx(wanted, abs=1e-6)


def test_a_trained_model_gets_the_metric_of_its_own_run(cli: Cli, tmp_path: Path) -> None:
    study = tmp_path / "short.py"
    study.write_text(
        '"""Is it the same?"""\n'
        "from passt_bench.ablations.recipes import synthetic\n"
        "from passt_bench.spec import Study, Variant, override\n"
        'STUDY = Study(name="short", question="?", base=override(synthetic(), {\n'
        '    "model.width": 16, "model.depth": 1, "model.heads": 2, "data.train_clips": 32,\n'
        '    "data.test_clips": 60, "training.epochs": 1}), baseline="a",\n'
        '    variants=(Variant("a"), Variant("b", {"salt": 1})), seeds=(0,))\n'
    )
    out = tmp_path / "runs"
    words = ("--no-cost", "--no-track", "--keep-models", "--runs", out)
    status, said = cli("run", study, *words, "--reports", tmp_path / "reports")
    assert status == 0, said
    for run in list(Store(out).records()):
        assert run.kind == "quality"
        record = evaluated(out, Store(out).folder(run.key) / "model.safetensors")
        assert record.name == run.key
        assert record.fingerprint.digest == run.fingerprint.digest
        assert record.metrics["mAP"] == pytest.approx(run.metrics["mAP"], abs=1e-6)
    frame = load_frame(out)
    assert sorted(frame["kind"]) == ["evaluation", "evaluation", "quality", "quality"]


def test_merge_diff_clean_and_frame_know_evaluations(one: Path, tmp_path: Path) -> None:
    record = evaluated(tmp_path / "a", one, metrics=("mAP", "AUC"))
    evaluated(tmp_path / "b", model(tmp_path / "two", seed=1))
    close = {name: value + 1e-7 for name, value in record.metrics.items()}
    Store(tmp_path / "b").write(replace(record, metrics=close))  # another processor's
    done = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    assert (len(done.copied), done.kept) == (2, [record.key])
    merged = Store(tmp_path / "all")
    assert merged.evaluation(record.key) == record
    frame = load_frame(tmp_path / "all").set_index("key")
    row = frame.loc[record.key]
    assert (row["mAP"], row["checkpoints"]) == (record.metrics["mAP"], "one.safetensors")
    assert (row["mAP_low"], row["mAP_high"]) == record.intervals["mAP"]
    assert row["model.name"] == "passt_micro"
    first, second = (find_record(key, merged) for key in frame.index)
    assert compare_records(first, second)[0].keys() > {"version of.metric AUC"}
    unused = [item for item in find_removable(tmp_path / "all") if item.results]
    assert [item.paths for item in unused] == [()]
    Store(tmp_path / "b").write(replace(record, metrics={"mAP": 0.9, "AUC": 0.9}))
    with pytest.raises(InputError, match="under the same key"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_command_tells_metric_published_and_page(cli: Cli, tmp_path: Path) -> None:
    one = model(tmp_path / "one")
    (tmp_path / "runs").mkdir()
    words = ("--data", "synthetic", "--runs", tmp_path / "runs", "--reports", tmp_path / "reports")
    status, said = cli("evaluate", "--checkpoint", one, *words, "--metrics", "mAP,AUC")
    assert status == 0
    assert "40 clips of synthetic (test)" in said
    assert "between trainings" in said
    (record,) = Store(tmp_path / "runs").evaluations()
    assert f"{record.metrics['AUC']:.2f}"[:4] in said
    assert (tmp_path / "reports" / "evaluations" / "index.html").is_file()
    status, said = cli("evaluate", "--checkpoint", one, *words, "--metrics", "mAP,AUC")
    assert status == 0
    assert "shown from the record" in said
    reports = tmp_path / "again"
    status, said = cli("report", "--runs", tmp_path / "runs", "--reports", reports)
    assert status == 0
    assert str(reports / "evaluations" / "index.html") in said
    status, said = cli("evaluate", "--checkpoint", tmp_path / "gone", *words)
    assert status == 2
    assert "no such file" in said
