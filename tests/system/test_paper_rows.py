"""The rows of the paper's tables: what they say, what they need, and that they run."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import write_audioset_folder, write_esc50
from published_weights import HEADS, WIDTH, write_published

from passt_bench import report
from passt_bench.errors import InputError
from passt_bench.published_weights import ENSEMBLES
from passt_bench.records.store import Store
from passt_bench.report.paper import find_evaluations
from passt_bench.runner.request import Paths, StudyRequest, data_folders
from passt_bench.runner.rows import (
    PlannedRow,
    RowsPlan,
    evaluate_row,
    plan_rows,
)
from passt_bench.runner.studies import (
    RowsFile,
    find_available,
    load_file,
    load_study,
    study_names,
    summary,
)
from passt_bench.spec.rows import NO_DATA, NO_GPU, NO_WEIGHTS, REASONS

Cli = Callable[..., tuple[int, str]]
PUBLISHED = Path(report.__file__).with_name("published")
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


RUNS = Paths(Path("runs"))


def rows_of(name: str) -> RowsFile:
    file = load_file(name)
    assert isinstance(file, RowsFile)
    return file


def plan(name: str, *data: str, sets: tuple[str, ...] = (), device: str | None = None) -> RowsPlan:
    paths = Paths(Path("runs"), data_folders(data))
    return plan_rows(rows_of(name), StudyRequest(name, sets, device=device), paths)


def named(rows: tuple[PlannedRow, ...], name: str, corpus: str = "audioset") -> PlannedRow:
    return next(row for row in rows if (row.row.name, row.row.corpus.name) == (name, corpus))


def published(table: str) -> list[dict[str, str]]:
    with (PUBLISHED / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_have_the_numbers_of_the_published_tables() -> None:
    ones = {row.name: row for row in rows_of("paper_table1").rows}
    for line in published("table1"):
        row = ones.pop(line["model"])
        assert row.published == float(line["mAP"])
        if not row.cited:
            assert row.speed == float(line["train_spectrograms_per_s"])
            assert row.memory == float(line["memory_gb_per_sample"])
    twos = [(r.name, r.published, len(r.members)) for r in rows_of("paper_table2").rows]
    ours = {name for name, _, members in twos if members}
    assert twos == [
        (line["system"], float(line["mAP"]), int(line["members"]) if line["system"] in ours else 0)
        for line in published("table2")
    ]
    threes = {(r.name, r.corpus.name): r.published for r in rows_of("paper_table3").rows}
    columns = {"openmic": ("openmic_mAP", 1), "fsd50k": ("fsd50k_mAP", 1)}
    columns |= {"esc50": ("esc50_accuracy", 100), "dcase20": ("dcase20_accuracy", 100)}
    for line in published("table3"):
        for data, (column, scale) in columns.items():
            assert threes.pop((line["model"], data)) * scale == pytest.approx(float(line[column]))
    again = {row.name: row.published for row in rows_of("paper_table1").rows}
    assert {name: again[name] for name, _ in threes} == {n: v for (n, _), v in threes.items()}
    assert not ones


def test_five_data_sets_by_five_letters() -> None:
    letters = {"PaSST-B", "PaSST-U", "PaSST-S", "PaSST-S-L", "PaSST-S-N"}
    found = {(r.corpus.name, r.name) for r in rows_of("paper_table3").rows if not r.cited}
    sets = ("audioset", "openmic", "esc50", "dcase20", "fsd50k")
    assert found == {(data, letter) for data in sets for letter in letters}


def test_ensembles_are_those_of_the_reference_code() -> None:
    members = [row.members for row in rows_of("paper_table2").rows if row.members]
    names = ("ensemble_s16_14", "ensemble_4", "ensemble_5", "ensemble_many")
    assert members == [ENSEMBLES[name] for name in names]


def test_tokens_and_hours_follow_from_the_paper() -> None:
    rows = plan("paper_table1").rows
    wanted = {line["model"]: line["train_sequence"] for line in published("table1")}
    for row in rows:
        if not row.row.cited:
            assert row.tokens == ((int(wanted[row.row.name]),) if wanted[row.row.name] else ())
            assert row.row.speed is not None
            hours = 130 * 100_000 / row.row.speed / 3600
            assert row.hours == pytest.approx(hours, rel=1e-6)
    assert named(rows, "PaSST-S").hours == pytest.approx(40.7, abs=0.05)
    three = plan("paper_table3", sets=("training.epochs=1",)).rows
    tuned = named(three, "PaSST-S", "openmic")
    assert (tuned.tokens, tuned.runs) == ((474,), 3)
    assert tuned.hours == pytest.approx(3 * 14_915 / 88.7 / 3600, rel=0.01)
    folded = named(three, "PaSST-S-N", "esc50")
    assert (folded.tokens, folded.runs) == ((158,), 15)
    nine = plan("paper_table2").rows[-1]
    assert nine.tokens == (1190, 832, 641, 498)
    assert nine.hours is not None
    assert 0 < nine.hours < 1


def test_a_bare_machine_lists_every_row_and_runs_none(cli: Cli, tmp_path: Path) -> None:
    status, text = cli("plan", "paper_table2")
    assert status == 0
    assert text.count("no data, no weights, no GPU") == 4 + 1  # the last of them the summary's
    assert text.count("cited by the paper") == 5
    for table in TABLES:
        assert {reason for row in plan(table).rows for reason in row.reasons} == set(REASONS)
        status, text = cli("run", table)
        assert status == 0
        assert "0 of" in text
    assert not list(tmp_path.iterdir())


def test_reasons_are_told_row_by_row(tmp_path: Path) -> None:
    data = f"audioset={write_audioset_folder(tmp_path / 'audioset').root}"
    few = ("training.epoch_clips=8",)
    on_cpu = plan("paper_table1", data, sets=few, device="cpu")
    assert named(on_cpu.rows, "PANNs").reasons == ()
    assert named(on_cpu.rows, "PaSST-S").reasons == (NO_WEIGHTS,)
    assert named(plan("paper_table1", data).rows, "PANNs").reasons == (NO_GPU,)
    # What can be trained makes a study, the first of it being the baseline where that is missing.
    (study,) = on_cpu.studies
    assert [v.name for v in study.record.variants] == ["PANNs", "CNN (RF-CNN)"]
    assert study.record.baseline == "PANNs"
    write_published(tmp_path / "weights", ["passt_deit_bd_p16_384"])
    assert named(plan("paper_table1", data).rows, "PaSST-S").reasons == (NO_GPU,)
    assert named(plan("paper_table1", device="cpu").rows, "AST").reasons == (NO_DATA,)
    own = find_available([], [str(tmp_path / "weights" / "deit.pth"), "nowhere.pt"])
    assert own.weights == {"passt_deit_bd_p16_384"}


def test_a_row_is_planned_alone_or_beside_its_baseline(cli: Cli) -> None:
    request = StudyRequest("paper_table1", variants=("PaSST-S-N",))
    both = plan_rows(rows_of("paper_table1"), request, RUNS).rows
    assert [row.row.name for row in both] == ["PaSST-B", "PaSST-S-N"]
    assert [round(row.hours or 0) for row in both] == [156, 20]
    alone = plan_rows(rows_of("paper_table1"), replace(request, baseline=False), RUNS).rows
    assert [row.row.name for row in alone] == ["PaSST-S-N"]
    others = plan_rows(rows_of("paper_table1"), StudyRequest("paper_table1", baseline=False), RUNS)
    assert {row.name for row in rows_of("paper_table1").rows} - {"PaSST-B"} == {
        row.row.name for row in others.rows
    }
    status, text = cli("plan", "paper_table1", "--variant", "PaSST-S-N", "--set", "model.depth=1")
    assert (status, "PaSST-S-L" in text, "0 of 2 rows can run here" in text) == (0, False, True)
    # A name is that of a row of each data set; one that is cited has no baseline beside it.
    five = plan_rows(rows_of("paper_table3"), replace(request, study="paper_table3"), RUNS).rows
    assert [row.row.name for row in five] == ["PaSST-B", "PaSST-S-N"] * 5
    cited = plan_rows(rows_of("paper_table3"), StudyRequest("", variants=("Baseline",)), RUNS).rows
    assert {row.row.name for row in cited} == {"Baseline"}
    ensembles = StudyRequest("", variants=("PaSST-S S10-16",))
    assert len(plan_rows(rows_of("paper_table2"), ensembles, RUNS).rows) == 3


def test_a_row_runs_with_its_own_weights_alone(cli: Cli, tmp_path: Path) -> None:
    """Nobody needs what other rows start from: without its baseline a row is a study's only one."""
    write_published(tmp_path / "weights", ["passt_s_swa_p16_s16_128_ap473"])
    asked = ("--data", f"esc50={write_esc50(tmp_path / 'ESC-50').root}", "--device", "cpu")
    asked += ("--variant", "PaSST-S-N", "--seeds", 1, "--folds", 1)
    asked += tuple(w for s in (*SMALL, *BRIEF, "data.train_clips=4") for w in ("--set", s))
    status, text = cli("run", "paper_table3", *asked, "--no-cost", "--no-track")
    assert status == 0, text
    assert "paper_table3_esc50: 1 variant x 1 seed x 1 fold = 1 run" in text
    page = tmp_path / "runs" / "reports" / "paper_table3_esc50" / "index.html"
    assert "PaSST-S-N reaches accuracy" in page.read_text(encoding="utf-8")
    status, text = cli("status", "paper_table3", *asked, "--no-baseline")
    assert (status, "1 run, all done" in text) == (0, True)
    # The row that has its weights is not the one that is asked for.
    other = ("PaSST-U" if word == "PaSST-S-N" else word for word in asked)
    status, text = cli("run", "paper_table3", *other)
    assert (status, "0 of 10 rows can run here" in text) == (0, True)


def test_rows_on_real_files_run_end_to_end(cli: Cli, tmp_path: Path) -> None:
    weights = ("passt_s_swa_p16_128_ap476", "passt_s_swa_p16_s16_128_ap473")
    write_published(tmp_path / "weights", weights)
    root = write_esc50(tmp_path / "ESC-50").root
    asked = ("--data", f"esc50={root}", "--device", "cpu", "--seeds", 1, "--folds", 1)
    asked += tuple(w for s in (*SMALL, *BRIEF, "data.train_clips=4") for w in ("--set", s))
    quietly = ("--no-cost", "--no-track", "--workers", 2)
    status, text = cli("run", "paper_table3", *asked, *quietly)
    assert status == 0, text
    assert "5 of 25 rows can run here" in text
    assert "no data: 5 rows on openmic, dcase20, fsd50k" in text
    assert "no data, no weights: 5 rows on audioset" in text
    assert "5 runs, none done yet" in text
    assert (tmp_path / "runs" / "reports" / "paper_table3_esc50" / "index.html").is_file()
    store = Store(tmp_path / "runs")
    assert store.studies() == ["paper_table3_esc50"]
    for variant in store.study("paper_table3_esc50").variants:
        record = store.run(variant.cells[0].key)
        assert record is not None
        assert record.status == "ok", record.message
        assert record.notes[0].startswith("passt-s-f128-p16-s1")  # where its weights come from
    told = (tmp_path / "runs" / "reports" / "paper" / "table3_here.csv").read_text(encoding="utf-8")
    assert "ESC-50: accuracy" in told
    assert "15 of 2000 clips, model.width = 64" in told
    assert "OpenMIC, DCASE20, FSD50K: no data, no GPU" in told
    status, text = cli("status", "paper_table3", *asked)
    assert (status, "5 runs, all done" in text) == (0, True)


def test_an_ensemble_is_evaluated_and_found_again(tmp_path: Path) -> None:
    row = next(row for row in rows_of("paper_table2").rows if len(row.members) == 2)
    write_published(tmp_path / "weights", row.members)
    data = f"audioset={write_audioset_folder(tmp_path / 'audioset').root}"
    request = StudyRequest("paper_table2", device="cpu")
    paths = Paths(tmp_path / "runs", data_folders((data,)))
    planned = plan_rows(rows_of("paper_table2"), request, paths)
    (able,) = (row for row in planned.rows if row.can_run)
    assert able.row == row
    record, new = evaluate_row(able, request, paths, lambda share, text: None)
    assert new
    assert not evaluate_row(able, request, paths, lambda share, text: None)[1]
    assert record.clips == 5
    assert record.published_of(row.metric) is not None
    found = find_evaluations(rows_of("paper_table2").rows, [Store(tmp_path / "runs")])
    assert found == {row.members: record}


def test_the_clips_of_an_epoch_are_set_where_they_are_drawn_by_weight() -> None:
    rows = plan("paper_table3", sets=("training.epoch_clips=40",)).rows
    given = {row.row.corpus.name: row.recipe.training.epoch_clips for row in rows if row.recipe}
    assert given == {
        "audioset": 40, "openmic": None, "esc50": None, "dcase20": None, "fsd50k": None,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"training\.epoch.*unknown field"):
        plan("paper_table3", sets=("training.epoch=4",))


def test_what_holds_for_some_rows_alone_is_told(cli: Cli, tmp_path: Path) -> None:
    data = ("--data", f"esc50={write_esc50(tmp_path / 'ESC-50').root}")
    words = ("--folds", 2, "--set", "training.epoch_clips=40", "--no-track")
    status, text = cli("run", "paper_table3", *data, *words)
    assert status == 0, text
    assert "--folds 2 applies to esc50; openmic, dcase20, fsd50k, audioset have" in text
    assert "epoch_clips=40 applies to audioset; the clips of openmic, esc50, dcase20" in text
    rows = plan_rows(rows_of("paper_table3"), StudyRequest("paper_table3", folds=2), RUNS).rows
    assert {row.row.corpus.name: row.runs for row in rows if row.recipe} == {
        "openmic": 3, "esc50": 6, "dcase20": 3, "fsd50k": 3, "audioset": 1,
    }  # fmt: skip
    assert plan("paper_table3", sets=("training.epochs=2",)).remarks == ()
    assert plan("paper_table1", sets=("training.epoch_clips=8",)).remarks == ()
    weighted = ("training.sampling=weighted", "training.epoch_clips=8")
    assert plan("paper_table3", sets=weighted).remarks == ()


@pytest.mark.parametrize(
    ("table", "words", "message"),
    [
        ("paper_table1", ("--folds", 1), "--folds = 1: the data sets have no folds"),
        ("paper_table3", ("--folds", 6), "--folds = 6: there are 5 folds. Give 1 to 5"),
        ("paper_table3", ("--folds", 0), "--folds = 0: there are 5 folds"),
        ("paper_table3", ("--seeds", 0), "--seeds = 0: must be at least 1"),
        ("paper_table2", ("--seeds", 1), "--seeds = 1: applies only to training"),
        ("paper_table2", ("--set", "a=1"), "--set = 'a=1': applies only to training"),
        ("paper_table2", ("--no-baseline",), "--no-baseline = True: applies only to training"),
        ("paper_table3", ("--variant", "PaSST"), "--variant = 'PaSST': no such variant. Did you"),
        ("paper_table1", ("--variant", "PaSST-B", "--no-baseline"), "this is the baseline, which"),
        (
            "paper_table1",
            ("--set", "training.epoch_clips=9", "--set", "training.sampling=shuffle"),
            "training.epoch_clips = 9: the clips of these rows are shuffled",
        ),
    ],
)
def test_what_no_row_takes_is_refused(
    cli: Cli, table: str, words: tuple[object, ...], message: str
) -> None:
    for command in ("plan", "run", "status"):
        status, text = cli(command, table, *words)
        assert status == 2
        assert message in text
    assert not Path("runs").exists()


def test_what_the_authors_give_differently_is_listed_beside_the_rows(cli: Cli) -> None:
    shallow = ("--set", "model.depth=1")  # their FLOPs are quicker to count
    status, text = cli("plan", "paper_table3", *shallow)
    assert status == 0
    _, listed = text.split("Given differently in the authors' paper, code and README")
    assert (
        "PaSST-S on esc50: patchout t10 f3 (ex_esc50.py:60: 353 tokens; the README's command has "
        "t10 f5: 275)" in listed
    )
    assert (
        "4 rows on openmic, esc50, fsd50k: init passt_s_swa_p16_128_ap476 (paper: the PaSST-S "
        "trained on AudioSet; models/passt.py before d27d832; the code since "
        "(models/passt.py:958) starts from passt_s_kd_p16_128_ap486)" in listed
    )
    assert "5 rows on fsd50k: sampling shuffle (ex_fsd50k.py since 4519e46; earlier" in listed
    assert (
        "5 rows on audioset: learning_rate 2e-05 (ex_audioset.py:76; the paper has 1e-5)" in listed
    )
    conflicts = {row.name: row.conflicts for row in rows_of("paper_table1").rows}
    assert len(conflicts["PaSST-S"]) == 3
    assert len(conflicts["PANNs"]) == 2  # its rate is its own
    assert not any(row.conflicts for row in rows_of("paper_table2").rows)


def test_another_name_is_that_of_all_studies(tmp_path: Path) -> None:
    request = StudyRequest("paper_table3", name="mine")
    rows = plan_rows(rows_of("paper_table3"), request, Paths(tmp_path)).rows
    names = {row.study for row in rows if row.study}
    assert "mine_esc50" in names
    assert not {name for name in names if not name.startswith("mine_")}


def test_rows_are_listed_and_are_no_single_study(cli: Cli) -> None:
    assert set(TABLES) < set(study_names())
    assert summary("paper_table3").endswith("(25 rows; `plan` shows the hours)")
    status, text = cli("search", "paper_table3")
    assert status == 2
    assert "rows of a published table, not a single study" in text
    with pytest.raises(InputError, match="not a single study"):
        load_study("paper_table1")


BROKEN = '''"""Rows."""
from passt_bench.ablations.recipes import synthetic
from passt_bench.spec import Study, Variant
from passt_bench.spec.rows import Corpus, Row

STUDY_ = Study("{name}", "?", synthetic(), (Variant("a"), Variant("b")), "a")
STUDIES = ({studies})
ROWS = ({rows})
'''
ROW = 'Row("t", "{}", Corpus("esc50", "E", 50, 4, 4), "mAP", 0.5, study="{}"),'


@pytest.mark.parametrize(
    ("name", "studies", "rows", "message"),
    [
        ("other", "STUDY_,", ROW.format("a", "other"), "a study must have the name of its file"),
        ("mine", "STUDY_,", ROW.format("c", "mine"), "no study of the file has this variant"),
        ("mine", "STUDY_,", '"a",', "ROWS = 'str': not a tuple of Row"),
        ("mine", "STUDY_", ROW.format("a", "mine"), "STUDIES = 'Study': not a tuple of Study"),
    ],
)
def test_files_whose_parts_do_not_belong_together(
    tmp_path: Path, name: str, studies: str, rows: str, message: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BROKEN.format(name=name, studies=studies, rows=rows))
    with pytest.raises(InputError, match=message):
        load_file(str(path))
