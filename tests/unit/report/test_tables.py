import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.records.store import Store, read_search
from passt_bench.report.cost_tables import cost, memory
from passt_bench.report.figures.forest import contrasts as drawn_contrasts
from passt_bench.report.figures.forest import forest
from passt_bench.report.provenance import study_facts
from passt_bench.report.search import settings
from passt_bench.report.study_tables import (
    contrasts,
    failures,
    page_tables,
    probes,
    quality,
    verdicts,
)
from passt_bench.report.tables import Column, Table, table, to_csv, to_latex, to_markdown
from passt_bench.report.text import NAN, Span, interval, significant
from passt_bench.report.view import StudyView, study_view

REPORTS = Path(__file__).parents[3] / "reports"

COLUMNS = (
    Column("variant", "variant"),
    Column("gap", "difference", interval, span=True),
    Column("bytes", "memory", significant, "MiB"),
    Column("never", "never", significant),
)
ROWS = (
    ("none_of & all", Span(NAN), 2.0, None),
    ("a|b, c", Span(0.05, 0.04, 0.06), "oom", None),
)
MADE = table("t", "50 % of it", COLUMNS, ROWS)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_format_of_a_table() -> None:
    first, second = read(to_csv(MADE))  # a column without any value is left out
    assert first == {"variant": "none_of & all", "gap": "", "gap_low": "", "gap_high": "",
                     "bytes": "2"}  # fmt: skip
    assert second["variant"] == "a|b, c"
    assert [float(second[name]) for name in ("gap", "gap_low", "gap_high")] == [0.05, 0.04, 0.06]
    assert second["bytes"] == ""
    assert table("t", "c", COLUMNS, ()).columns == COLUMNS
    caption, blank, *lines = to_markdown(MADE).splitlines()
    assert (caption, blank) == ("50 % of it", "")
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [4] * 4
    assert "| oom |" in lines[-1]


def test_latex_aligns_numbers_and_sets_the_rest_as_it_is() -> None:
    text = to_latex(MADE, "study-t")
    assert r"none\_of \& all & {--} &  & 2.00 \\" in text
    assert r"a|b, c & 0.050 & \scriptsize [0.040, 0.060] & {oom} \\".replace("|", "$|$") in text
    assert r"variant & \multicolumn{2}{c}{difference} & {memory (MiB)} \\" in text
    assert r"\begin{tabular}{@{}lS[table-format=1.3]@{\,}lS[table-format=1.2]@{}}" in text
    assert r"\caption{50 \% of it}" in text and text.count("{") == text.count("}")
    signed = Table("t", "c", (Column("n", "n", str),), (("−0.5",), ("12 345.25×",), ("+1",)))
    narrow = to_latex(signed, "t", narrow=True)
    assert "S[table-format=+5.2]" in narrow and r"\begin{table}" in narrow
    assert [line.strip() for line in narrow.splitlines()[10:13]] == [
        r"-0.5 \\", r"12 345.25 \\", r"+1 \\",
    ]  # fmt: skip
    # A cell that begins with a bracket would be read as an argument.
    assert "{}[x]" in to_latex(Table("t", "c", (Column("a", "a"),), (("[x]",),)), "t")
    assert r"\end{tabular}" in to_latex(Table("t", "c", COLUMNS, ()), "t")


def test_columns_are_chosen_by_their_names_in_csv() -> None:
    chosen = MADE.only(["bytes", "variant"])
    assert [column.name for column in chosen.columns] == ["bytes", "variant"]
    assert chosen.rows == ((2.0, "none_of & all"), ("oom", "a|b, c"))
    with pytest.raises(InputError) as refused:
        MADE.only(["gap", "never"])
    assert (refused.value.field, refused.value.value) == ("--columns", "never")


def test_verdicts_say_what_the_results_say(quick_view: StudyView) -> None:
    rows = {row["variant"]: row for row in read(to_csv(verdicts(quick_view)))}
    item = next(c for c in quick_view.results.comparisons if c.variant == "time .75")
    row = rows["time .75"]
    known = {"difference": item.difference, "difference_low": item.low}
    # 18 of 66 tokens: 0.006 s and 0.44 ms a token
    step = 0.006 + 18 * 4.4e-4
    known |= {"train_step_seconds": step, "train_step_ratio": step / 0.03504}
    assert {name: float(row[name]) for name in known} == pytest.approx(known, rel=1e-4)
    assert row["verdict"] == item.verdict == "worse"
    assert (row["tokens"], rows["CNN"]["tokens"]) == ("18", "")
    assert (rows["none"]["verdict"], rows["none"]["difference"]) == ("baseline", "")


def test_the_coverage_is_that_of_the_planned_looks(quick_view: StudyView) -> None:
    assert "cover together with 95 %; margin" in verdicts(quick_view).caption
    for looks, words in (((3,), "95 %"), ((3, 5), "97.1 %"), ((3, 4, 5, 7, 9), "98.4 %")):
        view = replace(quick_view, study=replace(quick_view.study, looks=looks))
        words += " at each look" * (len(looks) > 1)
        for caption in (
            verdicts(view).caption,
            contrasts(view).caption,
            forest(view).caption,
            drawn_contrasts(view).caption,
            dict(study_facts(view)).get("Verdicts", words),
        ):
            assert words in caption


def test_a_contrast_that_is_real_but_inside_the_margin_says_so(quick_view: StudyView) -> None:
    ((family, (first, second, *_)),) = quick_view.results.declared.items()
    items = (
        replace(first, low=0.001, high=0.01, verdict="same"),
        replace(second, low=-0.01, high=0.01, verdict="same"),
    )
    results = replace(quick_view.results, declared={family: items})
    shown = read(to_csv(contrasts(replace(quick_view, results=results))))
    assert [row["remark"] for row in shown] == ["real, but inside the margin", ""]
    slope = replace(first, margin=0.0, low=0.001, high=0.01, verdict="better")
    results = replace(quick_view.results, declared={family: (slope,)})
    view = replace(quick_view, results=results)
    assert read(to_csv(contrasts(view)))[0]["verdict"] == "above zero"
    assert drawn_contrasts(view).data["verdict"].tolist() == ["above zero"]
    results = replace(quick_view.results, declared={family: items[1:]})
    (row,) = read(to_csv(contrasts(replace(quick_view, results=results))))
    assert "remark" not in row


def test_failures_have_their_status_and_reason(quick_view: StudyView) -> None:
    shown = {row[0]: row for row in verdicts(quick_view).texts()}
    assert shown["stride 2"][3] == "5 oom" and "failed" in shown["stride 2"]
    listed = [row[:4] for row in failures(quick_view).rows]
    assert ("time .75", "seed 1", "diverged", "the loss became infinite in epoch 4") in listed
    assert ("structured .75", "seed 2", "timeout") in [row[:3] for row in listed]
    oom = [row[1] for row in listed if row[0] == "stride 2"]
    assert oom == [*(f"seed {seed}" for seed in range(5)), "cost session"]
    runs = {row[0]: row for row in quality(quick_view).texts()}
    assert "4 ok, 1 diverged" in runs["time .75"]


def test_quality_and_cost_hold_every_variant(quick_view: StudyView) -> None:
    made = {}
    for build in (verdicts, quality, cost, memory):
        made[build] = {row["variant"]: row for row in read(to_csv(build(quick_view)))}
        assert list(made[build]) == [v.name for v in quick_view.variants]
    assert float(made[cost]["none"]["inference_1_seconds"]) == pytest.approx(0.002)
    assert made[cost]["stride 2"]["status"] == "oom"
    saved = float(made[memory]["none"]["saved_for_backward_bytes"])
    assert saved == pytest.approx(32 * 9e3 * 66)


def test_predictions_stand_beside_measurements(quick_view: StudyView) -> None:
    assert not any("predicted" in column.name for column in cost(quick_view).columns)
    first, *others = quick_view.variants
    assert first.arm is not None
    peak, step = 0.5 * first.memory["train_peak"], 1.25 * first.cost("train_step").seconds.value
    arm = replace(first.arm, predicted={"train_step": step, "train_peak": peak})
    view = replace(quick_view, variants=(replace(first, arm=arm), *others))
    time, space = (read(to_csv(build(view)))[0] for build in (cost, memory))
    assert float(time["train_step_predicted"]) == pytest.approx(step)
    assert float(time["train_step_predicted_error"]) == pytest.approx(0.25)
    assert float(space["train_peak_predicted_error"]) == pytest.approx(-0.5)
    assert cost(view).texts()[0][-2] == "+25 %"
    assert {row["train_step_predicted"] for row in read(to_csv(cost(view)))[1:]} == {""}


def test_occlusion_tests_include_the_score_with_nothing_hidden(quick_view: StudyView) -> None:
    rows = read(to_csv(probes(quick_view)))
    none = {row["hidden"]: row for row in rows if row["variant"] == "none"}
    assert list(none) == ["nothing", "frequency", "time"]
    value = float(none["nothing"]["all"])
    assert value == pytest.approx(quick_view.baseline.value.value, rel=1e-5)
    assert float(none["frequency"]["frequency"]) == pytest.approx(0.25 * value, rel=1e-5)
    assert float(none["frequency"]["time"]) == pytest.approx(0.9 * value, rel=1e-5)
    assert "stride 2" not in {row["variant"] for row in rows}


@pytest.mark.parametrize("name", ["quick", "finetune_from_all", "search-quick"])
def test_committed_tables_are_reproduced_byte_for_byte(name: str) -> None:
    folder = REPORTS / name
    made = page_tables(study_view(load_results(name, [Store(folder)])))
    if name == "search-quick":
        made["settings"] = settings(read_search(name, folder))
    known = {path.stem: path.read_text() for path in (folder / "tables").glob("*.csv")}
    assert {table.name: to_csv(table) for table in made.values()} == known
