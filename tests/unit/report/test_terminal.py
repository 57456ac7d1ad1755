import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from fixtures import Cli
from rich.console import Console

from passt_bench.report.build import load
from passt_bench.report.provenance import answer
from passt_bench.report.terminal import print_result, result_json
from passt_bench.report.view import StudyView, study_view

REPORTS = Path(__file__).parents[3] / "reports"
STUDIES = sorted(path.parent.name for path in REPORTS.glob("*/studies"))


def shown(view: StudyView | None, width: int = 80, **more: object) -> str:
    out = StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False, soft_wrap=True)
    print_result(console, view, **more)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("name", STUDIES)
def test_every_committed_result_fits_into_80_columns_with_whole_intervals(name: str) -> None:
    results, _ = load(name, REPORTS / name, REPORTS)
    assert results is not None
    view = study_view(results)
    tables = shown(view).rsplit("\nAgainst “", 1)[0].splitlines()
    assert max(map(len, tables)) <= 80
    assert not any("…" in line for line in tables)
    for line in tables:  # no interval is cut in two
        assert line.count("[") == line.count("]")


def test_the_result_of_a_study_is_its_table_and_then_its_answer(quick_view: StudyView) -> None:
    text = shown(quick_view)
    table, told = text.split("Against “")
    assert all(v.verdict in table for v in quick_view.variants)
    assert "time of a training step" in table
    assert "on “" in " ".join(told.split())  # its conditions


def test_show_prints_a_result_again_and_as_json(cli: Cli) -> None:
    code, text = cli("show", "quick", "--runs", REPORTS / "quick", "--reports", REPORTS)
    assert code == 0
    assert text.rstrip().endswith(str(REPORTS / "quick" / "index.html"))
    code, text = cli("show", "quick", "--json", "--runs", REPORTS / "quick", "--reports", REPORTS)
    places = ("--runs", REPORTS / "quick", "--reports", REPORTS)
    words = ("--latex", "quality", "--columns", "variant,mAP", "--columns", "detectable")
    told, table = cli("show", "quick", *words, *places)
    assert told == 0 and table.startswith("% Needs") and r"\begin{table}" in table
    assert r"variant & \multicolumn{2}{c}{mAP} & {detectable difference} \\" in table
    assert cli("show", "quick", "--latex", "qualty", *places)[0] == 2
    found = json.loads(text)
    assert (code, found["study"], found["baseline"]) == (0, "quick", "none")
    by_name = {row["variant"]: row for row in found["tables"]["verdicts"]}
    half = by_name["unstructured .5"]
    assert half["difference_low"] < half["difference"] < half["difference_high"]
    assert half["verdict"] == "better"
    assert by_name["none"]["difference"] is None
    assert (
        found["answer"] in json.loads((REPORTS / "quick" / "summary.json").read_text())["headline"]
    )


@pytest.mark.parametrize("name", STUDIES)
def test_every_committed_answer_has_two_sentences_at_most(name: str) -> None:
    results, _ = load(name, REPORTS / name, REPORTS)
    assert results is not None
    text = answer(study_view(results))
    assert 1 <= len(re.findall(r"\.(?= [A-Z“a-z]|$)", text)) <= 2, text


@pytest.mark.parametrize("needed", [(9, 17), None])
def test_an_undecided_verdict_says_how_many_seeds_it_takes(
    needed: tuple[int, int] | None, quick_view: StudyView
) -> None:
    base, v, *_ = quick_view.variants
    assert v.comparison is not None
    item = replace(v.comparison, verdict="undecided", blocks_needed=needed)
    results = replace(quick_view.results, declared={})
    variants = (base, replace(v, comparison=item))
    text = " ".join(shown(replace(quick_view, results=results, variants=variants)).split())
    wanted = f"fresh seeds probably takes 9 to 17 of them (“{v.name}”)."
    assert (wanted in text, "fresh seeds" in text) == (bool(needed), bool(needed))


def test_a_failed_run_is_one_line_with_its_reason(quick_view: StudyView) -> None:
    v = quick_view.others[0]
    why = "Traceback (most recent call last):\n  File x\npasst_bench.errors.InputError: a: cut off."
    broken = replace(v, runs=(replace(v.runs[0], status="error", message=why), *v.runs[1:]))
    variants = tuple(broken if one is v else one for one in quick_view.variants)
    text = shown(replace(quick_view, variants=variants))
    assert f"\n{v.name}, seed 0: error: a: cut off.\n" in text and "Traceback" not in text


def test_what_is_slower_is_called_slower() -> None:
    results, _ = load("engine", REPORTS / "engine", REPORTS)
    assert results is not None
    text = " ".join(shown(study_view(results)).split())
    assert re.search(r"“2021” trains 1\.[89]\d?× \[[\d., ]+\] slower with 1\.\d+× the memory", text)


def test_a_search_without_a_confirmation_shows_its_best_trials() -> None:
    _, search = load("search-quick", REPORTS / "search-quick", REPORTS)
    assert search is not None
    text = shown(None, search=search)
    assert "24 configurations were tried" in text
    assert "the best is" in " ".join(text.split())
    assert result_json(None, search, None)["search"].startswith("24 configurations")
