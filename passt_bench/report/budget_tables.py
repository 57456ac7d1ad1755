"""Says what models trained with several budgets need to be as good as the baseline's model."""

from __future__ import annotations

from math import isfinite

from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import fixed, listed, quoted
from passt_bench.report.view import StudyView

NAME = "reached"
_NOT = "not reached"


def reached_table(view: StudyView) -> Table:
    """For each budget of the baseline's model: what the others need for the same quality."""
    units = {unit: found for unit, found in view.results.reached.items() if found}
    columns = [
        Column("target", "as good as"),
        Column("series", "model"),
        Column("reached", "seeds that reach it"),
        *(Column(f"{unit}_needed".lower(), f"{unit} needed") for unit in units),
    ]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for unit, found in units.items():
        for item in found:
            row = rows.setdefault((item.variant, item.line), {"": f"{item.reached} of {item.n}"})
            row[unit] = share_text(item.share)
    caption = (
        f"{view.study.name}: the cost until a model is as good in {view.metric} as the baseline's "
        "with each of its budgets in the same seed, divided by that budget; medians over seeds, "
        "with distribution-free 95 % intervals. Values are interpolated between the ends of "
        "trainings over the logarithm of their cost, never read inside a training."
    )
    return table(
        NAME,
        caption,
        columns,
        [(*key, *(row.get(unit) for unit in ("", *units))) for key, row in rows.items()],
    )


def share_text(share: tuple[float, float, float]) -> str:
    """A share of a cost, ``0.41× [0.35, not reached]``."""
    value, low, high = (f"{fixed(x, 2)}" if isfinite(x) else _NOT for x in share)
    return f"{value}× [{low}, {high}]" if isfinite(share[0]) else f"{_NOT} [{low}, {high}]"


def reached_sentence(view: StudyView) -> str | None:
    """What the other models need to be as good as the baseline's with each budget.

    By time where steps were measured, else by FLOPs; None if no model has several budgets.
    """
    known = [(unit, found) for unit, found in view.results.reached.items() if found]
    if not known:
        return None
    unit, found = known[-1]
    sentences = []
    for line in dict.fromkeys(item.line for item in found):
        own = [item for item in found if item.line == line]
        texts = (f"{quoted(item.variant)} for {share_text(item.share)} of its" for item in own)
        what = "training time" if unit == "time" else unit
        sentences.append(f"{quoted(line)} is as good as {listed(texts)} {what}.")
    return " ".join(sentences)
