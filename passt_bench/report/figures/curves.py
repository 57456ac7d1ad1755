"""Draws the training loss and the metric on a validation split by epoch, a panel per variant."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from passt_bench.records.run import cell_name
from passt_bench.registry import FIGURES
from passt_bench.report import theme
from passt_bench.report.text import quoted, wrapped
from passt_bench.report.view import StudyView

NAME, TITLE = "learning_curves", "Learning curves"
VALIDATION, VALIDATION_TITLE = "validation_curves", "Quality on the validation split by epoch"
CURVE = "train_loss"
_POINTS = 100  # of a curve at most, in a panel two inches wide
_VALIDATED = "inner/"  # and the metric, in records with an epoch chosen on a validation split


def curves_data(view: StudyView, curve: str = CURVE) -> pd.DataFrame:
    """One row per variant and epoch: mean, minimum and maximum of a curve over its runs.

    Each failed run has separate rows, with ``runs`` 1 and its status. Of long curves every n-th
    epoch is shown, counted from the last.
    """
    columns = ["variant", "kind", "status", "cell", "epoch", "mean", "low", "high", "runs"]
    rows = []
    for v in view.variants:
        series = [("ok", "", [run.curves[curve] for run in v.ok_runs if curve in run.curves])]
        series += [
            (run.status, cell_name(run.seed, run.fold).replace(",", ""), [run.curves[curve]])
            for run in v.runs
            if run.status != "ok" and run.curves.get(curve)
        ]
        for status, cell, curves in series:
            epochs = list(enumerate(zip(*curves, strict=False), 1))
            for epoch, values in epochs[:: -(len(epochs) // _POINTS + 1)][::-1]:
                mean, number = sum(values) / len(values), len(values)
                ends = (min(values), max(values))
                rows.append((v.name, v.kind, status, cell, epoch, mean, *ends, number))
    return pd.DataFrame(rows, columns=columns)


@FIGURES.register(NAME, version=1, summary=TITLE)
def curves(view: StudyView) -> theme.Drawing:
    """Learning curves, one panel per variant: x is the epoch, y the training loss."""
    note = " With patches dropped the loss is that of a harder task: compare shapes, not heights."
    return _drawing(view, (NAME, TITLE), CURVE, "training loss", note * bool(view.others))


@FIGURES.register(VALIDATION, version=1, summary=VALIDATION_TITLE)
def validation(view: StudyView) -> theme.Drawing:
    """As `curves`, of the metric on the validation split by which the epoch is chosen."""
    curve = validation_curve(view)
    label = f"{curve.removeprefix(_VALIDATED)} on the validation split"
    note = " The weights of a run's best epoch are tested, so the top of a curve is not a result."
    return _drawing(view, (VALIDATION, VALIDATION_TITLE), curve, label, note)


def validation_curve(view: StudyView) -> str:
    """The name of the curve on the validation split; empty if no record holds one."""
    names = {name for v in view.variants for run in v.runs for name in run.curves}
    return min((name for name in names if name.startswith(_VALIDATED)), default="")


def _drawing(
    view: StudyView, named: tuple[str, str], curve: str, label: str, note: str
) -> theme.Drawing:
    data = curves_data(view, curve)
    if data.empty:
        return theme.placeholder(*named, "no record holds such a curve.")
    variants, whole = list(dict.fromkeys(data["variant"])), data[data["status"] == "ok"]
    base = whole[whole["variant"] == view.baseline.name]
    caption = f"The {label} by epoch"
    if (whole["runs"] > 1).any():
        caption += ": the line is the mean over runs, the band from the minimum to the maximum"
    if variants[1:] and len(base):
        caption += f"; gray is the mean of the baseline, {quoted(view.baseline.name)}"
    if len(whole) < len(data):
        caption += ". A thin dashed line that ends in a cross is a run that failed"
    caption += f".{note}"
    columns = theme.balanced_columns(len(variants))
    figure, panels = theme.panel_grid(len(variants), columns, 1.75, 0.6, shared=True)
    styles = theme.kind_styles(data["kind"])
    for axes, variant in zip(panels, variants, strict=True):
        curves = data[data["variant"] == variant]
        axes.plot(base["epoch"], base["mean"], color="#868e9c", linewidth=1.3)
        _draw_panel(axes, curves, styles[curves["kind"].iloc[0]].color)
        axes.set_title(wrapped(variant, 120 // columns - 2, 3), fontsize=8)
    if len(whole):
        panels[0].set_ylim(0, whole["high"].max() * 1.08 or 1.0)  # a metric may be 0 throughout
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(label, fontsize=9)
    return theme.Drawing(*named, caption, data, figure)


def _draw_panel(axes: Axes, data: pd.DataFrame, color: str) -> None:
    whole = data[data["status"] == "ok"]
    axes.fill_between(whole["epoch"], whole["low"], whole["high"], color=color, alpha=0.22, lw=0)
    marker = "o" if len(whole) == 1 else None
    axes.plot(whole["epoch"], whole["mean"], color=color, linewidth=1.6, marker=marker)
    for _, run in data[data["status"] != "ok"].groupby("cell"):
        axes.plot(run["epoch"], run["mean"], color=theme.MUTED, linewidth=0.9, linestyle="--")
        axes.plot(run["epoch"].iloc[-1], run["mean"].iloc[-1], marker="x", color=theme.MUTED)
