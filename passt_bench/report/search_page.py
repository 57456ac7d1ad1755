"""The page of a search: history, importance, and its best settings confirmed on the test fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from passt_bench.analysis.results import load_results
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import Store, read_search, search_names, write_search
from passt_bench.report.figures.search import draw_search
from passt_bench.report.files import (
    DRAWN,
    SHOWN,
    TABULATED,
    files_of,
    render_template,
    replacing,
    write_drawing,
    write_table,
    write_text,
)
from passt_bench.report.pages import answers
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import counted, fixed, interval, listed, p_value, significant
from passt_bench.report.theme import VERDICTS, look
from passt_bench.report.view import StudyView, view

PAGE = "search.html"
_FIGURES = ("search_history", "search_settings", "search_importance")
WRITTEN = (
    files_of("search", TABULATED, ("settings", "confirmed"))
    | files_of("search", DRAWN, _FIGURES)
    | {PAGE}
)


def build_search(name: str, runs: Path, reports: Path) -> Path:
    """Renders a search into ``reports/NAME/``, beside the report of its confirmation.

    Args:
        name: of a search that was run, or that is kept in ``reports/NAME/``.
        runs: the folder that runs write to; what lies there comes first.
        reports: the folder of all reports.

    Returns:
        The path of the page.

    Raises:
        InputError: no search of that name was run, or a file is broken.
    """
    folder = reports / name
    search = read_search(name, runs if _has(name, runs) else folder)
    stores = [Store(runs), Store(folder)]
    confirmation = None
    if search.confirmed and any(name in store.studies() for store in stores):
        confirmation = view(load_results(name, stores))
    with replacing(reports / search.name, WRITTEN) as new:
        write_search(search, new)
        page = render_search(search, confirmation, new)
    return folder / page.name


def build_searches(runs: Path, reports: Path) -> list[Path]:
    """Renders every search found in the runs and in the reports; the paths of the pages."""
    kept = {path.parents[1].name for path in reports.glob(f"{SHOWN}/search/*.json")}
    return [build_search(name, runs, reports) for name in sorted({*search_names(runs), *kept})]


def _has(name: str, root: Path) -> bool:
    return (root / "search" / f"{name}.json").is_file()


def render_search(search: SearchRecord, confirmation: StudyView | None, out: Path) -> Path:
    """Writes the page of a search and its parts.

    Writes ``search.html``, and in ``search/`` the tables as md, csv and tex, the figures as svg
    with their data as csv. The same search and results give the same bytes.

    Args:
        search: its trials.
        confirmation: the study of its best settings; None where there is none yet.
        out: folder of this report.

    Returns:
        The path of the page.
    """
    tables = {"settings": settings(search)}
    if confirmation is not None:
        tables["confirmed"] = confirmed(search, confirmation)
    for made in tables.values():
        write_table(made, out / "search", search.name)
    with look():
        figures = [write_drawing(drawing, out / "search") for drawing in draw_search(search)]
    context = {
        "search": search,
        "headline": headline(search),
        "answers": answers(confirmation) if confirmation else [],
        "tables": tables,
        "figures": figures,
        "facts": facts(search),
        "signs": {verdict: style.sign for verdict, style in VERDICTS.items()},
        "full": (out / "index.html").is_file(),
    }
    return write_text(out / PAGE, render_template("search.html", context))


def headline(search: SearchRecord) -> str:
    """What was tried and what came out best, in two sentences."""
    count = len(search.settings)
    tried = (
        f"{counted(count, 'setting')} {'was' if count == 1 else 'were'} tried in "
        f"{counted(len(search.trials), 'trial')}"
    )
    if not search.best:
        return f"{tried}; none of them succeeded."
    best = search.best[0]
    value = f"{search.metric} {significant(best.value or 0.0)} on the validation split"
    if best.patchout.kind == "none":
        return f"{tried}. None of them is above dropping nothing ({value})."
    return f"{tried}. The best is {describe(best)} ({value})."


def describe(trial: TrialRecord) -> str:
    """A setting in words: ``structured, 2 rows and 3 columns of patches dropped``."""
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
    """Every setting, the best first, then those that failed."""
    failed = [trial for trial in search.settings if trial.value is None]
    rows = [
        (
            describe(trial),
            trial.rate,
            trial.tokens,
            trial.value if trial.value is not None else trial.status,
            sum(other.keys == trial.keys for other in search.trials),
            trial.seconds or None,
            trial.keys[0],
        )
        for trial in (*search.best, *failed)
    ]
    columns = (
        Column("setting", "setting"),
        Column("rate", "suggested rate", partial(fixed, places=3)),
        Column("tokens", "tokens", str),
        Column(f"inner_{search.metric}", f"{search.metric}, validation split", significant),
        Column("suggested", "times suggested", str),
        Column("seconds", "trained for", partial(fixed, places=1), "s"),
        Column("key", "record"),
    )
    caption = f"{search.name}: settings by {search.metric} on the validation split."
    return table("settings", caption, columns, rows)


def confirmed(search: SearchRecord, seen: StudyView) -> Table:
    """The best settings against the baseline, trained anew and tested."""
    values = {trial.patchout: trial.value for trial in search.settings}
    rows = [
        (
            v.name,
            v.record.tokens,
            values.get(v.record.recipe.patchout),
            v.value,
            v.difference,
            v.comparison.p if v.comparison else None,
            v.verdict,
        )
        for v in seen.variants
    ]
    columns = (
        Column("setting", "setting"),
        Column("tokens", "tokens", str),
        Column(f"inner_{search.metric}", f"{search.metric}, validation split", significant),
        Column(search.metric, f"{search.metric}, test", interval, span=True),
        Column("difference", "difference", partial(interval, sign=True), span=True),
        Column("p", "corrected p", p_value),
        Column("verdict", "verdict"),
    )
    caption = (
        f"{search.name}: the best settings against {search.baseline} on the test fold, trained on "
        f"all training clips with seeds {_numbers(search.confirmation_seeds)}; 95 % intervals."
    )
    first = next(i for i, v in enumerate(seen.variants) if v.name == search.baseline)
    return table("confirmed", caption, columns, rows, first)


def facts(search: SearchRecord) -> list[tuple[str, str]]:
    """How the search was made."""
    share = search.recipe.training.validation_share
    repeated = len(search.trials) - len(search.settings)
    failures = sum(trial.status != "ok" for trial in search.settings)
    held = "" if search.fold is None else f" of all folds but {search.fold}"
    return [
        ("data set", f"{search.fingerprint.dataset} ({search.fingerprint.digest})"),
        (
            "objective",
            f"{search.metric} on {100 * share:.0f} % of the training clips{held}, held out for "
            "the search; the test fold stayed closed",
        ),
        ("space", f"kind: {listed(search.kinds)}; rate: {_rates(search.rates)}"),
        ("seeds", f"{_numbers(search.seeds)} in the search"),
        (
            "trials",
            f"{len(search.trials)}, of which {repeated} repeated a setting and were not trained, "
            f"and {failures} failed",
        ),
        ("sampler", "tree-structured Parzen estimator (Optuna), the first trial drops nothing"),
        ("training time", f"{sum(t.seconds for t in search.trials) / 60:.1f} min, all added up"),
        *([("command", search.command)] if search.command else []),
        *((f"recipe: {part}", _fields(value)) for part, value in _recipe(search)),
    ]


def _recipe(search: SearchRecord) -> list[tuple[str, dict[str, object]]]:
    plain = asdict(search.recipe)
    return [(part, plain[part]) for part in ("model", "training")]


def _fields(values: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _rates(rates: Sequence[float]) -> str:
    return f"{rates[0]:g} to {rates[-1]:g} in steps of {rates[1] - rates[0]:g}"


def _numbers(values: Sequence[int]) -> str:
    return listed(str(value) for value in values)
