"""Two models on the same clips: what the comparison holds, refuses, and how it resumes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from fixtures import Cli
from small_model import SIZE, write_model

from passt_bench import load_frame
from passt_bench.data.synthetic import CLASSES
from passt_bench.errors import InputError
from passt_bench.models import create_model, save_model
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import count_of
from passt_bench.records.store import Store
from passt_bench.runner import evaluation
from passt_bench.runner.evaluation import evaluate_checkpoints
from passt_bench.runner.maintenance import compare_records
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Recipe

CLIPS = DataSpec(seconds=1.0, test_clips=40)


def evaluated(out: Path, model: Path, **more: Any) -> EvaluationRecord:
    return evaluate_checkpoints([str(model)], "synthetic", out, **more)[0]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "one.safetensors", CLASSES, data=CLIPS)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another width, sampling rate, clip length, order of classes and number of clips."""
    size = {**SIZE, "width": 32}
    recipe = Recipe(
        model=ModelSpec("passt_micro", **size),  # type: ignore[arg-type]
        frontend=FrontendSpec(hop=250, sampling_rate=8000, fmax=3700.0),
        data=DataSpec(seconds=2.0, test_clips=41),
    )
    net = create_model("passt_micro", len(CLASSES), mels=64, frames=64, seed=2, **size)
    return save_model(tmp_path_factory.mktemp("wide") / "wide.pt", net, recipe, CLASSES[::-1])


def test_a_difference_is_that_of_the_models_alone_on_the_first_ones_clips(
    one: Path, wide: Path, tmp_path: Path
) -> None:
    names = ("mAP", "AUC")
    record = evaluated(tmp_path, one, against=str(wide), metrics=names)
    first, second = (evaluated(tmp_path, path, metrics=names) for path in (one, wide))
    against = record.against
    assert against is not None
    assert (record.clips, first.clips, second.clips) == (40, 40, 41)
    assert (against.name, against.seconds, against.sampling_rate) == ("wide.pt", 2.0, 8000)
    assert (record.metrics, record.intervals) == (first.metrics, first.intervals)
    turned = evaluated(tmp_path, wide, against=str(one), metrics=names)  # on 41 clips
    assert turned.metrics == second.metrics != against.metrics
    for name, item in against.differences.items():
        assert item.value == record.metrics[name] - against.metrics[name]
        assert item.low < item.value < item.high
        assert item.p is None
    assert len({record.key, first.key, second.key, turned.key}) == 4
    frame = load_frame(tmp_path).set_index("key")
    assert frame.loc[record.key, "against"] == "wide.pt"
    assert set(compare_records(record, first)) >= {"against.margin", "against.name"}
    other = evaluated(tmp_path, one, against=str(wide), metrics=names, margin=0.9)
    assert other.against is not None and other.key != record.key
    verdicts = {name: item.verdict for name, item in other.against.differences.items()}
    assert verdicts["mAP"] == "same" != verdicts["AUC"]


def test_a_model_is_the_same_as_itself_under_another_name(one: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(one.read_bytes())
    record = evaluated(tmp_path, one, against=str(copy))
    assert record.against is not None
    item = record.against.differences["mAP"]
    assert (item.value, item.low, item.high, item.verdict) == (0, 0, 0, "same")
    again, fresh = evaluate_checkpoints([str(one)], "synthetic", tmp_path, against=str(copy))
    assert (again, fresh) == (record, False)


def test_an_interrupted_comparison_scores_no_clip_twice(
    one: Path, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluated(tmp_path / "whole", one, against=str(wide), batch=10)
    said: list[tuple[float, str]] = []

    def watch(share: float, text: str) -> None:
        said.append((share, text))
        if len(said) == 6:
            raise KeyboardInterrupt

    more: dict[str, Any] = {"against": str(wide), "batch": 10, "progress": watch}
    with pytest.raises(KeyboardInterrupt):
        evaluated(tmp_path / "runs", one, **more)
    saved = [evaluation.PARTIAL, evaluation.PARTIAL_AGAINST]
    (folder,) = (tmp_path / "runs" / "records").iterdir()
    assert [len(np.load(folder / name)) for name in saved] == [40, 20]
    record = evaluated(tmp_path / "runs", one, **more)
    assert [share for share, _ in said] == pytest.approx(
        [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1, 1]
    )
    assert (record.metrics, record.against) == (whole.metrics, whole.against)
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_models_of_other_classes_and_other_clips_are_refused(
    one: Path, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = write_model(tmp_path / "strange", [f"sound {n}" for n in range(16)], data=CLIPS)
    few = write_model(tmp_path / "few", CLASSES[:5], data=CLIPS)
    runs = tmp_path / "runs"
    for other, field in ((strange, "class"), (few, "number of classes")):
        with pytest.raises(InputError) as caught:
            evaluated(runs, one, against=str(other))
        assert (caught.value.source, caught.value.field) == (other.name, field)
    nameless = write_model(tmp_path / "none", [f"class {n}" for n in range(16)], data=CLIPS)
    record = evaluated(runs, one, against=str(nameless))
    assert any(note.startswith("none: ") and "no class names" in note for note in record.notes)
    named = evaluated(runs, one, against=str(strange), classes=CLASSES)
    kept = evaluated(runs, one, against=str(wide), classes=CLASSES)  # its own names are right
    assert named.against is not None and kept.against is not None
    assert named.against.differences["mAP"].value == 0
    plain = evaluated(runs, one, against=str(wide))
    assert kept.against == plain.against

    opened = evaluation.open_dataset

    def other_clips(spec: DataSpec, rate: int, root: Path | None) -> Any:
        data = opened(spec, rate, root)
        if rate == 8000:
            object.__setattr__(data, "ids", [f"{name}x" for name in data.ids])
        return data

    monkeypatch.setattr(evaluation, "open_dataset", other_clips)
    with pytest.raises(InputError) as caught:
        evaluated(tmp_path / "none yet", one, against=str(wide))
    assert (caught.value.source, caught.value.field) == ("wide.pt", "--against")
    assert not (tmp_path / "none yet").exists()


def test_the_command_shows_the_discordant_clips(cli: Cli, tmp_path: Path) -> None:
    written = layouts.write_esc50(tmp_path / "esc", each=2)
    more: dict[str, Any] = {"loss": "ce", "data": DataSpec("esc50")}
    files = [
        write_model(tmp_path / f"{seed}.safetensors", written.classes, seed=seed, **more)
        for seed in (0, 1)
    ]
    words = ("--data", f"esc50={written.root}", "--fold", 2, "--runs", tmp_path / "runs")
    status, said = cli("evaluate", "--checkpoint", files[0], "--against", files[1], *words)
    assert status == 0, said
    assert "McNemar" in said and "not about retraining" in " ".join(said.split())
    (record,) = Store(tmp_path / "runs").evaluations()
    assert record.against is not None
    item = record.against.differences["accuracy"]
    assert item.only_first is not None and item.only_second is not None
    counts = (
        f"only A is right on {count_of(item.only_first, 'clip')}, only B on {item.only_second}."
    )
    assert f"accuracy: {counts}" in said
    assert re.search(r"accuracy [+−\d.]+ \[[+−\d.]+, [+−\d.]+\] ", said)  # on one line
    assert item.value == pytest.approx((item.only_first - item.only_second) / record.clips)
    page = tmp_path / "runs" / "reports" / "evaluations" / "index.html"
    assert 'id="comparisons-table"' in page.read_text(encoding="utf-8")
    assert cli("evaluate", "--checkpoint", files[0], "--margin", -1, *words)[0] == 2
