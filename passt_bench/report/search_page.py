"""Renders a search: its trials, and its best configurations confirmed on the test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.report.figures.search import NAMES, draw_search
from passt_bench.report.files import files_of, write_report
from passt_bench.report.pages import answers
from passt_bench.report.provenance import Fact, engine_text, fact
from passt_bench.report.study_tables import comparison_columns, name_column, tokens_column
from passt_bench.report.tables import Column, Table, table_of
from passt_bench.report.text import counted, fixed, interval, listed, significant
from passt_bench.report.view import StudyView
from passt_bench.spec.recipe import ModelSpec, TrainingSpec

PAGE = "search.html"
WRITTEN = files_of("search", ("settings", "confirmed"), NAMES) | {PAGE}


def render_search(search: SearchRecord, confirmation: StudyView | None, out: Path) -> Path:
    """Writes the page of a search and, in ``out/search``, its tables and figures.

    The confirmation is the study of its best configurations, if there is one.
    """
    tables = {"settings": settings(search)}
    if confirmation is not None:
        tables["confirmed"] = confirmed(search, confirmation)
    context = {
        "search": search,
        "headline": headline(search),
        "answers": answers(confirmation) if confirmation else [],
        "facts": _facts(search),
        "full": confirmation is not None,
    }
    return write_report(
        out / PAGE, PAGE, context, tables, partial(draw_search, search),
        label=search.name, folder="search",
    )  # fmt: skip


def headline(search: SearchRecord) -> str:
    """The number of configurations tried and the best one, in two sentences."""
    count = len(search.settings)
    tried = (
        f"{counted(count, 'configuration')} {'was' if count == 1 else 'were'} tried in "
        f"{counted(len(search.trials), 'trial')}"
    )
    if not search.best:
        return f"{tried}; none of them succeeded."
    best = search.best[0]
    value = f"{search.metric} {significant(best.value or 0.0)} on the validation split"
    if best.patchout.kind == "none":
        return f"{tried}. None of them is better than dropping nothing ({value})."
    return f"{tried}. The best is {describe(best)} ({value})."


def describe(trial: TrialRecord) -> str:
    """A configuration in words: ``structured, 2 rows and 3 columns of patches dropped``."""
    if trial.patchout.kind == "none":
        return "nothing dropped"
    counts = (
        (trial.patchout.patches, "single patch", "single patches"),
        (trial.patchout.frequency, "frequency row", "frequency rows"),
        (trial.patchout.time, "time column", "time columns"),
    )
    parts = [f"{n} {one if n == 1 else many}" for n, one, many in counts if n is not None]
    return f"{trial.patchout.kind}, {listed(parts)} dropped"


def settings(search: SearchRecord) -> Table:
    """Every configuration, the best first, those that failed last."""
    trials = [*search.best, *(trial for trial in search.settings if trial.value is None)]
    columns = (
        Column("setting", "configuration", get=describe),
        Column("rate", "suggested rate", partial(fixed, places=3), get=lambda t: t.rate),
        Column("tokens", "tokens", str, get=lambda t: t.tokens),
        _validation_column(search, lambda t: t.status if t.value is None else t.value),
        Column("suggested", "times suggested", str,
               get=lambda t: sum(other.keys == t.keys for other in search.trials)),
        Column("seconds", "trained for", partial(fixed, places=1), "s",
               get=lambda t: t.seconds or None),
        Column("key", "record", get=lambda t: t.keys[0]),
    )  # fmt: skip
    caption = f"{search.name}: configurations by {search.metric} on the validation split."
    return table_of(trials, "settings", caption, columns)


def _validation_column(search: SearchRecord, get: Callable[[Any], object]) -> Column:
    # Its name in CSV files is older than its title.
    title = f"{search.metric}, validation split"
    return Column(f"inner_{search.metric}", title, significant, get=get)


def confirmed(search: SearchRecord, view: StudyView) -> Table:
    """The best configurations against the baseline, trained again and tested."""
    values = {trial.patchout: trial.value for trial in search.settings}
    columns = (
        replace(name_column("configuration"), name="setting"),
        tokens_column("tokens"),
        _validation_column(search, lambda v: values.get(v.record.recipe.patchout)),
        Column(search.metric, f"{search.metric}, test", interval, span=True,
               get=lambda v: v.value),
        *comparison_columns(),
    )  # fmt: skip
    caption = (
        f"{search.name}: best configurations against {search.baseline}, on the test split; trained "
        f"on all training clips with seeds {_numbers(search.confirmation_seeds)}; 95 % intervals."
    )
    first = [v.name for v in view.variants].index(search.baseline)
    return table_of(view.variants, "confirmed", caption, columns, first)


def _facts(search: SearchRecord) -> list[Fact]:
    recipe = search.recipe
    repeated = len(search.trials) - len(search.settings)
    failures = sum(trial.status != "ok" for trial in search.settings)
    held = "" if search.fold is None else f" of all folds but {search.fold}"
    rates = search.rates
    return [
        ("Data", f"{search.fingerprint.dataset} ({search.fingerprint.digest})"),
        (
            "Objective",
            f"{search.metric} on {100 * recipe.training.validation_share:.0f} % of the training "
            f"clips{held}, held out for the search; the test split was not used",
        ),
        (
            "Search space",
            f"kind: {listed(search.kinds)}; rate: {rates[0]:g} to {rates[-1]:g} in steps of "
            f"{rates[1] - rates[0]:g}",
        ),
        ("Seeds", f"{_numbers(search.seeds)} in the search"),
        (
            "Trials",
            f"{len(search.trials)}, of which {repeated} repeated a configuration and were not "
            f"trained, and {failures} failed",
        ),
        ("Sampler", "tree-structured Parzen estimator (Optuna), the first trial drops nothing"),
        ("Training time", f"{sum(t.seconds for t in search.trials) / 60:.1f} min in all"),
        ("Engine", engine_text(recipe.engine)),
        *fact("Command", [search.command]),
        ("Recipe: model", _fields(recipe.model)),
        ("Recipe: training", _fields(recipe.training)),
    ]


def _fields(part: ModelSpec | TrainingSpec) -> str:
    return ", ".join(f"{name} {v}" for name, v in asdict(part).items() if v is not None)


def _numbers(values: Sequence[int]) -> str:
    return listed(str(value) for value in values)
