"""Shows the result of a study in a terminal, or as JSON: its answer, its tables, and its page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from passt_bench.errors import InputError
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.search import SearchRecord
from passt_bench.report.cost_tables import NAME, TOKENS, frontend_column
from passt_bench.report.evaluations import confusion_table, decisions_table, most_confused
from passt_bench.report.provenance import answer, loaded_weights, not_run
from passt_bench.report.search import search_headline, settings
from passt_bench.report.sentences import coarse, has_budgets, runs_sentence
from passt_bench.report.study_tables import (
    contrasts,
    failures,
    page_tables,
    quality,
    reached_table,
)
from passt_bench.report.tables import Column, Table, table, to_rows
from passt_bench.report.text import interval, listed, quoted, seed_range, significant, times
from passt_bench.report.view import TRAIN_STEP, StudyView

# Minimum width of the column of names, maximum width of columns of numbers in a narrow terminal,
# and the width from which a terminal is wide.
_NAME_WIDTH, _CELL_WIDTH, _WIDE = 14, 8, 110
_CLASSES, _MATRIX = 20, 12  # rows of decisions, and classes of a matrix, that are printed
_TRIALS = 10  # of a search, the best first
_INPUT_ERROR = f"{InputError.__module__}.{InputError.__name__}: "  # in a traceback
_COSTS = "time of a training step{}, and {} per clip, / baseline"


def print_result(
    console: Console, view: StudyView | None, search: SearchRecord | None = None
) -> None:
    """Prints what a study or search found: tables that fit into 80 columns, then the answer."""
    if view is not None:
        _print_tables(console, view)
    if search is not None:
        if view is None:
            found = settings(search)
            best = Table(found.name, "", found.columns, found.rows[:_TRIALS])
            print_table(console, best, without=("rate", "seconds", "key"))
        console.print(search_headline(search, view), soft_wrap=False)
    if view is not None:
        for part in (_answer(view), *_notes(view)):
            # A no-break space keeps an interval or a command on one line.
            text = re.sub(r"\[[^]]*\]|`[^`]*`", lambda x: x[0].replace(" ", "\xa0"), part)
            lines = textwrap.fill(text, console.width, break_on_hyphens=False)
            console.print("\n" + lines.replace("\xa0", " "))


def _answer(view: StudyView) -> str:
    return " ".join(filter(None, (answer(view), runs_sentence(view))))


def _notes(view: StudyView) -> list[str]:
    """What limits or qualifies the answer."""
    weights = f"Start weights: {'; '.join(loaded)}." if (loaded := loaded_weights(view)) else ""
    return list(filter(None, (_outlook(view), coarse(view), not_run(view), weights)))


def _outlook(view: StudyView) -> str:
    """The numbers of seeds that undecided verdicts probably take; empty if none is known."""
    judged = () if has_budgets(view) else (v.comparison for v in view.answers)
    found = [item for item in (*judged, *chain(*view.results.declared.values())) if item]
    undecided = [item for item in found if item.margin and item.verdict == "undecided"]
    takes = [(item.variant, seed_range(item.blocks_needed)) for item in undecided]
    known = [f"{seeds} of them ({quoted(name)})" for name, seeds in takes if seeds]
    text = "For a verdict on what is undecided, a new study with fresh seeds probably takes "
    return f"{text}{listed(known)}." if known else ""


def _print_tables(console: Console, view: StudyView) -> None:
    """With budgets, contrasts alone answer the question."""
    budgets = has_budgets(view) and view.results.declared
    show = partial(print_table, console, packed=True)
    if not view.others and view.study.seeds:
        show(quality(view), caption="", without=("variant", "tokens", "dropped"))
    elif not budgets:
        show(_summary(view))
    declared = contrasts(view)
    place = [column.name for column in declared.columns].index("family")
    for family in view.results.declared:
        own = replace(declared, rows=tuple(row for row in declared.rows if row[place] == family))
        show(own, caption=family, without=("family", "detectable", "remark"))
    if budgets and (reached := reached_table(view)).rows:
        show(reached, caption="the cost of equal quality, divided by the baseline's")
    failed = failures(view)
    for name, run, status, message, *_ in failed.rows:
        if status != "missing":  # the traceback is on the page
            last = message.strip().splitlines()[-1].removeprefix(_INPUT_ERROR)
            console.print(f"{name}, {run}: {status}: {last}", soft_wrap=False)


def print_decisions(console: Console, record: EvaluationRecord) -> None:
    """Prints the decisions of an evaluation: classes with the lowest F1, and confusions."""
    made = decisions_table([record])
    shown = replace(made, rows=made.rows[:_CLASSES])
    caption = f"Decisions by class, the lowest F1 first: {len(shown.rows)} of {len(made.rows)}"
    hidden = ("checkpoints", "data", "decided", "right")
    print_table(console, shown, caption=caption, without=hidden, packed=True)
    matrix = confusion_table(record)
    if 0 < len(matrix.rows) <= _MATRIX:
        print_table(console, matrix, packed=True)
    if text := most_confused(record):
        console.print(text, soft_wrap=False)


def result_json(
    view: StudyView | None, search: SearchRecord | None, page: Path | None
) -> dict[str, Any]:
    """The result as JSON: question, answer, page, and the tables of the page as lists of rows.

    Fields of a row are the columns of the table's CSV file; None where there is no value.
    """
    record = view.study if view else search
    assert record is not None
    return {
        "study": record.name,
        "question": record.question,
        "answer": _answer(view) if view else "",
        "notes": _notes(view) if view else [],
        "search": search_headline(search, view) if search else "",
        "metric": record.metric,
        "baseline": record.baseline,
        "page": str(page) if page else None,
        "tables": {name: to_rows(found) for name, found in result_tables(view, search).items()},
    }


def result_tables(view: StudyView | None, search: SearchRecord | None) -> dict[str, Table]:
    """The tables of a page that have rows, by name."""
    tables = {"settings": settings(search)} if search and search.trials else {}
    return tables | (page_tables(view) if view else {})


def _summary(view: StudyView) -> Table:
    """Quality and cost of each variant; full intervals of costs are on the page."""
    base, whole = view.baseline.memory_per_clip, " and of the whole training"
    caption = _COSTS.format(whole * bool(view.whole_training), view.memory_name)
    memory = Column("memory", "memory", times, get=lambda v: v.memory_per_clip / base)
    columns: tuple[Column, ...] = (
        NAME,
        TOKENS,
        Column("speed", "clips/s", significant, get=lambda v: v.speed.value),
        Column("step", "step without front end", times, get=lambda v: v.cost(TRAIN_STEP).ratio),
        frontend_column(view, "with it"),
        memory,
    )  # fmt: skip
    if view.study.seeds:
        caption = f"; {caption}" if view.results.sessions else ""
        caption = f"{view.metric}, differences with 95 % intervals{caption}"
        columns = (
            NAME,
            Column("value", view.metric, significant,
                   get=lambda v: v.value.value if v.value.known else v.cells),
            Column("difference", "difference", partial(interval, sign=True),
                   get=lambda v: v.difference),
            Column("verdict", "verdict", get=lambda v: v.verdict),
            Column("step", "step", times, get=lambda v: v.cost(TRAIN_STEP).ratio.value),
            Column("training", "whole", times, get=lambda v: view.whole_training.get(v.name)),
            memory,
        )  # fmt: skip
    return table("summary", caption, columns, view.variants)


def print_table(
    console: Console,
    made: Table,
    *,
    caption: str | None = None,
    without: Sequence[str] = (),
    packed: bool = False,
) -> None:
    """Prints a table of a page, possibly with another caption and without some columns.

    Text too long for its column is wrapped, so that names stay whole; in a narrow terminal, cells
    of numbers as well, unless they are ``packed`` into 80 columns by themselves.
    """
    if title := made.caption if caption is None else caption:
        console.print(Text(title), soft_wrap=False)
    shown = Grid(box=SIMPLE, padding=(0, 1, 0, 0) if packed else 0, show_edge=False)
    wanted = [number for number, item in enumerate(made.columns) if item.name not in without]
    texts, narrow = made.texts(), console.width < _WIDE and not packed
    for number in wanted:
        column = made.columns[number]
        words = [word for row in texts for word in row[number].split()]
        shown.add_column(
            Text(column.heading),
            justify="right" if column.numeric else "left",
            overflow="fold",
            min_width=min(max(map(len, words), default=0), _NAME_WIDTH) if number == 0 else None,
            max_width=_CELL_WIDTH if column.numeric and narrow else None,
            no_wrap=packed and (column.numeric or any("[" in row[number] for row in texts)),
        )
    for row in texts:
        shown.add_row(*(Text(row[number]) for number in wanted))
    console.print(shown, soft_wrap=not packed)
