import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.records.store import Store
from passt_bench.report.build import render_index
from passt_bench.report.provenance import compared, judged_elsewhere, primary_verdicts
from passt_bench.report.view import StudyView, study_view

REPORTS = Path(__file__).parents[3] / "reports"


def test_every_study_is_linked_the_newest_first(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "a")
    shutil.copytree(small, tmp_path / "b")
    path = tmp_path / "b" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(summary | {"finished": "2026-12-24", "question": "Is <b> newer?"}))
    text = render_index(tmp_path).read_text(encoding="utf-8")
    assert text.index('href="b/index.html"') < text.index('href="a/index.html"')
    assert "Is &lt;b&gt; newer?" in text and "Each page answers one question" in text
    path.write_text(json.dumps(summary | {"finished": "2020-12-24", "study": "equal_cost"}))
    main = render_index(tmp_path).read_text(encoding="utf-8")
    assert main.index('href="b/index.html"') < main.index('href="a/index.html"')
    assert "2026-12-24" in text and "3 variants" in text and "baseline none" in text
    assert summary["headline"] in text
    assert "paper/index.html" not in text and "#search" not in text
    (tmp_path / "a" / "search").mkdir()
    (tmp_path / "a" / "search" / f"{summary['study']}.json").touch()
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "index.html").touch()
    text = render_index(tmp_path).read_text(encoding="utf-8")
    assert 'href="a/index.html#search"' in text and 'href="paper/index.html"' in text


def test_the_index_begins_with_what_all_studies_found(small: Path, tmp_path: Path) -> None:
    wanted = {
        "a": ({"x y": "better", "x z": "better", "z": "worse"}, {"half of the patches": "better"}),
        "b": (
            {"1": "better", "2": "undecided", "3": "undecided", "4": "undecided", "x z": "same"},
            {"a quarter": "better", "most": "undecided"},
        ),
        "c": ({}, {}),  # of costs
        "late": ({}, {}),
    }
    for name, (verdicts, primary) in wanted.items():
        shutil.copytree(small, tmp_path / name)
        path = tmp_path / name / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        changes = {"study": name, "dataset": "d", "compared": verdicts, "primary": primary}
        changes["judged"] = {"a": "2026-01-01T08", "b": "2026-01-01T09"}.get(name, "")
        changes["changed"] = "2026-01-01" if name == "late" else ""
        path.write_text(json.dumps(summary | changes), encoding="utf-8")
    text = " ".join(render_index(tmp_path).read_text(encoding="utf-8").split())
    assert (
        "Primary questions, chosen before the runs: better for half of the patches (a, d); a "
        "quarter (b, d); undecided for most (b, d); not counted: late, whose contrasts "
        "changed after the first run. In 2 studies, 7 variants against baselines: 3 better, 3 "
        "undecided and 1 worse (of several studies the first verdict counts; 1 later left out).</p>"
    ) in text


def test_the_verdicts_of_a_summary_are_those_of_its_page(quick_view: StudyView) -> None:
    half = replace(quick_view.others[0].comparison, verdict="better")  # type: ignore[type-var]
    declared = {"half (primary)": [half], "rest": [half], "two (primary)": [half, half]}
    view = replace(quick_view, results=replace(quick_view.results, declared=declared))
    assert primary_verdicts(view) == {"half": "better"}
    late = replace(view, study=replace(view.study, contrasts_changed="2026-01-01"))
    assert primary_verdicts(late) == {}
    first, *others = view.variants
    scale = replace(others[0], record=replace(others[0].record, reference=True))
    found = compared(replace(view, variants=(first, scale, *others[1:])))
    assert Counter(found.values()) == Counter(v.verdict for v in others[1:])
    turned = replace(view, study=replace(view.study, baseline=others[1].name))
    assert len({*found} & {*compared(turned)}) == 1  # the same two, the other way round
    none = replace(others[1], comparison=replace(others[1].comparison, verdict="no verdict"))  # type: ignore[type-var]
    assert len(compared(replace(view, variants=(first, none)))) == 0


@pytest.mark.parametrize("text", ["{", "{}"])
def test_a_broken_summary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "summary.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        render_index(tmp_path)
    assert refused.value.source == tmp_path / "x" / "summary.json"


def test_the_verdicts_of_other_studies_on_the_same_runs_are_named() -> None:
    def view(name: str) -> StudyView:
        return study_view(load_results(name, [Store(REPORTS / name)]))

    quick, overlap, other = view("quick"), view("overlap"), view("esc50_patchout")
    text = judged_elsewhere(quick, [overlap, other])
    pair = "“stride 6, 8 epochs” against “none” is better here but not worse in “overlap”, judged f"
    assert pair in text and "esc50" not in text
    assert text.endswith("Where verdicts differ, that of the study that was judged first holds.")
    turned = "“stride 6” against “stride 8” is not worse here but better in “quick”, judged la"
    assert turned in judged_elsewhere(overlap, [quick])
    assert " is worse here and in “overlap”" in text
    assert judged_elsewhere(quick, [other]) == ""
    # Nothing is compared with a study that has not judged its runs yet.
    early = replace(overlap, results=replace(overlap.results, look=None))
    assert judged_elsewhere(quick, [early]) == ""
