"""Describes a search: its result in words, its configurations in a table, facts, and figures."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import pandas as pd
import seaborn
from matplotlib import colormaps
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pandas.api.types import is_numeric_dtype

from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.report import theme
from passt_bench.report.provenance import Fact, engine_text
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import counted, fixed, interval, listed, quoted, significant
from passt_bench.report.view import StudyView
from passt_bench.spec.recipe import ModelSpec, TrainingSpec

FIGURES = {
    "search_history": "History of the search",
    "search_settings": "Configurations by parameter",
    "search_importance": "Importance of parameters",
    "search_front": "Quality against cost",
    "search_parallel": "Configurations in parallel coordinates",
}
PATCHOUT = {"kind", "rate", "time rate", "frequency rate"}


def search_headline(search: SearchRecord, confirming: StudyView | None = None) -> str:
    """The number of configurations tried and the best one, in two sentences.

    ``confirming`` is the study of the best ones, with seeds that the search did not use.
    """
    count = len(search.settings)
    tried = (
        f"{counted(count, 'configuration')} {'was' if count == 1 else 'were'} tried in "
        f"{counted(len(search.trials), 'trial')}"
    )
    if not search.best:
        return f"{tried}; none of them succeeded."
    best, variants = search.best[0], confirming.variants if confirming else ()
    beside = ""
    if any(v.name == search.default for v in variants):
        beside = f" {quoted(search.default)} is the study's own variant, trained for comparison."
    value = f"{search.metric} {significant(best.value or 0.0)} on the validation split"
    budget, base = search.budget.replace("flops", "FLOPs"), quoted(search.baseline)
    paid = f"With as many {budget} as {base},"
    if best.patchout.kind == "none" and best.keys == search.trials[0].keys:
        kinds = {trial.patchout.kind for trial in search.best}
        if kinds == {"none"}:
            return f"{tried}. None that drops patches has succeeded yet; without patchout: {value}."
        if untried := listed(kind for kind in search.kinds if kind not in kinds):
            value += f"; of {untried} none has succeeded yet"
        return f"{tried}. {paid} none of them is better than dropping nothing ({value}).{beside}"
    name = next(iter(search.confirmed), "")  # the best first
    tested = next((v for v in variants if v.name == name and v.value.known), None)
    if tested is None and len(search.best) > 1:
        value += f", the best of {len(search.best)} and so too high; unconfirmed"
    elif tested is not None:
        value += f"; {interval(tested.value)} on the test split with fresh seeds, "
        value += f"verdict against {quoted(search.baseline)}: {tested.verdict}"
    return f"{tried}. {paid} the best is {describe(best)} ({value}).{beside}"


def describe(trial: TrialRecord) -> str:
    """A configuration in words: ``structured, 2 rows and 3 columns of patches dropped``."""
    own = {name: v for name, v in trial.params.items() if name not in PATCHOUT}
    others = [
        f", {name.rpartition('.')[2].replace('_', ' ')} "
        + (significant(value) if isinstance(value, float) else str(value))
        for name, value in own.items()
    ]
    if trial.patchout.kind == "none":
        return "".join(("nothing dropped", *others))
    counts = (
        (trial.patchout.patches, "single patch", "single patches"),
        (trial.patchout.frequency, "frequency row", "frequency rows"),
        (trial.patchout.time, "time column", "time columns"),
    )
    parts = [f"{n} {one if n == 1 else many}" for n, one, many in counts if n is not None]
    return "".join((f"{trial.patchout.kind}, {listed(parts)} dropped", *others))


def settings(search: SearchRecord) -> Table:
    """Every configuration, the best first, those that failed last."""
    trials = [*search.best, *(trial for trial in search.settings if trial.value is None)]
    columns = (
        Column("setting", "configuration", get=describe),
        Column("rate", "suggested rate", partial(fixed, places=3), get=lambda t: t.rate),
        Column("tokens", "tokens", str, get=lambda t: t.tokens),
        # Its name in CSV files is older than its title.
        Column(f"inner_{search.metric}", f"{search.metric}, validation split", significant,
               get=lambda t: t.status if t.value is None else t.value),
        *(
            Column(name, f"{name} / baseline", partial(fixed, places=3),
                   get=partial(_cost, name))
            for name in search.objectives
        ),
        Column("suggested", "times suggested", str,
               get=lambda t: sum(other.keys == t.keys for other in search.trials)),
        Column("seconds", "trained for", partial(fixed, places=1), "s",
               get=lambda t: t.seconds or None),
        Column("key", "record", get=lambda t: t.keys[0]),
    )  # fmt: skip
    caption = f"{search.name}: configurations by {search.metric} on the validation split."
    return table("settings", caption, columns, trials)


def _cost(objective: str, trial: TrialRecord) -> float | None:
    return trial.costs.get(objective)


def search_facts(search: SearchRecord) -> list[Fact]:
    """(name, value) pairs about how a search was made."""
    recipe = search.recipe
    repeated = len(search.trials) - len(search.settings)
    pruned = sum(trial.status == "pruned" for trial in search.trials)
    failures = sum(trial.status not in ("ok", "pruned") for trial in search.settings)
    held = "" if search.fold is None else f" of all folds but {search.fold}"
    rates, space = search.rates, search.space
    if not space:  # of the first records
        steps = f"{rates[0]:g} to {rates[-1]:g} in steps of {rates[1] - rates[0]:g}"
        space = {"kind": listed(search.kinds), "rate": steps}
    share = f"{100 * recipe.training.validation_share:.0f} % of the training clips{held}"
    facts = {
        "Data": f"{search.fingerprint.title} ({search.fingerprint.digest})",
        "Objective": f"{search.metric} on {share}, held out for the search; the test split was not "
        "used",
        "Search space": "; ".join(f"{name}: {values}" for name, values in space.items()),
        "Budget of a trial": f"the {search.budget.replace('flops', 'FLOPs')} of "
        f"{quoted(search.baseline)}, on the other clips",
        "Further objectives": listed(search.objectives) or "none",
        "Pruning": search.pruning,
        "Seeds": listed(map(str, search.seeds)),
        "Trials": f"{len(search.trials)}, of which {repeated} repeated a configuration and were "
        f"not trained, {pruned} were pruned, and {failures} failed",
        "Sampler": "tree-structured Parzen estimator (Optuna), the first trial drops nothing",
        "Training time": f"{sum(t.seconds for t in search.trials) / 60:.1f} min in all",
        "Engine": engine_text(recipe.engine),
        "Recipe: model": _fields(recipe.model),
        "Recipe: training": _fields(recipe.training),
    }
    return list(facts.items())


def _fields(part: ModelSpec | TrainingSpec) -> str:
    return ", ".join(f"{name} {v}" for name, v in asdict(part).items() if v is not None)


def _label(column: str) -> str:
    """A column in words."""
    named = {"tokens": "tokens kept in training", "rate": "share of patches dropped"}
    return named.get(column, column.rpartition(".")[2].replace("_", " "))


def draw_search(search: SearchRecord) -> list[theme.Drawing]:
    """All figures of a search; write them under `theme.figure_style` too."""
    if not search.best:
        why = "no trial of this search succeeded yet."
        return [theme.placeholder(name, title, why) for name, title in [*FIGURES.items()][:3]]
    with theme.figure_style():
        drawings = [history(search), influence(search), slices(search)]
        drawings += [front(search)] if search.objectives else []
        drawings += [parallel(search)] if {*search.space} - PATCHOUT else []
        return drawings


def history_data(search: SearchRecord) -> pd.DataFrame:
    """One row per trial: what was suggested, its value, and the best value so far."""
    rows = [
        (t.number, t.patchout.kind, t.rate, t.tokens, t.status, t.value,
         "" if t.repeats is None else t.repeats)
        for t in search.trials
    ]  # fmt: skip
    columns = ["trial", "kind", "rate", "tokens", "status", "value", "repeats"]
    data = pd.DataFrame(rows, columns=columns).astype({"value": float})
    best = data["value"].cummax() if search.better == "greater" else data["value"].cummin()
    data.insert(6, "best", best.ffill())
    return data


def history(search: SearchRecord) -> theme.Drawing:
    """History: x is the number of the trial, y its value and the best so far."""
    name = "search_history"
    data = history_data(search)
    caption = (
        f"{search.metric} on the validation split by trial; the line is the best so far. A hollow "
        "mark repeats the configuration of an earlier trial and was not trained again."
    )
    if (data["status"] != "ok").any():
        caption += " A cross on the axis is a trial that failed or was pruned."
    figure, axes = theme.one_panel(3.6)
    styles = theme.kind_styles(data["kind"])
    done = data[data["best"].notna()]
    axes.step(done["trial"], done["best"], where="post", color=theme.INK, linewidth=1.2)
    for row in data.to_dict("records"):
        style = styles[row["kind"]]
        if row["status"] != "ok":
            theme.draw_cross(axes, row["trial"], style.color)
            continue
        hollow = row["repeats"] != ""
        axes.plot(
            row["trial"], row["value"], marker=style.marker, color=style.color,
            markersize=4 if hollow else 6, fillstyle="none" if hollow else "full",
        )  # fmt: skip
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{search.metric} on the validation split")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles: list[Line2D] = [*theme.kind_handles(data["kind"])]
    for handle in handles:
        handle.set_linestyle("none")
    handles.append(Line2D([], [], color=theme.INK, lw=1.2, label="best so far"))
    if (data["repeats"] != "").any():
        handles.append(
            Line2D(
                [], [], color=theme.MUTED, marker="o", fillstyle="none", ls="none", label="repeated"
            )
        )
    if (data["status"] != "ok").any():
        handles.append(Line2D([], [], color=theme.MUTED, marker="x", ls="none", label="no value"))
    figure.legend(handles=handles, loc="outside upper left", ncols=8)
    return theme.Drawing(name, FIGURES[name], caption, data, figure)


def settings_data(search: SearchRecord) -> pd.DataFrame:
    """One row per configuration: kind, tokens, value, costs, and the parameters as suggested."""
    rows = []
    for trial in search.settings:
        own = {"kind": trial.patchout.kind, "tokens": trial.tokens, "status": trial.status}
        others = {name: v for name, v in trial.params.items() if name not in ("kind", "rate")}
        rows.append({**own, "rate": trial.rate, **others, **trial.costs, "value": trial.value})
    data = pd.DataFrame(rows, columns=None if rows else ["kind", "tokens", "rate", "value"])
    return data.astype({"value": float}).sort_values(["kind", "tokens"], ignore_index=True)


def slices(search: SearchRecord) -> theme.Drawing:
    """Slices: the value of each configuration against each parameter, and the tokens kept."""
    name = "search_settings"
    caption = (
        f"{search.metric} on the validation split of every configuration by kind, against each "
        f"parameter; with {counted(len(search.seeds), 'seed')}, small differences are noise."
    )
    data = settings_data(search)
    hidden = ("kind", "status", "value", *search.objectives)
    shown = [column for column in map(str, data) if column not in hidden]
    styles = theme.kind_styles(data["kind"])
    markers = {kind: style.marker for kind, style in styles.items()}
    colors = {kind: style.color for kind, style in styles.items()}
    look: dict[str, Any] = {"hue": "kind", "style": "kind", "palette": colors, "markers": markers}
    figure, panels = theme.panel_grid(len(shown), theme.balanced_columns(len(shown), 3), 2.6, 0.4)
    for column, axes in zip(shown, panels, strict=True):
        own = data.dropna(subset=[column])
        seaborn.scatterplot(own, x=column, y="value", s=32, legend=False, ax=axes, **look)
        for row in own[own["value"].isna()].to_dict("records"):
            theme.draw_cross(axes, row[column], styles[row["kind"]].color)
        axes.set(xlabel=_label(column), ylabel=search.metric)
        axes.xaxis.set_major_locator(MaxNLocator(4)) if is_numeric_dtype(own[column]) else None
    figure.legend(handles=theme.kind_handles(data["kind"]), loc="outside upper left", ncols=7)
    return theme.Drawing(name, FIGURES[name], caption, data, figure)


def front(search: SearchRecord) -> theme.Drawing:
    """Pareto front: x is a cost divided by the baseline's, y the value."""
    name = "search_front"
    caption = (
        f"{search.metric} on the validation split against the counted cost of a training step per "
        "clip, divided by the baseline's: FLOPs (time) and bytes beyond the weights (memory). "
        "Filled marks are the Pareto front."
    )
    data = settings_data(search)
    best = {trial.keys for trial in search.front}
    styles = theme.kind_styles(data["kind"])
    figure, panels = theme.panel_grid(len(search.objectives), len(search.objectives), 3.2, 0.4)
    for cost, axes in zip(search.objectives, panels, strict=True):
        for trial in search.best:
            style = styles[trial.patchout.kind]
            fill = "full" if trial.keys in best else "none"
            point = trial.costs[cost], trial.value or 0.0
            axes.plot(*point, marker=style.marker, color=style.color, fillstyle=fill)
        axes.set(xlabel=f"{cost} of a training step / baseline", ylabel=search.metric)
    figure.legend(handles=theme.kind_handles(data["kind"]), loc="outside upper left", ncols=7)
    return theme.Drawing(name, FIGURES[name], caption, data, figure)


def parallel(search: SearchRecord) -> theme.Drawing:
    """Parallel coordinates: a line per configuration, through its parameters to its value."""
    name = "search_parallel"
    data = settings_data(search).dropna(subset=["value"])
    whole = [column for column in map(str, data) if data[column].notna().all()]
    names = [column for column in whole if column not in ("status", "tokens", "value")]
    if len(data) < 2 or len(names) < 3:
        return theme.placeholder(name, FIGURES[name], "it takes three parameters of all trials.")
    caption = (
        "One line per configuration, from its parameters to its value; those that stand out most "
        "are best. Each axis goes from the smallest to the largest value that was tried."
    )
    order = [*names, "value"]
    figure, axes = theme.one_panel(3.2)
    places = pd.DataFrame(index=data.index)
    for at, column in enumerate(order):
        numeric = is_numeric_dtype(data[column])
        codes = data[column] if numeric else pd.Series(pd.factorize(data[column], sort=True)[0])
        codes = codes.set_axis(data.index)
        low, high = codes.min(), codes.max()
        places[column] = (codes - low) / (high - low) if high > low else 0.5
        ends = data.loc[[codes.idxmin(), codes.idxmax()], column] if numeric else data[column]
        for place, text in dict.fromkeys(zip(places.loc[ends.index, column], ends, strict=True)):
            label = f"{text:.3g}" if numeric else text
            box = {"facecolor": theme.PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1}
            axes.annotate(
                label, (at, place), (4, 0), textcoords="offset points", fontsize=8, va="center",
                bbox=box,
            )  # fmt: skip
    for row in places.sort_values("value").itertuples(index=False):
        shade = colormaps["viridis_r"](row[-1])
        axes.plot(range(len(order)), row, color=shade, linewidth=1)
    labels = [search.metric if c == "value" else _label(c) for c in order]
    axes.set_xticks(range(len(order)), labels)
    axes.set_yticks([])
    return theme.Drawing(name, FIGURES[name], caption, data, figure)


def influence_data(search: SearchRecord) -> pd.DataFrame:
    """One row per parameter and its importance, the largest first."""
    shares = sorted(search.importance.items(), key=lambda item: (-item[1], item[0]))
    return pd.DataFrame(shares, columns=["parameter", "importance"])


def influence(search: SearchRecord) -> theme.Drawing:
    """Bars of importance: x is the share of variance explained, y the parameter."""
    name = "search_importance"
    if not search.importance:
        return theme.placeholder(name, FIGURES[name], "too few configurations were tried.")
    caption = (
        f"Share of the variance of {search.metric} over the searched space that a parameter "
        "explains by itself (fANOVA: a random forest on all configurations; shares add up to 1)."
    )
    data = influence_data(search)
    data["parameter"] = data["parameter"].map(_label)
    figure, axes = theme.one_panel(0.7 + 0.42 * len(data))
    color = theme.kind_styles([])["unstructured"].color
    seaborn.barplot(data, x="importance", y="parameter", color=color, saturation=1, ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fmt="%.2f", padding=4)  # type: ignore[arg-type]
    axes.set(xlim=(0, 1.08), ylabel=None)
    axes.grid(visible=False, axis="y")
    return theme.Drawing(name, FIGURES[name], caption, data, figure)
