"""What evaluations ask for: classes, splits, metrics of each data set, published numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import layouts
import pytest
import torch
from evaluating import evaluated, model

from passt_bench.data.synthetic import CLASSES
from passt_bench.errors import InputError
from passt_bench.models import create_model
from passt_bench.records.store import Store
from passt_bench.runner.evaluation import match_classes
from passt_bench.runner.evaluation_inputs import published_results
from passt_bench.runner.request import DATA_VARIABLE
from passt_bench.spec import DataSpec


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return model(tmp_path / "one.safetensors")


def test_classes_are_matched_by_name() -> None:
    columns, note = match_classes(("b", "a"), ("a", "b"))
    assert (columns.tolist(), note) == ([1, 0], "")
    columns, note = match_classes(("class 0", "class 1"), ("a", "b"))
    assert columns.tolist() == [0, 1]
    assert "no class names" in note
    with pytest.raises(InputError, match=r"number of classes = 2: the data have 3"):
        match_classes(("a", "b"), ("a", "b", "c"))
    with pytest.raises(
        InputError, match=r"class = 'c': .* does not have this class\. It has 'b', which"
    ):
        match_classes(("a", "b"), ("a", "c"))


def test_names_may_be_given(one: Path, tmp_path: Path) -> None:
    strange = model(tmp_path / "strange", [f"sound {n}" for n in range(16)])
    with pytest.raises(InputError, match="--labels"):
        evaluated(tmp_path, strange)
    named = evaluated(tmp_path, strange, classes=CLASSES)
    assert named.metrics == evaluated(tmp_path, one).metrics


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"split": "tset"}, "unknown split"),
        ({"split": "valid"}, "no clips in this split"),
        ({"fold": 1}, "no folds"),
        ({"metrics": ("mAPs",)}, "unknown metric"),
        ({"metrics": ("accuracy",)}, "may have several"),
        ({"data": "syntetic"}, "unknown data set"),
        ({"data": "synthetic=nowhere"}, "procedural"),
        ({"data": "esc50"}, "needs the folder"),
    ],
)
def test_bad_requests_are_refused_with_nothing_written(
    more: dict[str, object],
    words: str,
    one: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(InputError, match=words):
        evaluated(tmp_path / "runs", one, **more)  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_logits_that_are_not_finite_name_the_clip(tmp_path: Path) -> None:
    wild = model(tmp_path / "wild", scale=1e30)
    with pytest.raises(InputError, match=r"clip = 'test-00000': .* NaN or infinity"):
        evaluated(tmp_path, wild)
    assert not Store(tmp_path).evaluations()


def test_the_training_clips_can_be_scored(tmp_path: Path) -> None:
    few = model(tmp_path / "few", data=DataSpec(train_clips=30, test_clips=10))
    record = evaluated(tmp_path, few, split="train")
    assert (record.clips, record.split) == (30, "train")


def test_folds_are_asked_for(tmp_path: Path) -> None:
    written = layouts.write_esc50(tmp_path / "esc", each=2)
    data = f"esc50={written.root}"
    net = model(tmp_path / "net", written.classes, loss="ce", data=DataSpec("esc50"))
    with pytest.raises(InputError, match="Give the held-out fold: 1, 2, 3, 4, 5"):
        evaluated(tmp_path, net, data=data)
    record = evaluated(tmp_path, net, data=data, fold=2)
    assert (set(record.metrics), record.clips, record.fold) == ({"accuracy"}, 6, 2)


@pytest.mark.parametrize(
    ("write", "name", "metrics"),
    [
        (layouts.write_audioset_hdf5, "audioset", {"mAP_official", "mAP", "AUC", "dprime"}),
        (layouts.write_openmic, "openmic", {"mAP_masked"}),
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
    assert set(record.metrics) == metrics
    assert set(record.intervals) == metrics
    assert record.published == ()
    assert any("no class names" in note for note in record.notes)
    scored = set(record.metrics) - {"mAP_official"}
    assert all(record.scored[name] == len(record.per_class[name]) for name in scored)


def test_partial_labels_need_a_metric_that_knows_them(tmp_path: Path) -> None:
    written = layouts.write_openmic(tmp_path / "data")
    net = model(tmp_path / "net", written.classes)
    with pytest.raises(InputError, match="metrics = 'mAP': some labels are unknown"):
        evaluated(tmp_path, net, data=f"openmic={written.root}", metrics=("mAP",))


@pytest.mark.parametrize(
    ("files", "dataset", "fold", "value"),
    [
        (["passt-s-f128-p16-s10-ap.476-swa.pt"], "audioset", None, 0.476),
        (["passt-s-f128-p16-s10-ap.476-swa.pt"], "fsd50k", None, None),
        (["mine.pt"], "audioset", None, None),
        (
            ["passt-s-f128-p16-s16-ap.473-swa.pt", "passt-s-f128-p16-s14-ap.471-swa.pt"],
            "audioset",
            None,
            0.486,
        ),
        (["passt-s-f128-p16-s16-ap.473-swa.pt", "mine.pt"], "audioset", None, None),
        (["passt-s-f128-p16-s16-ap.473-swa.pt"] * 2, "audioset", None, None),
        (["openmic-passt-s-f128-10sec-p16-s10-ap.85.pt"], "openmic", None, 0.85),
        (["esc50-passt-s-n-f128-p16-s10-fold2-acc.977.pt"], "esc50", 2, 0.977),
        (["esc50-passt-s-n-f128-p16-s10-fold2-acc.977.pt"], "esc50", 3, None),
    ],
)
def test_published_rows_are_known_by_their_files(
    files: list[str], dataset: str, fold: int | None, value: float | None
) -> None:
    found = published_results(files, dataset, fold)
    assert {result.value for result in found} == ({value} if value is not None else set())


def test_the_command_shows_what_is_published_of_a_released_file(
    cli: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Its weights are random here: the name of the file is what is recognised, and told as such."""
    file = tmp_path / "passt-s-f128-p16-s16-ap.473-swa.pt"
    net = create_model("passt_s", 527, stride=16, frames=998, width=64, depth=1, heads=1)
    torch.save(net.state_dict(), file)
    written = layouts.write_audioset_hdf5(tmp_path / "data")
    (tmp_path / "runs").mkdir()
    folders = ("--runs", tmp_path / "runs", "--reports", tmp_path / "reports")
    data = f"audioset={written.root}"
    mine = tmp_path / "mine.pt"  # the same weights under another name are not known ...
    mine.write_bytes(file.read_bytes())
    status, said = cli("evaluate", "--checkpoint", mine, "--data", data, *folders)
    assert status == 0 and "Published: " not in said
    status, said = cli("evaluate", "--checkpoint", file, "--data", data, *folders)
    assert status == 0 and "shown from the record" in said  # ... until they come under their own
    assert "0.473" in said and "Published: released weights." in said
    assert "Note: published on 18951 clips, 5 here" in said
    (record,) = Store(tmp_path / "runs").evaluations()
    assert record.scored["mAP"] < 527
    assert record.scored["mAP_official"] == 527
    assert [result.metric for result in record.published] == ["mAP_official"]
    table = (tmp_path / "reports" / "evaluations" / "tables" / "evaluations.md").read_text()
    assert "released weights" in table
