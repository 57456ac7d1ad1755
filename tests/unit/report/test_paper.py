import csv
from dataclasses import replace
from pathlib import Path

import pytest
from study_on_disk import Arm, fingerprint, write_study

from passt_bench.analysis.results import Results, analyze, load_results
from passt_bench.paper import PUBLISHED_TABLES, Available, published_rows
from passt_bench.records.evaluation import EvaluationRecord, Member
from passt_bench.records.store import Store
from passt_bench.report.paper import CITED, PaperStatus, deviations, render_paper
from passt_bench.spec import Recipe, override

ROWS = published_rows()
NOTHING = PaperStatus(Available(), ROWS)
ALL_THREE = "no data, no weights, no GPU"
MEANT = next(row.recipe for row in ROWS if row.name == "PaSST-S" and row.table == "table1")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ran(tmp_path: Path, table: int = 1) -> dict[str, str]:
    """Row (of Table 2 with its members) → what the last column tells."""
    lines = rows(tmp_path / f"table{table}_here.csv")
    first = next(iter(lines[0]))
    return {f"{row[first]} {row.get('members', '')}".strip(): row["ran_here"] for row in lines}


def test_published_numbers_are_kept_to_the_digit(tmp_path: Path) -> None:
    page = render_paper(tmp_path, NOTHING).read_text(encoding="utf-8")
    assert page.count('<th scope="row">') == 11 + 9 + 7
    for number in (1, 2, 3):
        published = rows(PUBLISHED_TABLES / f"table{number}.csv")
        here = rows(tmp_path / f"table{number}_here.csv")
        assert [{k: v for k, v in row.items() if k != "ran_here"} for row in here] == published
        assert rows(tmp_path / f"table{number}.csv") == published
    line = "| PaSST-S | yes | 0.471 | 88.7 | 3.8 | 0.513 | 474 |"
    assert line in (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert (tmp_path / "table1.tex").read_text(encoding="utf-8").count(r" \\") == 12
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    render_paper(tmp_path, NOTHING)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_reasons_follow_what_is_available(tmp_path: Path) -> None:
    render_paper(tmp_path, NOTHING)
    one, two, three = (ran(tmp_path, table) for table in (1, 2, 3))
    assert one["AST"] == three["PaSST-S"] == two["PaSST-S S16,14 2"] == ALL_THREE
    assert one["PANNs"] == "no data, no GPU"
    texts = [text for table in (one, two, three) for text in table.values()]
    assert texts.count(CITED) == 2 + 5 + 2
    some = Available(datasets=frozenset({"audioset", "esc50"}), gpu=True)
    render_paper(tmp_path, PaperStatus(some, ROWS))
    assert ran(tmp_path)["PaSST-S"] == "no weights"
    assert ran(tmp_path, 3)["PaSST-S"] == (
        "OpenMIC, DCASE20, FSD50K: no data, no weights; ESC-50: no weights"
    )
    everything = Available(
        frozenset(row.corpus.name for row in ROWS),
        frozenset(name for row in ROWS for name in row.weights),
        gpu=True,
    )
    render_paper(tmp_path, PaperStatus(everything, ROWS))
    texts = [text for table in (1, 2, 3) for text in ran(tmp_path, table).values()]
    assert set(texts) == {"not run yet", CITED}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A study on AudioSet, its variants named as rows, its recipe another one than published."""
    arms = (Arm("PaSST-B"), Arm("PaSST-S", "structured", 0.5, effect=0.01))
    data = replace(fingerprint(), dataset="audioset")
    return write_study(tmp_path_factory.mktemp("a"), arms, data=data, session=False, rich=False)


@pytest.fixture(scope="module")
def results(store: Store) -> Results:
    return load_results("quick", [store])


def with_recipe(results: Results, recipe: Recipe, clips: int = 1900) -> Results:
    """The same results of a study of another recipe and so many clips."""
    variants = tuple(replace(v, recipe=recipe) for v in results.study.variants)
    data = replace(results.study.fingerprint, found=clips)
    return replace(results, study=replace(results.study, variants=variants, fingerprint=data))


def passt_s(tmp_path: Path, *results: Results) -> str:
    """What Table 1 says of PaSST-S."""
    render_paper(tmp_path, replace(NOTHING, results=results))
    return ran(tmp_path)["PaSST-S"]


def test_a_row_that_ran_shows_its_number_and_how_it_differs_from_the_published_one(
    tmp_path: Path, results: Results
) -> None:
    assert MEANT is not None
    some = with_recipe(results, MEANT)
    shown = passt_s(tmp_path, some)
    assert shown.startswith("mAP 0.8")
    assert shown.endswith("; not as published: 1900 of 1912644 clips)")
    assert ran(tmp_path)["PaSST-U"] == ALL_THREE
    whole = with_recipe(results, MEANT, 1_912_644)
    assert passt_s(tmp_path, some, whole).endswith("(study quick)")
    other = replace(MEANT, init=replace(MEANT.init, checkpoint="mine.pt"))
    own_start = with_recipe(results, other, 1_912_644)
    assert passt_s(tmp_path, own_start).endswith("not as published: init.checkpoint = mine.pt)")
    shown = passt_s(tmp_path, results)
    assert "(study quick; not as published: " in shown and "model.name = " in shown
    assert " runs, " not in shown
    runs = next(mean.n for mean in results.means if mean.variant == "PaSST-S")
    seeds = tuple(range(runs + 12))
    more = [replace(r, study=replace(r.study, seeds=seeds)) if r.study else r for r in ROWS]
    render_paper(tmp_path, replace(NOTHING, rows=more, results=[results]))
    assert f"not as published: {runs} of {runs + 12} runs, " in ran(tmp_path)["PaSST-S"]


def test_a_row_whose_runs_failed_says_so_unless_another_study_succeeded(
    tmp_path: Path, store: Store, results: Results
) -> None:
    failed = {
        key: replace(record, status="oom", metrics={}) for key, record in results.records.items()
    }
    lost = analyze(results.study, failed, [])
    assert passt_s(tmp_path, lost).startswith("failed (oom) (study quick")
    assert MEANT is not None  # however much nearer to it the failed ones are
    assert passt_s(tmp_path, with_recipe(lost, MEANT), results).startswith("mAP 0.")


def test_an_ensemble_that_was_evaluated_shows_its_number(tmp_path: Path) -> None:
    nine = max((row for row in ROWS if row.members), key=lambda row: len(row.members))
    members = tuple(Member(name, "", Recipe()) for name in nine.members)
    record = EvaluationRecord(
        key="00ff", name="nine", members=members, split="test", fold=None, clips=18951,
        fingerprint=replace(fingerprint(), dataset="audioset"), seconds=10.0, sampling_rate=32000,
        device="cpu", metrics={"mAP_official": 0.4956}, intervals={"mAP_official": (0.49, 0.501)},
    )  # fmt: skip
    render_paper(tmp_path, replace(NOTHING, evaluated={nine.members: record}))
    texts = ran(tmp_path, 2)
    assert texts["PaSST-S S10-16 9"].startswith("mAP_official 0.49")
    assert texts["PaSST-S S10-16 9"].endswith("over 18951 clips (evaluation 00ff)")
    assert texts["PaSST-S S10-16 5"] == ALL_THREE


@pytest.mark.parametrize(
    ("changes", "deviation"),
    [
        ({"engine.device": "cpu", "engine.threads": 2, "init.sha256": "00"}, []),
        ({"engine.precision": "float32"}, ["engine.precision = float32"]),
        ({"init.source": "scratch"}, ["init.source = scratch"]),
    ],
)
def test_deviations_name_the_fields_that_matter(
    changes: dict[str, object], deviation: list[str]
) -> None:
    meant = next(row.recipe for row in ROWS if row.name == "PaSST-U" and row.table == "table3")
    assert meant is not None
    assert deviations(override(meant, changes), meant) == deviation
