"""The studies of the paper's tables: what they need, and that they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import Cli
from layouts import write_audioset_folder, write_esc50
from small_weights import HEADS, WIDTH, write_published

from passt_bench.errors import InputError
from passt_bench.paper import STUDIES, corpora, published_rows, read_published
from passt_bench.published_weights import ENSEMBLES
from passt_bench.records.store import Store
from passt_bench.report.paper import find_evaluations
from passt_bench.runner.plan import StudyPlan, plan_request
from passt_bench.runner.prediction import Predictor
from passt_bench.runner.request import Paths, StudyRequest, data_folders
from passt_bench.runner.studies import find_available, load_study, study_names

SMALL = (f"model.width={WIDTH}", f"model.heads={HEADS}", "engine.precision=float32")
BRIEF = ("training.epochs=1", "training.batch_size=2", "training.swa_start=null")


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without data, weights and GPU."""
    monkeypatch.delenv("PASST_BENCH_DATA", raising=False)
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)


def plan(name: str, *data: str, listed: bool = True, **asked: Any) -> StudyPlan:
    request = StudyRequest(name, **asked)
    paths = Paths(Path("runs"), data_folders(data))
    return plan_request(load_study(name), request, paths, listed=listed)


def names(study: StudyPlan) -> list[str]:
    return [variant.name for variant in study.record.variants]


def test_every_study_is_listed_without_its_data(
    cli: Cli, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """One study; all of them with ``--long``, as `nox -s assurance` gives it."""
    assert set(STUDIES) < set(study_names())
    every = pytestconfig.getoption("--long")
    found = plan("paper_table1").record.variants if every else ()
    one = {variant.name: variant for variant in found}
    for line in read_published("table1"):
        if line["model"] in one:
            assert one[line["model"]].tokens == int(line["train_sequence"] or 0)
    for name in STUDIES if every else ["paper_table3_esc50"]:
        data, _ = STUDIES[name]
        status, text = cli("plan", name, "--set", "model.depth=1")
        assert status == 0
        corpus = corpora()[data.split()[0]]
        assert f"{corpus.training:,} clips for training" in text
        assert f"about {corpus.disk_gb:g} GB on disk: give --data {corpus.name}=DIR." in text
        assert "passt-bench weights get passt_" in text
        assert "give a GPU's name" in text
    assert "0.968" in cli("plan", "paper_table3_esc50", "--gpu", "H100")[1]
    assert not list(tmp_path.iterdir())


def test_what_is_expected_follows_from_the_published_numbers_of_clips() -> None:
    study, h100 = plan("paper_table3_esc50"), Predictor(Path("runs"), "H100")
    assert not study.cells
    variant = next(v for v in study.record.variants if v.name == "PaSST-S-N")
    runs, seconds = study.expected(variant, h100)
    assert (variant.tokens, runs) == (158, 15)
    step = h100.predict(variant.recipe, 50)
    assert step is not None
    steps = 10 * (1600 // variant.recipe.training.batch_size)
    assert steps * step.seconds < seconds < 1.5 * steps * step.seconds  # evaluation comes on top
    assert plan("paper_table3_esc50", folds=2).record.folds == (1, 2)
    assert study.expected(variant, Predictor(Path("runs")))[1] != seconds  # of no GPU


def test_what_lacks_its_weights_is_left_out_unless_asked_for(cli: Cli, tmp_path: Path) -> None:
    """Nobody needs what other rows start from."""
    data = f"esc50={write_esc50(tmp_path / 'ESC-50').root}"
    asked: dict[str, Any] = {"overrides": (*SMALL, *BRIEF), "device": "cpu", "folds": 1}
    with pytest.raises(InputError) as caught:  # all of them lack theirs
        plan("paper_table3_esc50", data, listed=False, **asked)
    assert caught.value.field == "init.checkpoint"
    write_published(tmp_path / "weights", ["passt_s_swa_p16_s16_128_ap473"])
    study = plan("paper_table3_esc50", data, listed=False, **asked)
    assert names(study) == ["PaSST-S-N"] and study.record.baseline == "PaSST-S-N"
    assert len(study.cells) == 3
    assert "PaSST-B, PaSST-U, PaSST-S, PaSST-S-L start from are not here" in study.notes[0]
    assert names(plan("paper_table3_esc50", data, **asked))[0] == "PaSST-B"  # a list has them all
    status, text = cli("plan", "paper_table3_esc50", "--data", data, "--set", "model.depth=1")
    assert (status, "give --data" in text, "weights get" in text) == (0, False, True)
    with pytest.raises(InputError) as caught:
        plan("paper_table3_esc50", data, listed=False, variants=("PaSST-U",), **asked)
    assert caught.value.value == "passt_s_swa_p16_128_ap476"
    assert "weights get passt_s_swa_p16_128_ap476" in str(caught.value.remedy)
    assert find_available([]).weights == {"passt_s_swa_p16_s16_128_ap473"}


def test_without_data_nothing_runs(cli: Cli, tmp_path: Path) -> None:
    write_published(tmp_path / "weights", ["passt_deit_bd_p16_384"])
    status, text = cli("run", "paper_table1", "--device", "cpu")
    assert (status, "--data audioset=DIR" in text) == (2, True), text
    data = f"audioset={write_audioset_folder(tmp_path / 'audioset').root}"
    few = [word for item in (*SMALL, "training.epoch_clips=2") for word in ("--set", item)]
    status, text = cli("run", "paper_table1", "--data", data, *few)
    assert (status, "--device cpu" in text) == (2, True), text
    assert not Path("runs/records").exists()


def test_rows_on_real_files_run_end_to_end(cli: Cli, tmp_path: Path) -> None:
    weights = ("passt_s_swa_p16_128_ap476", "passt_s_swa_p16_s16_128_ap473")
    write_published(tmp_path / "weights", weights)
    root = write_esc50(tmp_path / "ESC-50").root
    asked = ("--data", f"esc50={root}", "--device", "cpu", "--seeds", 1, "--folds", 1)
    asked += tuple(w for s in (*SMALL, *BRIEF, "data.train_clips=4") for w in ("--set", s))
    quietly = ("--no-cost", "--no-track", "--workers", 2)
    status, text = cli("run", "paper_table3_esc50", *asked, *quietly)
    assert (status, "5 runs, none done yet" in text) == (0, True), text
    reports, store = tmp_path / "runs" / "reports", Store(tmp_path / "runs")
    assert (reports / "paper_table3_esc50" / "index.html").is_file()
    for variant in store.study("paper_table3_esc50").variants:
        record = store.run(variant.cells[0].key)
        assert record is not None and record.status == "ok"
        assert record.notes[0].startswith("passt-s-f128-p16-s1")  # where its weights come from
    assert cli("report", "--runs", "runs")[0] == 0
    told = (reports / "paper" / "table3_here.csv").read_text(encoding="utf-8")
    assert "ESC-50: accuracy" in told
    assert "15 of 2000 clips, model.width = 64" in told
    assert "OpenMIC, DCASE20, FSD50K: no data, no GPU" in told
    status, text = cli("status", "paper_table3_esc50", *asked)
    assert (status, "5 runs, all done" in text) == (0, True)


def test_an_ensemble_is_evaluated_and_found_again(cli: Cli, tmp_path: Path) -> None:
    row = next(row for row in published_rows() if len(row.members) == 2)
    name = next(name for name, members in ENSEMBLES.items() if members == row.members)
    write_published(tmp_path / "weights", row.members)
    data = f"audioset={write_audioset_folder(tmp_path / 'audioset').root}"
    status, text = cli("evaluate", "--checkpoint", name, "--data", data)
    assert (status, "mAP_official" in text, "0.486" in text) == (0, True, True), text
    store = Store(tmp_path / "runs")
    (record,) = store.evaluations()
    assert record.published_of(row.metric) is not None
    assert find_evaluations([row], [store]) == {row.members: record}


@pytest.mark.parametrize(
    ("name", "asked", "field", "value"),
    [
        ("1", {"folds": 1}, "--folds", 1),
        ("3_esc50", {"folds": 6}, "--folds", 6),
        ("3_esc50", {"folds": 0}, "--folds", 0),
        ("3_fsd50k", {"seeds": 0}, "--seeds", 0),
        ("3_esc50", {"variants": ("PaSST",)}, "--variant", "PaSST"),
        ("1", {"variants": ("PaSST-B",), "with_baseline": False}, "--variant", "PaSST-B"),
        ("3_openmic", {"overrides": ("training.epoch=4",)}, "training.epoch", 4),
        ("3_openmic", {"overrides": ("training.epoch_clips=9",)}, "training.epoch_clips", 9),
        ("1", {"overrides": ("training.epoch_clips=9", "training.sampling=shuffle")},
         "training.epoch_clips", 9),
    ],
)  # fmt: skip
def test_what_a_study_of_the_paper_refuses(
    name: str, asked: dict[str, Any], field: str, value: object
) -> None:
    with pytest.raises(InputError) as caught:
        plan(f"paper_table{name}", **asked)
    assert (caught.value.field, caught.value.value) == (field, value)
    assert caught.value.remedy
    assert not Path("runs").exists()
