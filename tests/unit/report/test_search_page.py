"""A committed search, and the pages and figures of changed copies of it."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from page_reader import read

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import Store, read_search, write_document
from passt_bench.report.build import build_named, build_search
from passt_bench.report.figures.search import (
    draw_search,
    history_data,
    influence_data,
    landscape_data,
)
from passt_bench.report.search_page import confirmed, describe, headline, settings
from passt_bench.report.theme import figure_style, overlaps
from passt_bench.report.view import study_view
from passt_bench.spec import Patchout

KEPT = Path(__file__).parents[3] / "reports" / "search-quick"
SEARCH = read_search("search-quick", KEPT)
FIRST = SEARCH.trials[0]


def of(*trials: TrialRecord) -> SearchRecord:
    return replace(SEARCH, trials=trials)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page, _ = build_named("search-quick", KEPT, tmp_path_factory.mktemp("reports"))
    return page


def test_the_history_has_the_best_so_far() -> None:
    values = [None, 0.5, 0.7, None, 0.6, 0.9, 0.8]
    trials = [replace(t, value=v) for t, v in zip(SEARCH.trials, values, strict=False)]
    best = history_data(of(*trials))["best"]
    assert pd.isna(best[0]) and list(best[1:]) == [0.5, 0.7, 0.7, 0.7, 0.9, 0.9]


def test_configurations_are_drawn_and_listed_once() -> None:
    last = replace(SEARCH.trials[18], value=None, status="diverged")
    record = of(*(last if trial.number == 18 else trial for trial in SEARCH.trials))
    assert len(landscape_data(record)) == len({trial.patchout for trial in record.trials})
    listed = settings(record)
    assert len(listed.rows) == len(record.settings)
    values = [row[3] for row in listed.rows if isinstance(row[3], float)]
    assert values == sorted(values, reverse=True)
    assert listed.rows[-1][3] == "diverged"
    assert sum(row[4] for row in listed.rows) == len(record.trials)  # type: ignore[misc]
    assert list(influence_data(record)["parameter"]) == ["rate", "kind"]
    table = confirmed(SEARCH, study_view(load_results("search-quick", [Store(KEPT)])))
    rows = {row[0]: row for row in table.rows}
    assert table.highlight == 0 and rows["none"][2] == pytest.approx(0.83355, abs=1e-5)
    assert rows["time 0.125"][-1] == "worse"


def test_the_headline_has_the_number_of_trials_and_the_best() -> None:
    both = replace(FIRST, patchout=Patchout("structured", frequency=2, time=1))
    assert describe(both) == "structured, 2 frequency rows and 1 time column dropped"
    assert describe(FIRST) == "nothing dropped"
    assert "better than dropping nothing" in headline(SEARCH)
    better = replace(SEARCH.trials[1], value=0.9, patchout=Patchout("time", time=1))
    said = headline(of(FIRST, better))
    assert said.startswith("2 configurations were tried in 2 trials. The best is time, 1 time col")
    assert "mAP 0.900" in said


@pytest.mark.parametrize("count", [0, 1, 3, 120])
def test_no_text_leaves_a_figure_or_covers_other_text(count: int) -> None:
    trials = [replace(SEARCH.trials[i % 40], number=i) for i in range(count)]
    with figure_style():
        for drawing in draw_search(of(*trials)):
            if drawing.figure is not None:
                assert overlaps(drawing.figure) == [], drawing.name


def test_the_page_is_self_contained_and_rendered_again_from_its_report(
    page: Path, tmp_path: Path
) -> None:
    reader = read(page)
    assert not {"script", "img"} & reader.tags
    for link in reader.links:
        assert link.startswith(("#", "data:")) or (page.parent / link).is_file(), link
    text = " ".join(" ".join(reader.words).split())
    assert "unstructured 0.125" in text and SEARCH.command in text
    before = {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    build_named("search-quick", tmp_path / "none", page.parent.parent)
    assert before == {path: path.read_bytes() for path in before}


def test_a_search_that_only_the_reports_have_is_rendered(tmp_path: Path) -> None:
    record = replace(of(*SEARCH.trials[:3]), name="search-kept", confirmed=(), importance={})
    write_document(record, tmp_path / "search-kept")
    (page,) = build_named("search-kept", tmp_path / "none", tmp_path)
    assert page.parent.name == "search-kept"
    assert "has been confirmed yet" in page.read_text()
    with pytest.raises(InputError) as refused:
        build_search("search-x", tmp_path, tmp_path)
    assert refused.value.value == "search-x"
