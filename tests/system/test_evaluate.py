"""Evaluations: what they compute, ask for, refuse, resume and leave behind."""

import functools
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
import torch
from filelock import FileLock
from fixtures import Cli
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from small_model import write_model

from passt_bench import load_frame
from passt_bench.data import open_dataset
from passt_bench.data.synthetic import CLASSES
from passt_bench.errors import InputError
from passt_bench.models import create_model
from passt_bench.models.ensemble import Ensemble, build_ensemble
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.files import is_sealed, to_json, writing
from passt_bench.records.store import Store
from passt_bench.runner import evaluation
from passt_bench.runner.evaluation import evaluate_checkpoints
from passt_bench.runner.evaluation_inputs import match_classes, published_results
from passt_bench.runner.maintenance import compare_records, find_record, find_removable, merge
from passt_bench.runner.request import DATA_VARIABLE
from passt_bench.spec import DataSpec
from passt_bench.training import evaluate as training_evaluate

SCORABLE = {"train": 8, "test": 8}  # OpenMIC: test clips of which a class has both labels
S16 = "passt-s-f128-p16-s16-ap.473-swa.pt"


def model(path: Path, classes: Sequence[str] = CLASSES, **changes: Any) -> Path:
    return write_model(path, classes, **{"data": DataSpec(seconds=1.0, test_clips=40), **changes})


def evaluated(
    out: Path, *checkpoints: Path, data: str = "synthetic", **more: Any
) -> EvaluationRecord:
    """Evaluates checkpoints; more arguments by name."""
    return evaluate_checkpoints([str(path) for path in checkpoints], data, out, **more)[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model files: two that differ, and the first with its classes in reverse order."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "one": model(folder / "one.safetensors"),
        "two": model(folder / "two.safetensors", seed=1),
        "turned": model(folder / "turned.safetensors", CLASSES[::-1]),
    }


@pytest.fixture
def one(models: dict[str, Path]) -> Path:
    return models["one"]


@pytest.fixture(scope="module")
def whole(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> EvaluationRecord:
    """The evaluation of the first model, which nothing stopped."""
    return evaluated(tmp_path_factory.mktemp("whole"), models["one"], batch=7)


@functools.cache
def by_hand(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """Targets and logits of the test clips, one clip at a time."""
    ensemble = build_ensemble(checkpoint)
    dataset = open_dataset(DataSpec("synthetic", 1.0, test_clips=40), 16000, None)
    _, test = dataset.split(None)
    with torch.no_grad():
        rows = [ensemble(torch.from_numpy(dataset.waveform(int(i)))[None])[0].numpy() for i in test]
    return dataset.targets[test], np.stack(rows)


def mean_precision(targets: np.ndarray, logits: np.ndarray) -> float:
    present = targets.any(axis=0)
    found = average_precision_score(targets[:, present], logits[:, present], average="macro")
    return float(found)


def test_the_metric_is_that_of_the_models_own_logits(whole: EvaluationRecord, one: Path) -> None:
    targets, logits = by_hand(one)
    assert whole.metrics == {"mAP": pytest.approx(mean_precision(targets, logits), abs=1e-6)}
    low, high = whole.intervals["mAP"]
    assert low < whole.metrics["mAP"] < high
    assert (whole.clips, whole.seconds, whole.sampling_rate) == (40, 1.0, 16000)
    assert (whole.split, whole.fold, whole.name) == ("test", None, "one.safetensors")
    assert whole.scored["mAP"] == len(whole.per_class["mAP"]) == targets.any(axis=0).sum()
    assert "numbers of clips as in the model's recipe: test_clips=40" in whole.notes
    assert any("40 clips" in note for note in whole.notes)
    assert str(one.parent) not in to_json(whole)
    decided = logits >= 0  # a probability of 0.5
    found = precision_recall_fscore_support(targets, decided, zero_division=np.nan)
    assert whole.decisions is not None and whole.confusion is None
    for name, (each, *wanted) in zip(
        CLASSES, zip(decided.sum(axis=0), *found, strict=True), strict=True
    ):
        item = whole.decisions[name]
        values = item.precision, item.recall, item.f1, item.clips
        known = [np.nan if value is None else value for value in values]
        assert (item.decided, item.threshold) == (each, 0.5)
        assert known == pytest.approx(wanted, nan_ok=True)


def test_an_ensemble_is_the_mean_in_any_order(models: dict[str, Path], tmp_path: Path) -> None:
    one, two = models["one"], models["two"]
    record = evaluated(tmp_path, one, two)
    targets, first = by_hand(one)
    wanted = mean_precision(targets, (first + by_hand(two)[1]) / 2)
    assert record.metrics["mAP"] == pytest.approx(wanted, abs=1e-6)
    assert record.name == "one.safetensors, two.safetensors"
    assert evaluated(tmp_path, two, one).key == record.key
    assert len(Store(tmp_path).evaluations()) == 1


def test_order_of_classes(models: dict[str, Path], whole: EvaluationRecord, tmp_path: Path) -> None:
    record = evaluated(tmp_path, models["turned"])  # the same weights
    targets, logits = by_hand(models["one"])
    for c, name in enumerate(CLASSES):
        if targets[:, c].any():
            wanted = average_precision_score(targets[:, c], logits[:, 15 - c])
            assert record.per_class["mAP"][name] == pytest.approx(wanted, abs=1e-6)
    keys = {
        whole.key,
        record.key,
        evaluated(tmp_path, models["two"]).key,
        evaluated(tmp_path, models["one"], metrics=("AUC",)).key,
        evaluated(tmp_path, models["one"], metrics=("AUC", "mAP")).key,
        evaluated(tmp_path, model(tmp_path / "a", data=DataSpec(test_clips=41))).key,
    }
    assert len(keys) == 6  # whatever decides the result is in the key


def test_an_interrupted_evaluation_resumes_and_is_not_repeated(
    one: Path, whole: EvaluationRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    kept: list[int] = []

    def watch(share: float, text: str) -> None:
        shares.append(share)
        kept.extend(len(np.load(path)) for path in tmp_path.glob(f"records/*/{evaluation.PARTIAL}"))
        if len(shares) == 3:
            raise KeyboardInterrupt

    resume = partial(
        evaluate_checkpoints, [str(one)], "synthetic", tmp_path, batch=10, progress=watch
    )
    with monkeypatch.context() as patched:
        patched.setattr(training_evaluate, "SAVE_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            resume()
    assert kept == [10, 20]  # as it went on
    (left,) = tmp_path.glob(f"records/*/{evaluation.PARTIAL}")
    assert np.load(left).shape == (30, 16)
    record, fresh = resume()
    assert fresh and shares[3:] == [1.0, 1.0]
    assert not left.exists()
    for name in ("key", "scored", "notes"):
        assert getattr(record, name) == getattr(whole, name)
    assert record.metrics == pytest.approx(whole.metrics, abs=1e-6)  # other batches
    assert resume() == (record, False)
    assert len(shares) == 5


def test_what_was_left_broken_is_computed_anew_and_two_at_once_are_kept_apart(
    one: Path, whole: EvaluationRecord, tmp_path: Path
) -> None:
    lock = tmp_path / "locks" / f"{whole.key}.lock"
    lock.parent.mkdir()
    with FileLock(lock), pytest.raises(InputError, match="another process") as caught:
        evaluated(tmp_path, one)
    assert caught.value.source == str(lock)
    folder = Store(tmp_path).folder(whole.key)
    other = io.BytesIO()
    np.save(other, np.zeros((30, 16), np.float32))  # logits, but not those of this model
    whole_ones = []  # and whole ones of another evaluation, or of the other model
    for place in (tmp_path / "other" / evaluation.PARTIAL, folder / evaluation.PARTIAL_AGAINST):
        with writing(place, sealed=True) as file:
            file.write(other.getvalue())
        assert is_sealed(place)
        whole_ones.append(place.read_bytes())
    for broken in (b"", b"\x93NUMPY half", b"something else", other.getvalue(), *whole_ones):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / evaluation.PARTIAL).write_bytes(broken)
        assert evaluated(tmp_path, one, batch=7).metrics == whole.metrics


def test_what_only_the_model_shows_names_the_option_or_the_clip(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError) as caught:
        evaluated(tmp_path, model(tmp_path / "wild", scale=1e30))  # its logits are not finite
    assert (caught.value.field, caught.value.value) == ("clip", "test-00000")
    monkeypatch.setattr(Ensemble, "forward", lambda *words, **more: torch.empty(2**60))
    with pytest.raises(InputError) as caught:
        evaluated(tmp_path, one, batch=400)
    assert (caught.value.field, caught.value.value) == ("--batch", 400)


def test_classes_are_matched_by_name(whole: EvaluationRecord, tmp_path: Path) -> None:
    assert match_classes(("b", "a"), ("a", "b"))[0].tolist() == [1, 0]
    columns, (note,) = match_classes(("class 0", "class 1"), ("a", "b"))
    assert columns.tolist() == [0, 1]
    assert "no class names" in note
    for theirs, field, value in (
        (("a", "b", "c"), "number of classes", 2),
        (("a", "c"), "class", "c"),
    ):
        with pytest.raises(InputError) as caught:
            match_classes(("a", "b"), theirs)
        assert (caught.value.field, caught.value.value) == (field, value)
    with pytest.raises(InputError, match="some of the model's classes: put all .* classes.txt"):
        match_classes(("a", "b", "c"), ("a", "c"))
    with pytest.raises(InputError, match="one of them twice"):
        match_classes(("a", "a"), ("a", "b"))
    strange = model(tmp_path / "strange", [f"sound {n}" for n in range(16)])
    with pytest.raises(InputError, match="--labels"):
        evaluated(tmp_path, strange)
    assert evaluated(tmp_path, strange, classes=CLASSES, batch=7).metrics == whole.metrics


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"split": "tset"}, "unknown split"),
        ({"split": "valid"}, "no clips in this split"),
        ({"fold": 1}, "no folds"),
        ({"metrics": ("mAPs",)}, "unknown metric"),
        ({"metrics": ("accuracy",)}, "needs one class per clip"),
        ({"data": "esc50"}, "needs the folder"),
    ],
)
def test_bad_requests_are_refused_with_nothing_written(
    more: dict[str, Any], words: str, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(InputError, match=words):
        evaluated(tmp_path / "runs", one, **more)
    assert not (tmp_path / "runs").exists()


def test_folds_are_asked_for(tmp_path: Path) -> None:
    written = layouts.write_esc50(tmp_path / "esc", each=2)
    data = f"esc50={written.root}"
    net = model(tmp_path / "net", written.classes, loss="ce", data=DataSpec("esc50"))
    with pytest.raises(InputError, match="Give the held-out fold: 1, 2, 3, 4, 5"):
        evaluated(tmp_path, net, data=data)
    record = evaluated(tmp_path, net, data=data, fold=2)
    assert (set(record.metrics), record.clips, record.fold) == ({"accuracy"}, 6, 2)
    assert record.decisions is not None and record.confusion is not None
    right = sum(record.confusion.get(name, {}).get(name, 0) for name in record.decisions)
    assert right / 6 == record.metrics["accuracy"]
    for name, clips in record.confusion.items():
        item = record.decisions[name]
        assert (item.clips, item.threshold) == (sum(clips.values()), None)
        assert item.recall == record.per_class["accuracy"][name] == clips.get(name, 0) / item.clips
    record = evaluated(tmp_path, net, data=data, fold=2, split="train")
    assert (record.clips, record.split) == (24, "train")


@pytest.mark.parametrize(
    ("write", "name", "metrics"),
    [
        (layouts.write_audioset_hdf5, "audioset", {"mAP_official", "mAP", "AUC", "dprime"}),
        (partial(layouts.write_openmic, counts=SCORABLE), "openmic", {"mAP_masked"}),
        (layouts.write_fsd50k, "fsd50k", {"mAP"}),
        (layouts.write_dcase20, "dcase20", {"accuracy"}),
        (layouts.write_manifest, "manifest", {"accuracy"}),
        (partial(layouts.write_manifest, multi_label=True), "manifest", {"mAP"}),
    ],
)
def test_each_data_set_has_its_own_metrics(
    write: Callable[[Path], layouts.Written], name: str, metrics: set[str], tmp_path: Path
) -> None:
    written = write(tmp_path / "data")
    net = model(tmp_path / "net", [f"class {n}" for n in range(len(written.classes))])
    record = evaluated(tmp_path, net, data=f"{name}={written.root}")
    assert set(record.metrics) == set(record.intervals) == metrics
    assert record.published == ()
    scored = metrics - {"mAP_official"}
    assert all(record.scored[name] == len(record.per_class[name]) for name in scored)
    if name == "openmic":  # with labels that are unknown
        with pytest.raises(InputError) as caught:
            evaluated(tmp_path, net, data=f"{name}={written.root}", metrics=("mAP",))
        assert (caught.value.field, caught.value.value) == ("metrics", "mAP")


@pytest.mark.parametrize(
    ("files", "dataset", "fold", "value"),
    [
        (["passt-s-f128-p16-s10-ap.476-swa.pt"], "audioset", None, 0.476),
        ([S16, "passt-s-f128-p16-s14-ap.471-swa.pt"], "audioset", None, 0.486),
        ([S16, "mine.pt"], "audioset", None, None),
        ([S16, S16], "audioset", None, None),
        (["openmic-passt-s-f128-10sec-p16-s10-ap.85.pt"], "openmic", None, 0.85),
        (["esc50-passt-s-n-f128-p16-s10-fold2-acc.977.pt"], "esc50", 2, 0.977),
        (["esc50-passt-s-n-f128-p16-s10-fold2-acc.977.pt"], "esc50", 3, None),
    ],
)
def test_published_results_are_found_by_the_files_names(
    files: list[str], dataset: str, fold: int | None, value: float | None
) -> None:
    found = published_results(files, dataset, fold)
    assert {result.value for result in found} == ({value} if value is not None else set())


def test_merge_diff_clean_and_frame_know_them(models: dict[str, Path], tmp_path: Path) -> None:
    record = evaluated(tmp_path / "a", models["one"], metrics=("mAP", "AUC"))
    evaluated(tmp_path / "b", models["two"])
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
    assert compare_records(first, second).keys() > {"components.metric AUC"}
    unused = [item for item in find_removable(tmp_path / "all") if item.results]
    assert [item.paths for item in unused] == [()]
    Store(tmp_path / "b").write(replace(record, metrics={"mAP": 0.9, "AUC": 0.9}))
    with pytest.raises(InputError, match="under the same key"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_command_shows_metric_published_result_and_page(cli: Cli, tmp_path: Path) -> None:
    """The weights are random: a released file is recognized by its name."""
    file, mine = tmp_path / S16, tmp_path / "mine.pt"
    net = create_model("passt_s", 527, stride=16, frames=998, width=64, depth=1, heads=1)
    torch.save(net.state_dict(), file)
    mine.write_bytes(file.read_bytes())
    written, runs = layouts.write_audioset_hdf5(tmp_path / "data"), tmp_path / "runs"
    runs.mkdir()
    words = ("--data", f"audioset={written.root}", "--runs", runs)
    folder = ("--reports", tmp_path / "reports")
    status, said = cli("evaluate", "--checkpoint", mine, *words, *folder)
    assert status == 0
    assert "5 clips of audioset, test" in said
    assert "classes without a clip in test" in said  # a note on the data
    assert "Note: mine.pt: not all of this is stated in the file: 32000 Hz" in said
    assert "Published: " not in said  # the same weights under another name are not known
    runs = tmp_path / "others"
    runs.mkdir()
    words = (*words[:-1], runs)
    status, said = cli("evaluate", "--checkpoint", file, *words, *folder)
    assert status == 0
    assert "0.473" in said
    assert "Published: released weights." in said
    assert "Note: published on 18951 clips, 5 here" in said
    (record,) = Store(runs).evaluations()
    assert f"{record.metrics['AUC']:.2f}"[:4] in said
    assert record.scored["mAP"] < record.scored["mAP_official"] == 527
    assert [result.metric for result in record.published] == ["mAP_official"]
    table = (tmp_path / "reports" / "evaluations" / "tables" / "evaluations.md").read_text()
    assert "released weights" in table
    status, said = cli("report", "--runs", runs, "--reports", tmp_path / "again")
    assert status == 0
    assert str(tmp_path / "again" / "evaluations" / "index.html") in said
