import csv
import io
import re
from pathlib import Path

import pytest

from passt_bench.analysis.results import load_results
from passt_bench.records.store import Store, read_comparison
from passt_bench.report import comparison
from passt_bench.report.study_tables import (
    all_tables,
    cost,
    failures,
    memory,
    probes,
    quality,
    verdicts,
)
from passt_bench.report.tables import Column, Table, table, to_csv, to_latex, to_markdown
from passt_bench.report.text import NAN, Span, interval, significant
from passt_bench.report.view import StudyView, measured_variants, study_view

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


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def made() -> Table:
    return table("t", "50 % of it", COLUMNS, ROWS)


def test_blank_columns_are_omitted() -> None:
    assert [column.name for column in made().columns] == ["variant", "gap", "bytes"]
    assert table("t", "c", COLUMNS, ()).columns == COLUMNS


def test_csv_has_full_numbers_and_is_blank_without_a_number() -> None:
    first, second = read(to_csv(made()))
    assert first == {"variant": "none_of & all", "gap": "", "gap_low": "", "gap_high": "",
                     "bytes": "2"}  # fmt: skip
    assert second["variant"] == "a|b, c"
    assert [float(second[name]) for name in ("gap", "gap_low", "gap_high")] == [0.05, 0.04, 0.06]
    assert second["bytes"] == ""


def test_markdown_keeps_its_columns_for_any_name() -> None:
    caption, blank, *lines = to_markdown(made()).splitlines()
    assert (caption, blank) == ("50 % of it", "")
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}
    assert "| oom |" in lines[-1]


def test_latex_is_escaped_and_balanced() -> None:
    text = to_latex(made(), "study-t")
    assert r"none\_of \& all & -- & 2.00 \\" in text
    assert r"\caption{50 \% of it}" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\begin{tabular}{@{}lrr@{}}" in text
    # A cell that begins with a bracket would be read as an argument.
    assert "{}[x]" in to_latex(Table("t", "c", (Column("a", "a"),), (("[x]",),)), "t")
    columns = tuple(Column(f"c{i}", "c") for i in range(9))
    wide = to_latex(Table("t", "c", columns, (("a text of some length",) * 9,)), "t")
    assert r"\resizebox{\textwidth}{!}{%" in wide and wide.count("{") == wide.count("}")


def test_verdicts_say_what_the_results_say(quick_view: StudyView) -> None:
    rows = {row["variant"]: row for row in read(to_csv(verdicts(quick_view)))}
    assert list(rows) == [v.name for v in quick_view.variants]
    item = next(c for c in quick_view.results.comparisons if c.variant == "time .75")
    row = rows["time .75"]
    assert float(row["difference"]) == pytest.approx(item.difference, rel=1e-5)
    assert float(row["difference_low"]) == pytest.approx(item.low, rel=1e-5)
    assert row["verdict"] == item.verdict == "worse"
    assert (row["tokens"], rows["CNN"]["tokens"]) == ("18", "")
    # 18 of 66 tokens: 0.006 s and 0.44 ms a token
    assert float(row["train_step_seconds"]) == pytest.approx(0.006 + 18 * 4.4e-4)
    assert float(row["train_step_ratio"]) == pytest.approx(
        (0.006 + 18 * 4.4e-4) / 0.03504, rel=1e-4
    )
    assert rows["none"]["verdict"] == "baseline"
    assert rows["none"]["difference"] == ""


def test_failures_have_their_status_and_reason(quick_view: StudyView) -> None:
    shown = {row[0]: row for row in verdicts(quick_view).texts()}
    assert shown["stride 2"][2] == "3 oom"
    assert "failed" in shown["stride 2"]
    assert "oom" in shown["stride 2"]
    listed = [row[:4] for row in failures(quick_view).rows]
    assert ("time .75", "seed 1", "diverged", "the loss became infinite in epoch 4") in listed
    assert ("structured .75", "seed 2", "missing", "not run yet") in listed
    oom = [row for row in listed if row[0] == "stride 2"]
    assert [row[1] for row in oom] == ["seed 0", "seed 1", "seed 2", "cost session"]
    runs = {row[0]: row for row in quality(quick_view).texts()}
    assert "2 ok, 1 diverged" in runs["time .75"]


def test_quality_and_cost_hold_every_variant(quick_view: StudyView) -> None:
    names = [v.name for v in quick_view.variants]
    assert [row[0] for row in quality(quick_view).rows] == names
    rows = {row["variant"]: row for row in read(to_csv(cost(quick_view)))}
    assert list(rows) == names
    assert float(rows["none"]["inference_1_seconds"]) == pytest.approx(0.002)
    assert rows["stride 2"]["status"] == "oom"
    rows = {row["variant"]: row for row in read(to_csv(memory(quick_view)))}
    assert list(rows) == names
    assert float(rows["none"]["saved_for_backward_bytes"]) == pytest.approx(32 * 9e3 * 66)
    assert {row["parameters"] for row in read(to_csv(quality(quick_view)))} == {"76000", ""}


def test_occlusion_tests_include_the_score_with_nothing_hidden(quick_view: StudyView) -> None:
    rows = read(to_csv(probes(quick_view)))
    none = {row["hidden"]: row for row in rows if row["variant"] == "none"}
    assert list(none) == ["nothing", "frequency", "time"]
    value = float(none["nothing"]["all"])
    assert value == pytest.approx(quick_view.baseline.value.value, rel=1e-5)
    assert float(none["frequency"]["frequency"]) == pytest.approx(0.25 * value, rel=1e-5)
    assert float(none["frequency"]["time"]) == pytest.approx(0.9 * value, rel=1e-5)
    assert "stride 2" not in {row["variant"] for row in rows}


@pytest.mark.parametrize("name", ["quick", "esc10-patchout-type", "search-quick"])
def test_committed_tables_are_reproduced_byte_for_byte(name: str) -> None:
    folder = REPORTS / name
    view = study_view(load_results(name, [Store(folder)]))
    made = {table.name: to_csv(table) for table in all_tables(view).values()}
    assert made == {path.stem: path.read_text() for path in (folder / "tables").glob("*.csv")}


def test_committed_tables_of_costs_are_reproduced() -> None:
    folder = REPORTS / "engine_x_patchout_h100"
    record = read_comparison(folder.name, folder)
    arms = measured_variants(record, Store(folder).sessions())
    made = {item.name: to_csv(item) for item in comparison.all_tables(folder.name, arms).values()}
    known = {path.stem: path.read_text() for path in (folder / "costs").glob("*.csv")}
    assert made == {name: text for name, text in known.items() if name != "costs"}  # the figure's
