"""Patchout of trained models: evaluations and predictions with fewer patches."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures import Cli
from small_model import write_model

from passt_bench.cli import main
from passt_bench.data.synthetic import CLASSES
from passt_bench.errors import InputError
from passt_bench.models import create_model, save_model
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.files import to_json
from passt_bench.records.store import Store
from passt_bench.runner.evaluation import evaluate_checkpoints
from passt_bench.runner.maintenance import compare_records
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Patchout, Recipe

KINDS = ("structured", "unstructured", "interleaved")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer of 4 x 4 patches."""
    path = tmp_path_factory.mktemp("models") / "one.safetensors"
    return write_model(path, CLASSES, data=DataSpec(seconds=1.0, test_clips=40), scale=3.0)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = create_model("panns_micro", len(CLASSES), mels=64, frames=64)
    recipe = Recipe(model=ModelSpec("panns_micro"), frontend=FrontendSpec(hop=250))
    recipe = replace(recipe, data=DataSpec(seconds=1.0, test_clips=40))
    path = tmp_path_factory.mktemp("cnn") / "cnn.safetensors"
    return save_model(path, net, recipe, tuple(CLASSES))


def evaluated(runs: Path, model: Path, **more: Any) -> EvaluationRecord:
    return evaluate_checkpoints([str(model)], "synthetic", runs, **more)[0]


def test_one_model_at_several_shares_and_kinds(one: Path, tmp_path: Path) -> None:
    plain = evaluated(tmp_path, one)
    assert plain.patchout is None and '"patchout":' not in to_json(plain).split('"recipe"')[0]
    records = {
        (kind, share): evaluated(tmp_path, one, patchout=Patchout(kind, rate=1 - share))
        for kind in KINDS
        for share in (1, 0.75, 0.5, 0.25)
    }
    assert all(records[kind, 1] == plain for kind in KINDS)  # nothing dropped: the same record
    for (kind, share), record in records.items():
        if share < 1:
            assert record.patchout is not None
            setting, ((kept, every),) = record.patchout.setting, record.patchout.tokens
            assert (setting.kind, setting.rate, every) == (kind, 1 - share, 18)
            if kind == "unstructured":
                assert kept == round(16 * share) + 2
            assert record.components["patchout"] == 1
    assert len({record.key for record in records.values()}) == 10
    assert len(Store(tmp_path).evaluations()) == 10
    metrics = [records[kind, 0.5].metrics["mAP"] for kind in KINDS]
    assert len({*metrics, plain.metrics["mAP"]}) == 4
    found = compare_records(records["structured", 0.5], records["interleaved", 0.5])
    assert {name for name in found if name.startswith("patchout")} == {"patchout.kind"}
    assert not any(name.startswith("members") for name in found)


def test_a_rerun_and_another_batch_size_drop_the_same_patches(one: Path, tmp_path: Path) -> None:
    setting = Patchout("structured", rate=0.5)
    first = evaluated(tmp_path / "a", one, patchout=setting, batch=8)
    again = evaluated(tmp_path / "b", one, patchout=setting, batch=8)
    assert (again.key, again.metrics, again.per_class) == (
        first.key,
        first.metrics,
        first.per_class,
    )
    other = evaluated(tmp_path / "c", one, patchout=setting, batch=7)
    assert other.key == first.key
    assert other.metrics == pytest.approx(first.metrics, abs=1e-6)

    said: list[float] = []

    def stop(share: float, text: str) -> None:
        said.append(share)
        if len(said) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluated(tmp_path / "d", one, patchout=setting, progress=stop)
    resumed = evaluated(tmp_path / "d", one, patchout=setting)
    assert resumed.metrics == first.metrics


def test_what_dropping_costs_on_the_same_clips(one: Path, tmp_path: Path) -> None:
    setting = Patchout("time", rate=0.5)
    alike = evaluated(tmp_path, one, patchout=setting, against=str(one))
    alone = evaluated(tmp_path, one, patchout=setting)
    plain = evaluated(tmp_path, one)
    lost = evaluated(tmp_path, one, patchout=setting, against=str(one), against_patchout=Patchout())
    assert alike.against is not None and lost.against is not None
    assert (alike.against.patchout, lost.against.patchout) == (alike.patchout, None)
    assert alike.against.metrics == alike.metrics == alone.metrics
    assert lost.against.metrics == plain.metrics and lost.metrics == alone.metrics
    itself = evaluated(tmp_path, one, patchout=setting, against_patchout=Patchout())
    assert itself == lost
    value = lost.against.differences["mAP"].value
    assert value == alone.metrics["mAP"] - plain.metrics["mAP"]
    assert len({alike.key, alone.key, plain.key, lost.key}) == 4
    assert {"clip", "clip_against"} < set(lost.clocks)


def test_models_without_patches_are_refused(one: Path, cnn: Path, tmp_path: Path) -> None:
    setting = Patchout("structured", rate=0.5)
    assert evaluated(tmp_path, cnn).clips == 40
    runs = tmp_path / "none yet"
    for model, more in ((cnn, {}), (one, {"against": str(cnn)})):
        with pytest.raises(InputError) as caught:
            evaluated(runs, model, patchout=setting, **more)
        assert (caught.value.source, caught.value.field) == (str(cnn), "patchout.kind")
        assert caught.value.value == "structured" and caught.value.remedy
    assert not runs.exists()
    compared = evaluated(
        tmp_path, one, patchout=setting, against=str(cnn), against_patchout=Patchout()
    )
    assert compared.against is not None and compared.against.patchout is None


def test_the_command_says_what_was_dropped(one: Path, cnn: Path, cli: Cli, tmp_path: Path) -> None:
    words = ("evaluate", "--checkpoint", one, "--data", "synthetic", "--runs", tmp_path / "runs")
    dropped = (*words, "--patchout", "time:.5")
    status, said = cli(*dropped, "--against", one, "--against-patchout", "none")
    assert status == 0, said
    text = " ".join(said.split())
    title = "one.safetensors (patchout time:0.5, 10 of 18 tokens kept)"
    assert f"{title}: 40 clips" in text and " per clip, for front end" in text
    value = r"[01]\.\d{3,}"  # with its interval in one line of 80 columns, and as many digits
    assert re.search(rf"mAP {value} \[{value}, {value}\] \d+ of \d+ .*recall {value} \d+ of", text)
    page = tmp_path / "runs" / "reports" / "evaluations" / "index.html"
    assert f"{title} against one.safetensors" in page.read_text(encoding="utf-8")
    (record,) = Store(tmp_path / "runs").evaluations()
    assert record.patchout is not None and record.patchout.tokens == ((10, 18),)
    assert record.patchout.setting == Patchout("time", rate=0.5, scope="sample")
    status, said = cli(*words, "--patchout", "time:0.01")
    assert status == 0 and "drops no patch" in said and "tokens" not in said.split("Record:")[0]

    for more, field in (
        (("--patchout", "time"), "--patchout"),
        (("--patchout", "tiem:.5"), "--patchout"),
        (("--patchout", "time:.99"), "patchout.rate"),
        (("--against-patchout", "time:2"), "--against-patchout"),
        (("--patchout", "time:.5", "--against", cnn), "patchout.kind"),
    ):
        status, said = cli(*words, *more)
        assert status == 2 and field in said, said


def test_predictions_say_what_was_dropped(
    one: Path,
    cnn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio = tmp_path / "a.wav"
    wave = 0.1 * np.random.default_rng(0).standard_normal(40000)
    soundfile.write(audio, wave.astype(np.float32), 16000, subtype="FLOAT")

    def predict(*more: object, model: Path = one) -> tuple[int, str]:
        words = ("passt-bench", "predict", "--checkpoint", model, audio, *more)
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out or shown.err

    plain, half = predict()[1], predict("--patchout", "time:.5")[1]
    kept = "time:0.5, 10 of 18 tokens kept"
    assert half.splitlines()[0] == f"{audio} (2.50 s, 3 windows; patchout {kept})"
    assert half.splitlines()[1:] != plain.splitlines()[1:]
    assert predict("--patchout", "time:.5")[1] == half
    assert predict("--patchout", "none")[1] == plain
    assert predict("--patchout", "time:0")[1].splitlines()[1:] == plain.splitlines()[1:]
    (found,) = json.loads(predict("--patchout", "time:.5", "--format", "json")[1])
    assert found["patchout"] == kept
    assert "patchout" not in json.loads(predict("--format", "json")[1])[0]
    rows = list(csv.DictReader(io.StringIO(predict("--patchout", "time:.5", "--format", "csv")[1])))
    assert {row["patchout"] for row in rows} == {kept}
    assert "patchout" not in predict("--format", "csv")[1]
    status, said = predict("--patchout", "time:.5", model=cnn)
    assert status == 2 and "patchout.kind = 'time'" in said
