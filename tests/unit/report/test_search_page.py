"""A committed search and the study that confirms it, and changed copies of the search."""

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest
from on_disk import files
from page_reader import read
from study_on_disk import QUICK, Arm, write_study

from passt_bench.errors import InputError
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import read_search, write_document
from passt_bench.report.build import build_pdfs, build_study, render_index
from passt_bench.report.search import (
    describe,
    draw_search,
    history_data,
    influence_data,
    search_headline,
    settings,
    settings_data,
)
from passt_bench.report.text import Span
from passt_bench.report.theme import figure_style, overlaps
from passt_bench.report.view import StudyView
from passt_bench.spec import Patchout

KEPT = Path(__file__).parents[3] / "reports" / "search-quick"
COMMITTED = read_search("search-quick", KEPT)
# The same with patchout alone as its space.
SEARCH = replace(
    COMMITTED,
    space={name: COMMITTED.space[name] for name in ("kind", "rate")},
    importance={name: COMMITTED.importance[name] for name in ("kind", "rate")},
    trials=tuple(
        replace(trial, params={n: v for n, v in trial.params.items() if n in ("kind", "rate")})
        for trial in COMMITTED.trials
    ),
)
FIRST = SEARCH.trials[0]


def of(*trials: TrialRecord) -> SearchRecord:
    return replace(SEARCH, trials=trials)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_study("search-quick", KEPT, tmp_path_factory.mktemp("reports"))


def test_the_history_has_the_best_so_far() -> None:
    values = [None, 0.5, 0.7, None, 0.6, 0.9, 0.8]
    trials = [replace(t, value=v) for t, v in zip(SEARCH.trials, values, strict=False)]
    best = history_data(of(*trials))["best"]
    assert pd.isna(best[0]) and list(best[1:]) == [0.5, 0.7, 0.7, 0.7, 0.9, 0.9]


def test_configurations_are_drawn_and_listed_once() -> None:
    once = [t for t in SEARCH.trials if sum(o.keys == t.keys for o in SEARCH.trials) == 1][-1]
    last = replace(once, value=None, status="diverged")
    record = of(*(last if trial is once else trial for trial in SEARCH.trials))
    assert len(settings_data(record)) == len({trial.keys for trial in record.trials})
    listed = settings(record)
    assert len(listed.rows) == len(record.settings)
    values = [row[3] for row in listed.rows if isinstance(row[3], float)]
    assert values == sorted(values, reverse=True)
    assert listed.rows[-1][3] == "diverged"
    assert sum(row[4] for row in listed.rows) == len(record.trials)  # type: ignore[misc]
    ranked = sorted(record.importance, key=lambda name: -record.importance[name])
    assert list(influence_data(record)["parameter"]) == ranked


def test_the_headline_has_the_number_of_trials_and_the_best() -> None:
    both = replace(FIRST, patchout=Patchout("structured", frequency=2, time=1))
    assert describe(both) == "structured, 2 frequency rows and 1 time column dropped"
    assert describe(FIRST) == "nothing dropped"
    worse = replace(SEARCH.trials[1], value=0.1, patchout=Patchout("time", time=1))
    said = search_headline(of(FIRST, worse))
    assert "better than dropping nothing" in said
    assert "; of unstructured, frequency and structured none has succeeded yet)" in said
    alone = search_headline(of(FIRST, replace(worse, value=None, status="oom")))
    assert "None that drops patches has succeeded yet" in alone and "better" not in alone
    better = replace(SEARCH.trials[1], value=0.9, patchout=Patchout("time", time=1))
    said = search_headline(of(FIRST, better))
    assert said.startswith(
        "2 configurations were tried in 2 trials. With as many FLOPs as “none”, the best is time, "
    )
    assert said.endswith(
        "(mAP 0.900 on the validation split, the best of 2 and so too high; unconfirmed)."
    )
    known = replace(of(FIRST, better), confirmed=("time",))
    variant = SimpleNamespace(name="time", value=Span(0.8, 0.7, 0.9), verdict="undecided")
    said = search_headline(known, cast(StudyView, SimpleNamespace(variants=[variant])))
    assert "0.80 [0.70, 0.90] on the test split with fresh seeds, verdict against “none”" in said
    assert said.endswith(": undecided).")
    own = cast(StudyView, SimpleNamespace(variants=[SimpleNamespace(name="half")]))
    said = search_headline(replace(of(FIRST, worse), default="half"), own)
    assert said.endswith("). “half” is the study's own variant, trained for comparison.")


@pytest.mark.parametrize("count", [0, 1, 3, 120])
def test_no_text_leaves_a_figure_or_covers_other_text(count: int) -> None:
    trials = [replace(SEARCH.trials[i % len(SEARCH.trials)], number=i) for i in range(count)]
    with figure_style():
        for drawing in (*draw_search(of(*trials)), *draw_search(wide(count))):
            if drawing.figure is not None:
                assert overlaps(drawing.figure) == [], drawing.name


def wide(count: int) -> SearchRecord:
    """A search over strides and learning rates as well, with two further objectives."""
    trials = []
    for i in range(count):
        trial = SEARCH.settings[i % len(SEARCH.settings)]
        others = {
            "stride": f"({6 + 2 * (i % 2)}, 8)",
            "training.learning_rate": 0.001 * (1 + i % 7),
        }
        costs = {"time": trial.tokens / 66, "memory": 1.2 - trial.tokens / 66}
        own = {"kind": trial.kind, "rate": trial.rate, **others}
        trials.append(replace(trial, number=i, keys=(f"{i:016x}",), params=own, costs=costs))
    return replace(
        of(*trials), objectives=("time", "memory"), budget="flops",
        space={"kind": "…", "rate": "…", "stride": "…", "training.learning_rate": "…"},
    )  # fmt: skip


def test_a_search_with_objectives_shows_their_front_and_all_parameters() -> None:
    record = wide(12)
    names = [drawing.name for drawing in draw_search(record) if drawing.figure is not None]
    assert names[-2:] == ["search_front", "search_parallel"] and "search_settings" in names
    assert "search_front" not in [drawing.name for drawing in draw_search(SEARCH)]
    data = settings_data(record)
    assert {"stride", "training.learning_rate", "time", "memory"} <= {*data}
    best = record.best[0]
    assert best in record.front
    cheap = min(record.best, key=lambda trial: (trial.costs["time"], -(trial.value or 0)))
    assert cheap in record.front
    worse = replace(best, value=0.0, costs={"time": 2.0, "memory": 2.0}, keys=("f" * 16,))
    assert worse not in replace(record, trials=(*record.trials, worse)).front
    listed = settings(record)
    titles = [column.heading for column in listed.columns]
    assert {"time / baseline", "memory / baseline"} <= {*titles}
    assert "stride (6, 8), learning rate 0.00" in str(listed.texts())
    poor = replace(record, trials=tuple(replace(t, value=0.1) for t in record.trials))
    assert "With as many FLOPs as “none”, none of them is better" in search_headline(poor)


def test_the_page_is_self_contained_and_rendered_again_from_its_report(
    page: Path, tmp_path: Path
) -> None:
    reader = read(page)
    assert not {"script", "img"} & reader.tags and reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    for link in reader.links:
        known = link.startswith("data:") or link[1:] in reader.ids
        assert known or (page.parent / link).is_file(), link
    text = " ".join(" ".join(reader.words).split())
    for shown in (
        "both variants are better", search_headline(COMMITTED).partition(", the best of")[0],
        "partly by chance",
        "0.898 [0.887, 0.909] on the test split with fresh seeds", "not a result",
        "tree-structured Parzen estimator", COMMITTED.command,
    ):  # fmt: skip
        assert text.count(shown) == 1, shown
    assert {"answer", "verdicts", "search", "search_history", "differences"} <= {*reader.ids}
    before = files(page.parent)
    assert "search/search-quick.json" in before and "tables/settings.csv" in before
    assert build_pdfs(page.parent) == ""
    pdfs = {path.stem: path.read_bytes() for path in (page.parent / "figures").glob("*.pdf")}
    assert pdfs.keys() == {path.stem for path in (page.parent / "figures").glob("*.svg")}
    assert all(pdf.startswith(b"%PDF") and b"/FontFile2" in pdf for pdf in pdfs.values())
    build_study("search-quick", tmp_path / "none", page.parent.parent)
    assert files(page.parent) == before
    assert 'href="search-quick/index.html#search"' in (page.parents[1] / "index.html").read_text()


def test_a_confirmation_is_judged_as_a_study_of_the_same_cells_is(tmp_path: Path) -> None:
    runs, reports, drops = tmp_path / "runs", tmp_path / "reports", "unstructured .25"
    arms = (*QUICK[:3], Arm("stride 6", stride=6, effect=0.012))
    store = write_study(runs, arms, session=False, rich=False)
    study = replace(store.study("quick"), contrasts={})
    trials = (FIRST, replace(SEARCH.trials[1], value=0.99))
    search = replace(of(*trials), name="search-quick", confirmed=(drops,), baseline="none")
    store.write_study(study)
    store.write_study(replace(study, name="search-quick"))
    write_document(search, runs)
    tables = [
        build_study(name, runs, reports).parent / "tables" / "verdicts.csv"
        for name in ("quick", "search-quick")
    ]
    plain, confirming = (table.read_text(encoding="utf-8") for table in tables)
    assert plain == confirming and plain.count("\n") == 1 + len(arms)
    with tables[0].open(newline="", encoding="utf-8") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    assert set(verdicts.values()) >= {"baseline", "worse"} and rows[drops]["difference_low"]
    # The search's own sentence has the verdict of the table.
    page = tables[1].parents[1] / "index.html"
    text = " ".join(" ".join(read(page).words).split())
    assert f"fresh seeds, verdict against “none”: {verdicts[drops]})." in text


def test_a_search_that_only_the_reports_have_is_rendered(tmp_path: Path) -> None:
    record = replace(of(*SEARCH.trials[:3]), name="search-kept", confirmed=(), importance={})
    write_document(record, tmp_path / "search-kept")
    page = build_study("search-kept", tmp_path / "none", tmp_path)
    assert page.parent.name == "search-kept"
    reader = read(page)
    text = " ".join(" ".join(reader.words).split())
    assert f"has been confirmed yet. {SEARCH.command} resumes the search" in text
    assert "search" in reader.ids and not {"answer", "verdicts", "records"} & {*reader.ids}
    assert "Verdict" not in text and search_headline(record) in text
    assert 'href="search-kept/index.html"' in render_index(tmp_path).read_text()
    with pytest.raises(InputError) as refused:
        build_study("search-x", runs=tmp_path, reports=tmp_path)
    assert refused.value.value == "search-x"
