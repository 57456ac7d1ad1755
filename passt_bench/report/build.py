"""Renders reports from stores; each report's folder contains the records that it was made from."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from passt_bench.analysis.results import Results, analyze, load_results
from passt_bench.errors import InputError, check_known, choose_from
from passt_bench.records.files import read_bytes, write_atomically
from passt_bench.records.search import SearchRecord
from passt_bench.records.store import SEARCHES, STUDIES, Record, Store, read_search, write_document
from passt_bench.report import files, study_tables
from passt_bench.report.evaluations import render_evaluations
from passt_bench.report.figures import draw_all, figure_names
from passt_bench.report.figures import search as search_figures
from passt_bench.report.figures.costs import NAME as COSTS
from passt_bench.report.figures.scaling import SWEEP
from passt_bench.report.files import EVALUATIONS, PAGE, SUMMARY, exclusive, replacing
from passt_bench.report.pages import render
from passt_bench.report.paper import PaperStatus, render_paper
from passt_bench.report.text import listed, quoted
from passt_bench.report.theme import to_pdf
from passt_bench.report.view import study_view
from passt_bench.spec.codec import parse_json
from passt_bench.spec.key import digest

_SUMMARIZED = {"study", "dataset", "variants", "baseline", "finished", "question", "headline"}
# Every function takes the folder of the runs, whose records come first, and that of all reports.


def build_study(name: str, runs: Path, reports: Path) -> Path:
    """Renders the study of a name, and its search, into ``reports/NAME/``, with their records.

    They were run, or are kept in that folder. A search that nothing confirms yet has a page too.
    Variants that have not begun are named, not shown.

    Raises:
        InputError: no study or search of that name was run, or a record is broken.
    """
    found = load(name, runs, reports)  # a broken record is refused before anything is written
    with exclusive(reports):
        page = _build_study(name, *found, runs, reports)
        render_index(reports)
    return page


def build_variants(name: str, variants: Sequence[str], runs: Path, reports: Path) -> Path:
    """Renders some variants of a study and its baseline, as if the study had no others.

    The page is written to ``reports/NAME/variants/``, to one folder per choice; the page of the
    whole study does not change.

    Raises:
        InputError: no such study or variant, or a record is broken.
    """
    whole = _load_study(name, runs, reports)
    known = [variant.name for variant in whole.study.variants]
    for variant in variants:
        check_known(variant, known, "no such variant", field="--variant", source=name)
    baseline = whole.study.baseline
    part = _restrict(whole, {*variants, baseline})
    chosen = [v for v in known if v in variants and v != baseline] or [baseline]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(chosen)).strip("-.")
    folder = reports / name / "variants" / f"{readable[:60]}-{digest(chosen)[:6]}"
    note = (
        f"This page shows {len(part.study.variants)} of the {len(known)} variants of the study, as "
        "requested. The others do not count here: neither towards the noise nor as comparisons "
        "whose intervals have to cover together. So intervals and verdicts can differ from those "
        "of the whole study."
    )
    note = note if len(part.study.variants) < len(known) else ""
    return _write_study(part, part, note, folder, [Store(runs), Store(reports / name)], reports)


def build_all(runs: Path, reports: Path, status: PaperStatus) -> list[Path]:
    """Renders all that is in the store and in the reports, and the paper's tables.

    ``status`` is the state of the paper's rows, to which the studies found are added.

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
    found = {name: load(name, runs, reports) for name in _names(runs, reports)}
    with exclusive(reports):
        pages = [_build_study(name, *loaded, runs, reports) for name, loaded in found.items()]
        pages += build_evaluations(runs, reports)
        results = [study for study, _ in found.values() if study is not None]
        with replacing(reports / "paper", ()) as new:
            page = render_paper(new, replace(status, results=results))
        return [*pages, reports / "paper" / page.name, render_index(reports)]


def build_pdfs(folder: Path) -> str:
    """Writes the figures of a page as PDF, from its records; the letters that no font here has.

    The next rendering of the page removes them.
    """
    missing = set[str]()
    paths = [path for kind in (STUDIES, SEARCHES) for path in folder.glob(f"{kind}/*.json")]
    for name in {path.stem for path in paths}:
        results, search = load(name, folder, folder.parent)
        drawn = draw_all(study_view(_begun(results)[0])) if results is not None else []
        for drawing in drawn + (search_figures.draw_search(search) if search is not None else []):
            if drawing.figure is not None:
                data, lost = to_pdf(drawing.figure)
                write_atomically(folder / "figures" / f"{drawing.name}.pdf", data)
                missing |= {*lost}
    return "".join(sorted(missing))


def written() -> frozenset[str]:
    """Relative paths of the files that a report may write, besides records."""
    tables = (*study_tables.TABLES, "settings", EVALUATIONS, files.COMPARISONS, "decisions")
    figures = (*figure_names(), COSTS, SWEEP, *search_figures.NAMES)
    names = [f"tables/{name}.{kind}" for name in tables for kind in ("csv", "md", "tex")]
    names += [f"figures/{name}.{kind}" for name in figures for kind in ("svg", "csv", "pdf")]
    return frozenset({*names, SUMMARY, PAGE})


def build_evaluations(runs: Path, reports: Path) -> list[Path]:
    """Renders every evaluation into ``reports/evaluations/``; no page if there is none.

    Raises:
        InputError: a record is broken.
    """
    folder = reports / EVALUATIONS
    found = {record.key: record for record in Store(folder).evaluations()}
    found |= {record.key: record for record in Store(runs).evaluations()}
    if not found:
        return []
    with replacing(folder, written()) as new:
        for key in found:
            files.keep_record(key, Store(runs), Store(folder), Store(new))
        render_evaluations(found.values(), new, Store(folder))
    return [folder / PAGE]


def load(name: str, runs: Path, reports: Path) -> tuple[Results | None, SearchRecord | None]:
    """The results of a study and the search of its name; at least one of them.

    Raises:
        InputError: no study or search of that name was run, or a record is broken.
    """
    folders, document = (runs, reports / name), f"{name}.json"
    found = [folder for folder in folders if (folder / SEARCHES / document).is_file()]
    search = read_search(name, found[0]) if found else None
    if search is not None and not any((at / STUDIES / document).is_file() for at in folders):
        return None, search
    return _load_study(name, runs, reports), search


def _load_study(name: str, runs: Path, reports: Path) -> Results:
    stores = [Store(runs), Store(reports / name)]
    if not any(name in store.studies() for store in stores):
        known = {*_names(runs, reports)} - {name}
        hint = f"{choose_from(known, name)} " if known else ""
        raise InputError(
            "no study of this name is on record",
            source=" or ".join(dict.fromkeys((str(runs), str(reports)))),
            field="study",
            value=name,
            remedy=f"{hint}Run it first: passt-bench run {name}",
        )
    return load_results(name, stores)


def _names(runs: Path, reports: Path) -> list[str]:
    """Names of the studies and searches that were run or are kept in a report."""
    kinds = (STUDIES, SEARCHES)
    folders = [at / kind for at in (runs, *reports.glob(files.REPORT_FOLDERS)) for kind in kinds]
    return sorted({path.stem for folder in folders for path in folder.glob("*.json")})


def _build_study(
    name: str, results: Results | None, search: SearchRecord | None, runs: Path, reports: Path
) -> Path:
    shown, note = _begun(results) if results is not None else (None, "")
    return _write_study(results, shown, note, reports / name, [Store(runs)], reports, search)


def _begun(results: Results) -> tuple[Results, str]:
    """The results of the variants that have begun, and a note that names the others."""
    study = results.study
    # Costs do not make a variant begun: variants of equal cost share one measurement.
    begun = [
        variant.name
        for variant in study.variants
        if variant.name == study.baseline
        or any(cell.key in results.records for cell in variant.cells)
        or (not variant.cells and variant.name in results.arms)
    ]
    if len(begun) == len(study.variants):
        return results, ""
    not_begun = [quoted(v.name) for v in study.variants if v.name not in begun]
    note = (
        f"This page shows {len(begun)} of the {len(study.variants)} variants of the study. "
        f"Not run yet: {listed(not_begun)}."
    )
    return _restrict(results, begun), note


def _restrict(results: Results, names: Collection[str]) -> Results:
    """The results of a study that has only these variants."""
    variants = tuple(v for v in results.study.variants if v.name in names)
    study = replace(results.study, variants=variants)
    part = analyze(study, results.records, results.sessions, results.ended)
    return replace(part, rounds=results.rounds, paired=results.paired)


def _write_study(
    results: Results | None,
    shown: Results | None,
    note: str,
    folder: Path,
    sources: Sequence[Store],
    reports: Path,
    search: SearchRecord | None = None,
) -> Path:
    """Writes the page of what is shown, and keeps the records of all results beside it.

    Records there that the study no longer uses are removed if a source has them too.
    """
    kept = Store(folder)
    wanted = set[str]()
    with replacing(folder, written(), reports=reports) as new:
        if results is not None:
            tried = (cell.key for item in results.study.tried for cell in item.cells)
            beside: list[Record] = [*results.sessions, *results.paired]
            wanted = {*results.records, *tried, *(record.key for record in beside)}
            old = Path(STUDIES, f"{results.study.name}.json")
            if (folder / old).is_file():  # so that the record of a newer version is not replaced
                write_atomically(new / old, read_bytes(folder / old), sync=False)
            Store(new).write_study(results.study)
        if search is not None:
            write_document(search, new)
        for key in sorted(wanted):
            source = next((store for store in sources if store.has(key)), None)
            if source is not None:
                files.keep_record(key, source, kept, Store(new))
        shared = shared_runs(shown, sources[0].root, reports) if shown is not None else ""
        home = Path(os.path.relpath(reports / PAGE, folder)).as_posix()
        render(shown, new, note, kept, search, shared, home)
    for key in set(kept.record_keys()) - wanted:
        # A source may be this very folder, or lead to it.
        here = kept.folder(key).resolve()
        if any(store.has(key) and store.folder(key).resolve() != here for store in sources):
            for name in ("record.json", "samples.json.gz"):
                (kept.folder(key) / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it may contain a user's files
                kept.folder(key).rmdir()
    return folder / PAGE


def shared_runs(results: Results, runs: Path, reports: Path) -> str:
    """Says which other studies in these folders have runs of this one; empty if none has."""
    kept = sorted(reports.glob(f"{files.REPORT_FOLDERS}/{STUDIES}/*.json"))
    documents = {path.stem: path for path in (*kept, *runs.glob(f"{STUDIES}/*.json"))}
    told = []
    for name, path in sorted(documents.items()):
        text = read_bytes(path)  # not parsed, so that a broken one spoils no page but its own
        number = sum(key.encode() in text for key in results.records)
        if number and name != results.study.name:
            are = "is" if number == 1 else "are"
            told.append(f"{number} of these runs {are} also part of {quoted(name)}.")
    return " ".join(told)


def render_index(root: Path) -> Path:
    """Writes ``root/index.html``, which links every report below ``root``, the newest study first.

    Reads the ``summary.json`` that `pages.render` left in each folder.

    Raises:
        InputError: a summary is cut off.
    """
    studies = [_summary(path) for path in sorted(root.glob(f"{files.REPORT_FOLDERS}/{SUMMARY}"))]
    studies.sort(key=lambda item: str(item["finished"]), reverse=True)
    context = {
        "studies": studies,
        "evaluations": (root / EVALUATIONS / PAGE).is_file(),
        "paper": (root / "paper" / PAGE).is_file(),
    }
    return files.write_page(root / PAGE, "index.html", context)


def _summary(path: Path) -> dict[str, Any]:
    data = read_bytes(path)
    try:
        summary = parse_json(data)
    except ValueError as error:
        raise InputError(
            f"not a whole JSON file ({error})", source=path, remedy="Render its study again."
        ) from None
    if not isinstance(summary, dict) or not {*summary} >= _SUMMARIZED:
        raise InputError("not a summary of a report", source=path, remedy="Render it again.")
    search = (path.parent / SEARCHES / f"{summary['study']}.json").is_file()
    return {**summary, "folder": path.parent.name, "search": search}
