from dataclasses import replace

import pandas as pd
import pytest
from page_reader import read
from study_on_disk import Arm, fingerprint, write_study

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import Store, write_search
from passt_bench.report.build import build_named, build_search
from passt_bench.report.figures.search import (
    draw_search,
    history_data,
    influence_data,
    landscape_data,
)
from passt_bench.report.search_page import (
    confirmed,
    describe,
    headline,
    settings,
)
from passt_bench.report.theme import figure_style, overlaps
from passt_bench.report.view import study_view
from passt_bench.spec import Patchout, Recipe
from passt_bench.spec.key import digest

KINDS = ("unstructured", "time", "frequency", "structured")
RATES = tuple(i / 8 for i in range(8))
PENALTY = {"unstructured": 0.2, "time": 0.3, "frequency": 0.5, "structured": 0.35}


def patchout(kind, rate):
    n = round(8 * rate)
    if not n:
        return Patchout()
    if kind == "structured":
        return Patchout(kind, frequency=n // 2, time=n - n // 2)
    return Patchout(kind, **({"patches": 8 * n} if kind == "unstructured" else {kind: n}))


def trial(number, kind, rate, earlier):
    setting = patchout(kind, rate)
    same = next((t.number for t in earlier if t.patchout == setting), None)
    failed = kind == "frequency" and rate == 0.875
    return TrialRecord(
        *(number, kind, rate, setting, round(64 * (1 - rate)) + 2),
        keys=(digest([setting.kind, rate if setting.kind != "none" else 0]),),
        status="diverged" if failed else "ok",
        value=None if failed else 0.8 - PENALTY[kind] * rate**2,
        repeats=same,
        seconds=0.0 if same is not None else 12.5,
    )


def searched(count=40):
    trials = []
    for number in range(count):
        kind, rate = KINDS[number % 4], RATES[(number * 5 // 4) % 8]
        trials.append(trial(number, kind, rate, trials))
    return SearchRecord(
        name="search-quick",
        question="Which kind and rate of patchout suits 'none' of quick?",
        metric="mAP",
        baseline="none",
        recipe=Recipe(),
        kinds=KINDS,
        rates=RATES,
        fold=None,
        seeds=(3,),
        fingerprint=fingerprint(),
        trials=tuple(trials),
        importance={"rate": 0.72, "kind": 0.28},
        confirmed=("unstructured 0.125", "time 0.125", "structured 0.125"),
        confirmation_seeds=(0, 1, 2),
        command="passt-bench search quick",
    )


ARMS = (
    Arm("none"),
    Arm("unstructured 0.125", "unstructured", 0.125, effect=-0.004),
    Arm("time 0.125", "time", 0.125, effect=-0.1),
    Arm("structured 0.125", "structured", 0.125, statuses={0: "oom", 1: "oom", 2: "oom"}),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs with a search and the study that confirms it."""
    root = tmp_path_factory.mktemp("runs")
    write_study(root, ARMS, name="search-quick", session=False)
    write_search(searched(), root)
    return root


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    page, _ = build_named("search-quick", runs, tmp_path_factory.mktemp("reports"))
    return page


def test_the_history_has_the_best_so_far():
    record = searched(6)
    values = [0.5, 0.7, None, 0.6, 0.9, 0.8]
    trials = [replace(t, value=v) for t, v in zip(record.trials, values, strict=True)]
    data = history_data(replace(record, trials=tuple(trials)))
    assert list(data["best"]) == [0.5, 0.7, 0.7, 0.7, 0.9, 0.9]
    first = [replace(trials[2], number=0), *trials[3:]]
    best = history_data(replace(record, trials=tuple(first)))["best"]
    assert pd.isna(best[0]) and list(best[1:]) == [0.6, 0.9, 0.9]


def test_configurations_are_drawn_and_listed_once():
    record = searched()
    assert len(landscape_data(record)) == len({t.patchout for t in record.trials})
    listed = settings(record)
    assert len(listed.rows) == len(record.settings)
    values = [row[3] for row in listed.rows if isinstance(row[3], float)]
    assert values == sorted(values, reverse=True)
    assert listed.rows[-1][3] == "diverged"
    assert sum(row[4] for row in listed.rows) == len(record.trials)
    record = replace(record, importance={"kind": 0.2, "rate": 0.8})
    assert list(influence_data(record)["parameter"]) == ["rate", "kind"]


def test_the_table_of_the_best_has_both_values_and_the_verdict(runs):
    view = study_view(load_results("search-quick", [Store(runs)]))
    table = confirmed(searched(), view)
    rows = {row[0]: row for row in table.rows}
    assert table.highlight == 0 and rows["none"][2] == pytest.approx(0.8)
    assert rows["time 0.125"][-1] == "worse"
    assert rows["structured 0.125"][-1] == "failed"


def test_the_headline_has_the_number_of_trials_and_the_best():
    record = searched()
    both = replace(record.trials[0], patchout=Patchout("structured", frequency=2, time=1))
    assert describe(both) == "structured, 2 frequency rows and 1 time column dropped"
    assert describe(record.trials[0]) == "nothing dropped"
    assert "better than dropping nothing" in headline(record)
    better = replace(record.trials[1], value=0.9, patchout=Patchout("time", time=1))
    changed = replace(record, trials=(record.trials[0], better))
    assert headline(changed) == (
        "2 configurations were tried in 2 trials. The best is time, 1 time column dropped "
        "(mAP 0.900 on the validation split)."
    )
    lost = replace(record, trials=(replace(record.trials[0], value=None, status="oom"),))
    assert "none of them succeeded" in headline(lost)


@pytest.mark.parametrize("count", [0, 1, 3, 120])
def test_no_text_leaves_a_figure_or_covers_other_text(count):
    with figure_style():
        for drawing in draw_search(searched(count)):
            if drawing.figure is not None:
                assert overlaps(drawing.figure) == [], drawing.name


def test_the_page_is_self_contained_and_its_links_work(page):
    reader = read(page)
    assert not {"script", "img"} & reader.tags
    for link in reader.links:
        assert link.startswith(("#", "data:")) or (page.parent / link).is_file(), link
    text = " ".join(" ".join(reader.words).split())
    for words in (
        "History of the search", "Importance of kind and rate", "unstructured 0.125", "worse",
        "the test split was not used", "passt-bench search quick", "cpu, 1 thread, float32",
    ):  # fmt: skip
        assert words in text


def test_a_page_rendered_only_from_its_report_is_the_same(page, tmp_path):
    before = {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    build_named("search-quick", tmp_path / "none", page.parent.parent)
    for path, text in before.items():
        assert path.read_bytes() == text, path


def test_a_search_that_only_the_reports_have_is_rendered(tmp_path):
    record = replace(searched(3), name="search-kept", confirmed=(), importance={})
    write_search(record, tmp_path / "search-kept")
    (page,) = build_named("search-kept", tmp_path / "none", tmp_path)
    assert page.parent.name == "search-kept"
    assert "No configuration that drops patches has been confirmed yet" in page.read_text()
    assert "too few different configurations" in page.read_text()
    with pytest.raises(InputError) as refused:
        build_search("search-x", tmp_path, tmp_path)
    assert refused.value.value == "search-x"
