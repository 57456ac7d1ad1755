"""Renders reports from stores; each report's folder contains the records that it was made from."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from passt_bench.analysis.results import Results, analyze, load_results
from passt_bench.errors import InputError, choose_from
from passt_bench.records.store import (
    COMPARISONS,
    SEARCHES,
    Store,
    comparison_names,
    read_comparison,
    search_names,
)
from passt_bench.report.comparison import build_comparison, build_comparisons
from passt_bench.report.files import (
    REPORT_FOLDERS,
    exclusive,
    keep_record,
    kept_names,
    replacing,
    write_page,
)
from passt_bench.report.pages import EVALUATIONS, PAGE, SUMMARY, build_evaluations, render, written
from passt_bench.report.paper import PaperStatus, render_paper
from passt_bench.report.search_page import PAGE as SEARCH
from passt_bench.report.search_page import build_search, build_searches
from passt_bench.report.text import listed, quoted
from passt_bench.spec.key import digest


def build_study(name: str, runs: Path, reports: Path) -> Path:
    """Renders one study into ``reports/NAME/``, with the records that it shows.

    Args:
        name: name of a study that was run, or that is kept in ``reports/NAME/``.
        runs: the store that runs write to; its records come first.
        reports: the folder of all reports.

    Returns:
        The path of the page.

    Raises:
        InputError: no study of that name was run, or a record is broken.
    """
    results = _load(name, runs, reports)  # a broken record is refused before anything is written
    with exclusive(reports):
        page = _build(results, runs, reports)
        render_index(reports)
    return page


def build_named(name: str, runs: Path, reports: Path) -> list[Path]:
    """Renders the search, the comparison and the study of that name, if they exist.

    Takes what `build_study` takes.

    Returns:
        The paths of the pages.

    Raises:
        InputError: nothing has that name, or a record is broken.
    """
    pages = []
    if name in {*search_names(runs), *kept_names(reports, SEARCHES)}:
        pages.append(build_search(name, runs, reports))
    if name in {*comparison_names(runs), *kept_names(reports, COMPARISONS)}:
        pages.append(build_comparison(name, runs, reports))
    if not pages or name in {*Store(runs).studies(), *kept_names(reports, "studies")}:
        pages.append(build_study(name, runs, reports))
    render_index(reports)
    return pages


def build_variants(name: str, variants: Sequence[str], runs: Path, reports: Path) -> Path:
    """Renders some variants of a study and its baseline, as if the study had no others.

    The page is written to ``reports/NAME/variants/``, to one folder per choice; the page of the
    whole study does not change.

    Args:
        name: name of the study, as in `build_study`.
        variants: names of the variants.
        runs: the store that runs write to; its records come first.
        reports: the folder of all reports.

    Returns:
        The path of the page.

    Raises:
        InputError: no such study or variant, or a record is broken.
    """
    whole = _load(name, runs, reports)
    known = [variant.name for variant in whole.study.variants]
    for variant in variants:
        if variant not in known:
            raise InputError(
                "no such variant",
                source=name,
                field="--variant",
                value=variant,
                remedy=choose_from(known, variant),
            )
    baseline = whole.study.baseline
    part = _restrict(whole, {*variants, baseline})
    chosen = [v for v in known if v in variants and v != baseline] or [baseline]
    folder = reports / name / "variants" / _folder_name(chosen)
    note = (
        f"This page shows {len(part.study.variants)} of the {len(known)} variants of the study, as "
        "requested. The others do not count here: neither towards the pooled noise nor towards "
        "Holm's correction. So intervals, p values and verdicts can differ from those of the whole "
        "study."
    )
    with replacing(folder, written(), reports=reports) as new:
        _keep(part, [Store(runs), Store(reports / name)], Store(folder), Store(new))
        render(part, new, note if len(part.study.variants) < len(known) else "")
    return folder / PAGE


def _folder_name(variants: Sequence[str]) -> str:
    """A readable folder name, unique to the choice of variants."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(variants)).strip("-.")
    return f"{readable[:60]}-{digest(variants)[:6]}"


def build_all(runs: Path, reports: Path, status: PaperStatus) -> list[Path]:
    """Renders all that is in the store and in the reports, and the paper's tables.

    Args:
        runs: the store that runs write to; its records come first.
        reports: the folder of all reports.
        status: state of the paper's rows, to which the studies found are added.

    Returns:
        The paths of all pages, the index last.

    Raises:
        InputError: nothing was run, or a record is broken.
    """
    if not reports.is_dir() and not any(runs.glob("*/*.json")) and not any(Store(runs).records()):
        raise InputError(
            "nothing was run here",
            source=runs,
            field="--runs",
            remedy="Run a study first, e.g. passt-bench run quick, or name your folder of runs.",
        )
    results = _load_all(runs, reports)
    with exclusive(reports):
        pages = [_build(study, runs, reports) for study in results]
        pages += build_searches(runs, reports)
        pages += build_comparisons(runs, reports)
        pages += build_evaluations(runs, reports)
        paper = _build_paper(reports, replace(status, results=results))
        return [*pages, paper, render_index(reports)]


def build_paper(runs: Path, reports: Path, status: PaperStatus) -> Path:
    """Renders the paper's tables with the results here, the evaluations, and the index.

    Takes what `build_all` takes.

    Returns:
        The path of the page.
    """
    results = _load_all(runs, reports)
    with exclusive(reports):
        build_evaluations(runs, reports)
        page = _build_paper(reports, replace(status, results=results))
        render_index(reports)
    return page


def _build_paper(reports: Path, status: PaperStatus) -> Path:
    paper = reports / "paper"
    with replacing(paper, ()) as new:
        return paper / render_paper(new, status).name


def _load(name: str, runs: Path, reports: Path) -> Results:
    return load_results(name, [Store(runs), Store(reports / name)])


def _load_all(runs: Path, reports: Path) -> list[Results]:
    names = {*Store(runs).studies(), *kept_names(reports, "studies")}
    return [_load(name, runs, reports) for name in sorted(names)]


def _build(results: Results, runs: Path, reports: Path) -> Path:
    study = results.study
    folder = reports / study.name
    # Costs do not make a variant begun: variants of equal cost share one measurement.
    begun = [
        variant.name
        for variant in study.variants
        if variant.name == study.baseline
        or any(cell.key in results.records for cell in variant.cells)
    ]
    shown, note = results, ""
    if len(begun) < len(study.variants):
        not_begun = [quoted(v.name) for v in study.variants if v.name not in begun]
        shown = _restrict(results, begun)
        note = (
            f"This page shows {len(begun)} of the {len(study.variants)} variants of the study. "
            f"Not run yet: {listed(not_begun)}."
        )
    with replacing(folder, written()) as new:
        _keep(results, [Store(runs)], Store(folder), Store(new))
        render(shown, new, note)
    return folder / PAGE


def _restrict(results: Results, names: Collection[str]) -> Results:
    """The results of a study that has only these variants."""
    variants = tuple(v for v in results.study.variants if v.name in names)
    study = replace(results.study, variants=variants)
    return analyze(study, results.records, results.sessions)


def _keep(results: Results, sources: Sequence[Store], before: Store, kept: Store) -> None:
    """Copies the records of a study into its new report folder, which has those of the old one.

    Records of the old one that the study no longer uses are removed if a source has them too.
    """
    kept.write_study(results.study)
    wanted = {*results.records, *(session.key for session in results.sessions)}
    for key in set(kept.record_keys()) - wanted:
        # A source may be this very folder, or lead to it.
        old = before.folder(key).resolve()
        if any(s.has(key) and s.folder(key).resolve() != old for s in sources):
            for name in ("record.json", "samples.json.gz"):
                (kept.folder(key) / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it may contain a user's files
                kept.folder(key).rmdir()
    for key in sorted(wanted):
        source = next((store for store in sources if store.has(key)), None)
        if source is not None:
            keep_record(key, source, kept)


def render_index(root: Path) -> Path:
    """Writes ``root/index.html``, which links every report below ``root``.

    Reads the ``summary.json`` that `pages.render` left in each folder; the newest study is first.

    Args:
        root: the folder of all reports.

    Returns:
        The path of the index.

    Raises:
        InputError: a summary is cut off.
    """
    studies = [_summary(path) for path in sorted(root.glob(f"{REPORT_FOLDERS}/{SUMMARY}"))]
    studies.sort(key=lambda item: str(item["finished"]), reverse=True)
    names = sorted(kept_names(root, COMPARISONS))
    comparisons = [read_comparison(name, root / name) for name in names]
    paper = (root / "paper" / "index.html").is_file()
    evaluations = (root / EVALUATIONS / "index.html").is_file()
    context = {
        "studies": studies,
        "comparisons": comparisons,
        "evaluations": evaluations,
        "paper": paper,
    }
    return write_page(root / "index.html", "index.html", context)


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"not a whole JSON file ({error})", source=path, remedy="Render its study again."
        ) from None
    if not isinstance(summary, dict) or "study" not in summary:
        raise InputError("not a summary of a report", source=path, remedy="Render it again.")
    search = (path.parent / SEARCH).is_file()
    return {**summary, "folder": path.parent.name, "search": SEARCH if search else None}
