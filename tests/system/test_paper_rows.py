"""The rows of the paper's tables: what they need, and that they run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import Cli
from layouts import write_audioset_folder, write_esc50
from small_weights import HEADS, WIDTH, write_published

from passt_bench.errors import InputError
from passt_bench.paper import NO_DATA, NO_GPU, NO_WEIGHTS, REASONS, read_published
from passt_bench.records.store import Store
from passt_bench.report.paper import find_evaluations
from passt_bench.runner.request import Paths, StudyRequest, data_folders
from passt_bench.runner.rows import PlannedRow, RowsPlan, plan_rows
from passt_bench.runner.studies import find_available, load_file, load_study, study_names, summary

TABLES = ("paper_table1", "paper_table2", "paper_table3")
SMALL = (f"model.width={WIDTH}", f"model.heads={HEADS}", "engine.precision=float32")
BRIEF = ("training.epochs=1", "training.batch_size=2", "training.swa_start=null")


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without data, weights and GPU."""
    monkeypatch.delenv("PASST_BENCH_DATA", raising=False)
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)


def plan(table: str, *data: str, **asked: Any) -> RowsPlan:
    paths = Paths(Path("runs"), data_folders(data))
    return plan_rows(load_file(table), StudyRequest(table, **asked), paths)


def named(rows: RowsPlan, name: str, corpus: str = "audioset") -> PlannedRow:
    return next(row for row in rows.rows if (row.row.name, row.row.corpus.name) == (name, corpus))


def names(*given: Any, **asked: Any) -> list[str]:
    return [row.row.name for row in plan(*given, **asked).rows]


def test_tokens_hours_and_memory_follow_from_the_paper() -> None:
    one = plan("paper_table1")
    for line in read_published("table1"):
        row = named(one, line["model"])
        if not row.row.cited:
            tokens, speed = line["train_sequence"], float(line["train_spectrograms_per_s"])
            assert row.tokens == ((int(tokens),) if tokens else ())
            assert row.hours == pytest.approx(130 * 100_000 / speed / 3600, rel=1e-6)
            memory = float(line["memory_gb_per_sample"]) * row.row.recipe.training.batch_size
            assert row.memory_gb == pytest.approx(memory, rel=1e-6)
    three = plan("paper_table3", overrides=("training.epochs=1",))
    tuned = named(three, "PaSST-S", "openmic")
    assert (tuned.tokens, tuned.runs) == ((474,), 3)
    assert tuned.hours == pytest.approx(3 * 14_915 / 88.7 / 3600, rel=0.01)
    folded = named(three, "PaSST-S-N", "esc50")
    assert (folded.tokens, folded.runs) == ((158,), 15)
    nine = plan("paper_table2").rows[-1]
    assert (nine.tokens, nine.memory_gb) == ((1190, 832, 641, 498), None)
    assert 0 < nine.hours < 1


def test_a_bare_machine_lists_every_row_and_runs_none(cli: Cli, tmp_path: Path) -> None:
    status, text = cli("run", "paper_table2")
    assert (status, "0 of 4 rows can run here" in text) == (0, True)
    status, text = cli("plan", "paper_table2")
    assert status == 0
    assert text.count("no data, no weights, no GPU") == 4 + 1  # the last of them the summary's
    assert text.count("cited by the paper") == 5
    assert "about 300 GB on disk" in text
    for table in TABLES:
        assert {reason for row in plan(table).rows for reason in row.reasons} == set(REASONS)
    assert not list(tmp_path.iterdir())


def test_reasons_are_told_row_by_row(tmp_path: Path) -> None:
    data = f"audioset={write_audioset_folder(tmp_path / 'audioset').root}"
    few = ("training.epoch_clips=8",)
    on_cpu = plan("paper_table1", data, overrides=few, device="cpu")
    assert named(on_cpu, "PANNs").reasons == ()
    assert named(on_cpu, "PaSST-S").reasons == (NO_WEIGHTS,)
    # What can be trained makes a study, the first of it being the baseline where that is missing.
    (study,) = on_cpu.studies
    assert [v.name for v in study.record.variants] == ["PANNs", "CNN (RF-CNN)"]
    assert study.record.baseline == "PANNs"
    write_published(tmp_path / "weights", ["passt_deit_bd_p16_384"])
    on_gpu = plan("paper_table1", data)
    assert [named(on_gpu, name).reasons for name in ("PANNs", "PaSST-S")] == [(NO_GPU,)] * 2
    assert named(plan("paper_table1", device="cpu"), "AST").reasons == (NO_DATA,)
    own = find_available([], [str(tmp_path / "weights" / "deit.pth"), "nowhere.pt"])
    assert own.weights == {"passt_deit_bd_p16_384"}


def test_a_row_is_planned_alone_or_beside_its_baseline(cli: Cli) -> None:
    one = ("PaSST-S-N",)
    assert names("paper_table1", variants=one) == ["PaSST-B", "PaSST-S-N"]
    assert names("paper_table1", variants=one, with_baseline=False) == ["PaSST-S-N"]
    rest = names("paper_table1", with_baseline=False)
    assert sorted([*rest, "PaSST-B"]) == sorted(names("paper_table1"))
    status, text = cli("plan", "paper_table1", "--variant", "PaSST-S-N", "--set", "model.depth=1")
    assert (status, "PaSST-S-L" in text, "0 of 2 rows can run here" in text) == (0, False, True)
    # A name is that of a row of each data set; one that is cited has no baseline beside it.
    assert names("paper_table3", variants=one) == ["PaSST-B", "PaSST-S-N"] * 5
    assert set(names("paper_table3", variants=("Baseline",))) == {"Baseline"}
    assert len(names("paper_table2", variants=("PaSST-S S10-16",))) == 3


def test_a_row_needs_its_own_weights_alone(tmp_path: Path) -> None:
    """Nobody needs what other rows start from: without its baseline a row is a study's only one."""
    write_published(tmp_path / "weights", ["passt_s_swa_p16_s16_128_ap473"])
    data = f"esc50={write_esc50(tmp_path / 'ESC-50').root}"
    asked: dict[str, Any] = {"overrides": (*SMALL, *BRIEF), "device": "cpu", "folds": 1}
    (study,) = plan("paper_table3", data, variants=("PaSST-S-N",), **asked).studies
    assert study.record.baseline == "PaSST-S-N"
    assert len(study.cells) == 3
    # The row that has its weights is not the one that is asked for.
    other = plan("paper_table3", data, variants=("PaSST-U",), **asked)
    assert not other.studies and not any(row.can_run for row in other.rows)


def test_rows_on_real_files_run_end_to_end(cli: Cli, tmp_path: Path) -> None:
    weights = ("passt_s_swa_p16_128_ap476", "passt_s_swa_p16_s16_128_ap473")
    write_published(tmp_path / "weights", weights)
    root = write_esc50(tmp_path / "ESC-50").root
    asked = ("--data", f"esc50={root}", "--device", "cpu", "--seeds", 1, "--folds", 1)
    asked += tuple(w for s in (*SMALL, *BRIEF, "data.train_clips=4") for w in ("--set", s))
    quietly = ("--no-cost", "--no-track", "--workers", 2)
    status, text = cli("run", "paper_table3", *asked, *quietly)
    assert status == 0, text
    for said in (
        "5 of 25 rows can run here", "no data: 5 rows on openmic, dcase20, fsd50k",
        "no data, no weights: 5 rows on audioset", "5 runs, none done yet",
    ):  # fmt: skip
        assert said in text
    reports, store = tmp_path / "runs" / "reports", Store(tmp_path / "runs")
    assert (reports / "paper_table3_esc50" / "index.html").is_file()
    assert store.studies() == ["paper_table3_esc50"]
    for variant in store.study("paper_table3_esc50").variants:
        record = store.run(variant.cells[0].key)
        assert record.status == "ok", record.message
        assert record.notes[0].startswith("passt-s-f128-p16-s1")  # where its weights come from
    told = (reports / "paper" / "table3_here.csv").read_text(encoding="utf-8")
    assert "ESC-50: accuracy" in told
    assert "15 of 2000 clips, model.width = 64" in told
    assert "OpenMIC, DCASE20, FSD50K: no data, no GPU" in told
    status, text = cli("status", "paper_table3", *asked)
    assert (status, "5 runs, all done" in text) == (0, True)


def test_an_ensemble_is_evaluated_and_found_again(cli: Cli, tmp_path: Path) -> None:
    row = next(row.row for row in plan("paper_table2").rows if len(row.row.members) == 2)
    write_published(tmp_path / "weights", row.members)
    data = f"audioset={write_audioset_folder(tmp_path / 'audioset').root}"
    for _ in range(2):
        status, text = cli("run", "paper_table2", "--data", data, "--device", "cpu")
        assert (status, "1 of 4 rows can run here" in text) == (0, True), text
        assert "PaSST-S S16,14, 2 models: mAP_official" in text
        assert "over 5 clips; published 0.486" in text
    store = Store(tmp_path / "runs")
    (record,) = store.evaluations()
    assert record.published_of(row.metric) is not None
    assert find_evaluations([row], [store]) == {row.members: record}


def test_options_that_apply_to_only_some_rows(cli: Cli, tmp_path: Path) -> None:
    data = ("--data", f"esc50={write_esc50(tmp_path / 'ESC-50').root}")
    words = ("--folds", 2, "--set", "training.epoch_clips=40", "--no-track")
    status, text = cli("run", "paper_table3", *data, *words)
    assert status == 0, text
    assert "--folds 2 applies to esc50, but not to openmic, dcase20, fsd50k, audioset." in text
    assert "epoch_clips 40 applies to audioset, but not to openmic, esc50, dcase20" in text
    rows = plan("paper_table3", folds=2, overrides=("training.epoch_clips=40",)).rows
    given = {
        row.row.corpus.name: (row.runs, row.row.recipe.training.epoch_clips)
        for row in rows
        if row.row.recipe
    }
    assert given == {
        "openmic": (3, None), "esc50": (6, None), "dcase20": (3, None), "fsd50k": (3, None),
        "audioset": (1, 40),
    }  # fmt: skip
    weighted = ("training.sampling=weighted", "training.epoch_clips=8")
    assert plan("paper_table3", overrides=weighted).remarks == ()


@pytest.mark.parametrize(
    ("number", "asked", "field", "value"),
    [
        (1, {"folds": 1}, "--folds", 1),
        (3, {"folds": 6}, "--folds", 6),
        (3, {"folds": 0}, "--folds", 0),
        (3, {"seeds": 0}, "--seeds", 0),
        (2, {"seeds": 1}, "--seeds", 1),
        (2, {"overrides": ("a=1",)}, "--set", "a=1"),
        (2, {"with_baseline": False}, "--no-baseline", True),
        (3, {"variants": ("PaSST",)}, "--variant", "PaSST"),
        (1, {"variants": ("PaSST-B",), "with_baseline": False}, "--variant", "PaSST-B"),
        (3, {"overrides": ("training.epoch=4",)}, "training.epoch", 4),
        (1, {"overrides": ("training.epoch_clips=9", "training.sampling=shuffle")},
         "training.epoch_clips", 9),
    ],
)  # fmt: skip
def test_what_no_row_takes(number: int, asked: dict[str, Any], field: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        plan(f"paper_table{number}", **asked)
    assert (caught.value.field, caught.value.value) == (field, value)
    assert caught.value.remedy
    assert not Path("runs").exists()


def test_rows_are_listed_and_are_no_single_study(cli: Cli, tmp_path: Path) -> None:
    assert set(TABLES) < set(study_names())
    assert summary("paper_table3").endswith("(25 rows; `plan` shows the hours)")
    assert cli("search", "paper_table3")[0] == 2
    with pytest.raises(InputError) as caught:
        load_study("paper_table1")
    assert (caught.value.field, caught.value.value) == ("STUDY", "paper_table1")
    path = tmp_path / "mine.py"
    path.write_text("from passt_bench.ablations.paper_table1 import ROWS")
    with pytest.raises(InputError) as caught:
        load_file(str(path))
    assert (caught.value.field, caught.value.value) == ("name", "paper_table1")
    rows = [row.row for row in plan("paper_table3", name="mine").rows]
    assert {row.study.name for row in rows if row.study} == {
        f"mine_{data}" for data in ("openmic", "esc50", "dcase20", "fsd50k", "audioset")
    }
