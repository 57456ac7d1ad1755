"""Renders reports from stores; each report's folder contains the records that it was made from."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from passt_bench.analysis.results import Results, begun, load_results
from passt_bench.errors import InputError, choose_from
from passt_bench.records.files import read_bytes, write_atomically
from passt_bench.records.run import StudyRecord, cell_name
from passt_bench.records.search import SearchRecord
from passt_bench.records.store import SEARCHES, STUDIES, Record, Store, read_search, write_document
from passt_bench.report import files, provenance, sentences
from passt_bench.report.evaluations import (
    comparisons_table,
    data_of,
    heading,
    render_evaluations,
    title_of,
    verdicts_sentence,
)
from passt_bench.report.figures import draw_all, figure_names
from passt_bench.report.figures.scaling import COSTS, SWEEP
from passt_bench.report.files import COMPARISONS, EVALUATIONS, PAGE, SUMMARY, exclusive, replacing
from passt_bench.report.paper import PaperStatus, render_paper
from passt_bench.report.search import FIGURES, draw_search, search_facts, search_headline, settings
from passt_bench.report.study_tables import TABLES, adjusted, page_tables, reached_sentence
from passt_bench.report.tables import Table
from passt_bench.report.text import counted, listed, quoted
from passt_bench.report.theme import Drawing, to_pdf
from passt_bench.report.view import SPEED_MARGIN, StudyView, study_view
from passt_bench.spec.codec import parse_json

# The studies that answer the suite's main questions, in the order of the README.
_MAIN = ("esc50_patchout", "equal_cost", "quick", "regularisation", "engine_x_patchout", "length")
_SUMMARIZED = {"study", "dataset", "variants", "baseline", "finished", "question", "headline"}
Loaded = tuple[Results | None, SearchRecord | None]
Shared = tuple[int, Results | None]  # runs that both have, and the results of the other study
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
        pages = [_build_study(name, *own, runs, reports, found) for name, own in found.items()]
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
        drawn = draw_all(study_view(results)) if results is not None else []
        for drawing in drawn + (draw_search(search) if search is not None else []):
            if drawing.figure is not None:
                data, lost = to_pdf(drawing.figure)
                write_atomically(folder / "figures" / f"{drawing.name}.pdf", data)
                missing |= {*lost}
    return "".join(sorted(missing))


def written() -> frozenset[str]:
    """Relative paths of the files that a report may write, besides records."""
    tables = (*TABLES, "settings", EVALUATIONS, COMPARISONS, "decisions")
    figures = (*figure_names(), COSTS, SWEEP, *FIGURES)
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


def load(name: str, runs: Path, reports: Path) -> Loaded:
    """The results of what has begun of a study, and the search of its name; at least one of them.

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
        first, kept = f"Run it first: passt-bench run {name}", Path("reports", name)
        if (kept / STUDIES / f"{name}.json").is_file():  # in a checkout of the suite
            first = f"Its report has its records: passt-bench show {name} --runs {kept}"
        if name == files.EVALUATIONS:
            hint, first = "", f"Open {reports / name / PAGE}, written by evaluate and report."
        problem, where = "no study of this name is on record", dict.fromkeys((runs, reports))
        source, remedy = " or ".join(map(str, where)), f"{hint}{first}"
        raise InputError(problem, source=source, field="study", value=name, remedy=remedy)
    return begun(load_results(name, stores))


def _names(runs: Path, reports: Path) -> list[str]:
    """Names of the studies and searches that were run or are kept in a report."""
    kinds = (STUDIES, SEARCHES)
    folders = [at / kind for at in (runs, *reports.glob(files.REPORT_FOLDERS)) for kind in kinds]
    return sorted({path.stem for folder in folders for path in folder.glob("*.json")})


def _build_study(
    name: str,
    results: Results | None,
    search: SearchRecord | None,
    runs: Path,
    reports: Path,
    loaded: Mapping[str, Loaded] | None = None,
) -> Path:
    """Writes the page of what has begun, and keeps the records of all results beside it.

    Other studies with the same runs are read, if they are not ``loaded``.

    Records there that the study no longer uses are removed if the runs have them too.
    """
    folder, source = reports / name, Store(runs)
    kept = Store(folder)
    wanted = set[str]()
    with replacing(folder, written()) as new:
        if results is not None:
            tried = (cell.key for item in results.study.tried for cell in item.cells)
            beside: list[Record] = [*results.sessions, *results.paired]
            wanted = {*results.records, *tried, *(record.key for record in beside)}
            old = Path(STUDIES, f"{name}.json")
            if (folder / old).is_file():  # so that the record of a newer version is not replaced
                write_atomically(new / old, read_bytes(folder / old), sync=False)
            Store(new).write_study(results.whole or results.study)
        if search is not None:
            write_document(search, new)
        for key in sorted(filter(source.has, wanted)):
            files.keep_record(key, source, kept, Store(new))
        shared = shared_runs(results, runs, reports, loaded or {}) if results is not None else {}
        model = _kept_model(results.study, source) if results is not None else ""
        render(results, new, kept, search, shared, model)
    for key in set(kept.record_keys()) - wanted:
        # The runs may be this very folder, or lead to it.
        if source.has(key) and source.folder(key).resolve() != kept.folder(key).resolve():
            for part in ("record.json", "samples.json.gz"):
                (kept.folder(key) / part).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it may contain a user's files
                kept.folder(key).rmdir()
    return folder / PAGE


def render(
    results: Results | None,
    out: Path,
    kept: Store | None = None,
    search: SearchRecord | None = None,
    shared: Mapping[str, Shared] | None = None,
    model: str = "",
) -> Path:
    """Writes the report of a study, a search, or both: a self-contained page, and its parts.

    Writes ``index.html``, ``summary.json`` (what an index of reports needs), ``tables/NAME`` as
    md, csv and tex, and ``figures/NAME`` as svg and csv. The same results give the same bytes.
    Records are linked if they are beside the page, or in ``kept``, the store that will be. With a
    search, the results are those of the study that confirms it; None without one. ``shared``
    are other studies with some of its runs, and ``model`` says where the model is.
    """
    view = study_view(results) if results is not None else None
    record = view.study if view else search
    assert record is not None
    tables: dict[str, Table] = {}
    drawings: dict[str, list[Drawing]] = {}
    facts: list[tuple[str, list[provenance.Fact]]] = []
    searched, dataset = search_headline(search, view) if search else "", record.fingerprint.title
    about = {
        "study": record.name,
        "question": record.question,
        "headline": provenance.answer(view) if view else searched,
        "baseline": record.baseline,
        "metric": record.metric,
        "dataset": dataset,
        "variants": len(view.variants) if view else 0,
        "compared": provenance.compared(view) if view else {},
        "judged": provenance.judged_on(view) if view else "",
        "primary": provenance.primary_verdicts(view) if view else {},
        "changed": provenance.primary_changed(view) if view else "",
        "finished": provenance.finished(view) if view else "",
    }
    context: dict[str, Any] = {
        "about": about,
        "view": view,
        "search": search,
        "searched": searched,
        "notes": [],
        "facts": facts,
        "shared": " ".join(
            f"{number} of these runs {'is' if number == 1 else 'are'} also part of {quoted(name)}."
            for name, (number, _) in (shared or {}).items()
        ),
        "home": f"../{PAGE}",
        "main": "",
        "records": [],
        "notebook": provenance.fact("The command:", [record.command]),
    }
    if search is not None:
        context["kicker"] = [f"Search {search.name}", dataset, counted(len(search.trials), "trial")]
        tables["settings"] = settings(search)
        drawings["search"] = draw_search(search)
        facts.append(("The search", search_facts(search)))
    if view is not None:
        tables |= page_tables(view)
        if view.results.paired:
            tables[COMPARISONS] = comparisons_table(view.results.paired)
        drawn = draw_all(view)
        drawings["study"] = [d for d in drawn if view.others or d.figure is not None]
        facts.insert(0, ("", provenance.study_facts(view)))
        context |= _study_part(view, tables)
        others = [study_view(other) for _, other in (shared or {}).values() if other is not None]
        context["further"].append(provenance.judged_elsewhere(view, others))
        context["notes"].append(model)
        context["records"] = files.linked(_records(view), out, kept)
        context["notebook"][:0] = provenance.fact("From the study file:", [view.study.notebook])
    text = json.dumps(about, sort_keys=True, indent=1, ensure_ascii=False)
    files.write_text(out / SUMMARY, text + "\n")
    return files.write_report(out / PAGE, context, tables, drawings)


def _study_part(view: StudyView, tables: dict[str, Table]) -> dict[str, Any]:
    """What the page shows of a study beside tables, figures, facts and records."""
    study, sessions, variants = view.study, view.results.sessions, len(view.variants)
    further = (sentences.runs_sentence, reached_sentence, sentences.power_sentence, adjusted)
    notes = (provenance.not_run, sentences.coarse, sentences.weights_sentence)
    probes = tables.get("probes")
    return {
        "kicker": [
            f"Study {study.name}",
            study.fingerprint.title,
            provenance.models_text(view),
            counted(variants, "variant"),
            provenance.finished(view),
        ],
        "main": "speed" if not study.seeds else "verdicts" if view.others else "",
        "waiting": listed(quoted(v.name) for v in view.variants if v.waits),
        "further": [*sentences.findings(view)[1:], *(text(view) for text in further)]
        * bool(study.seeds),
        "notes": [text(view) for text in notes] if study.seeds else [provenance.not_run(view)],
        "answers": sentences.answers(view),
        "baseline_probes": probes
        and replace(probes, rows=tuple(row for row in probes.rows if row[0] == study.baseline)),
        "warnings": dict.fromkeys(t for s in sessions for t in s.disturbance.get("warnings", ())),
        "protocol": next(filter(None, (s.published_protocol for s in sessions)), None),
        "speed_margin": f"{100 * SPEED_MARGIN:g}",
    }


def _records(view: StudyView) -> list[tuple[str, str, str, str]]:
    """Every cell and session: variant, run, status and key."""
    found = []
    for v in view.variants:
        statuses = {run.key: run.status for run in v.runs}
        for cell in v.record.cells:
            status = statuses.get(cell.key, "missing")
            found.append((v.name, cell_name(cell.seed, cell.fold), status, cell.key))
    for record in view.results.paired:
        found.append((title_of(record), data_of(record), "ok", record.key))
    for session in view.results.sessions:
        found.append(("cost session", counted(len(session.arms), "variant"), "ok", session.key))
    return found


def _kept_model(study: StudyRecord, runs: Store) -> str:
    """Where the model of a study of one variant is; empty if none was kept."""
    cells = () if study.variants[1:] else study.variants[0].cells
    key = next((cell.key for cell in cells if runs.has_model(cell.key)), "")
    place = f"The model is in `records/{key}` of the folder of runs; other commands take it as "
    return f"{place}`--checkpoint {study.name}`." if key else ""


def shared_runs(
    results: Results, runs: Path, reports: Path, loaded: Mapping[str, Loaded]
) -> dict[str, Shared]:
    """Other studies in these folders with runs of this one, read if they are not ``loaded``.

    A broken one spoils no page but its own.
    """
    kept = sorted(reports.glob(f"{files.REPORT_FOLDERS}/{STUDIES}/*.json"))
    documents = {path.stem: path for path in (*kept, *runs.glob(f"{STUDIES}/*.json"))}
    told = dict[str, Shared]()
    for name, path in sorted(documents.items()):
        found = {key.decode() for key in re.findall(rb"\b[0-9a-f]{16}\b", read_bytes(path))}
        number = len(found & results.records.keys())
        if number and name != results.study.name:
            told[name] = number, None
            with contextlib.suppress(InputError):
                told[name] = number, (loaded.get(name) or load(name, runs, reports))[0]
    return told


def render_index(root: Path) -> Path:
    """Writes ``root/index.html``, which links every report below ``root``.

    The suite's main studies come first, then the newest.

    Reads the ``summary.json`` that `pages.render` left in each folder.

    Raises:
        InputError: a summary is cut off.
    """
    studies = [_summary(path) for path in sorted(root.glob(f"{files.REPORT_FOLDERS}/{SUMMARY}"))]
    studies.sort(key=lambda item: str(item["finished"]), reverse=True)
    place = {name: number for number, name in enumerate(_MAIN)}
    studies.sort(key=lambda item: place.get(item["study"], len(place)))
    evaluations = list(Store(root / EVALUATIONS).evaluations())
    context = {
        "studies": studies,
        "overall": provenance.overall(studies),
        "evaluations": heading(evaluations) if (root / EVALUATIONS / PAGE).is_file() else "",
        "compared": verdicts_sentence(evaluations),
        "paper": (root / "paper" / PAGE).is_file(),
    }
    return files.write_page(root / PAGE, "index.html", context)


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = parse_json(read_bytes(path))
    except ValueError:
        summary = None
    if not isinstance(summary, dict) or not {*summary} >= _SUMMARIZED:
        problem, remedy = "not a whole summary of a report", "Render its study again."
        raise InputError(problem, source=path, remedy=remedy)
    search = (path.parent / SEARCHES / f"{summary['study']}.json").is_file()
    return {**summary, "folder": path.parent.name, "search": search}
