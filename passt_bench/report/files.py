"""Writes the files of reports; a report's folder is replaced only once all are rendered."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from passt_bench.errors import InputError
from passt_bench.records.files import read_bytes, refuse_link, storing, write_atomically
from passt_bench.records.store import Store
from passt_bench.report import theme
from passt_bench.report.tables import Table, to_csv, to_latex, to_markdown

REPORT_FOLDERS = "[!.]*"  # hidden folders are not complete yet
SUMMARY, PAGE = "summary.json", "index.html"
# The first is also the folder of the page of all evaluations.
EVALUATIONS, COMPARISONS = "evaluations", "comparisons"


def exclusive(reports: Path) -> AbstractContextManager[object]:
    """A context that locks the folder against other processes that render; may be nested."""
    with storing(reports):
        reports.mkdir(parents=True, exist_ok=True)
    return FileLock(reports / ".lock", is_singleton=True)


def write_report(
    page: Path,
    context: Mapping[str, Any],
    tables: Mapping[str, Table],
    drawings: Mapping[str, Sequence[theme.Drawing]],
) -> Path:
    """Writes a page, its ``tables`` as csv, md and tex, and its ``figures`` as svg with their data.

    There are drawings for each section of the page.
    """
    label = context["about"]["study"]
    for made in tables.values():
        write_table(page.parent / "tables", made, label)
    with theme.figure_style():
        figures = {
            section: [(each, _write_figure(each, page.parent / "figures")) for each in drawn]
            for section, drawn in drawings.items()
        }
    return write_page(page, "page.html", {**context, "tables": tables, "figures": figures})


def write_table(folder: Path, made: Table, label: str) -> None:
    """Writes ``NAME.csv``, ``NAME.md`` and ``NAME.tex``, whose label in LaTeX is ``LABEL-NAME``."""
    write_text(folder / f"{made.name}.csv", to_csv(made))
    write_text(folder / f"{made.name}.md", to_markdown(made))
    write_text(folder / f"{made.name}.tex", to_latex(made, f"{label}-{made.name}"))


def _write_figure(drawing: theme.Drawing, folder: Path) -> Markup | None:
    """Writes ``NAME.svg`` and its data to ``NAME.csv``; returns the SVG for the page."""
    if drawing.figure is None:
        return None
    theme.freeze_layout(drawing.figure)
    svg = theme.to_svg(drawing.figure, drawing.name.replace("_", "-"))
    write_text(folder / f"{drawing.name}.svg", svg)
    data = drawing.data.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_text(folder / f"{drawing.name}.csv", data)
    return Markup(theme.inline(svg, drawing.title))


def write_page(page: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Writes a page from ``templates/TEMPLATE``; everything not marked as safe is escaped."""
    environment = Environment(
        loader=PackageLoader("passt_bench.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["signs"] = {
        verdict: style.sign for verdict, style in theme.VERDICTS.items()
    }
    environment.globals["m"] = environment.get_template("macros.html").module
    return write_text(page, environment.get_template(template).render(context))


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text whole or not at all."""
    write_atomically(path, text.encode())
    return path


def linked(
    records: Iterable[tuple[str, str, str, str]], out: Path, kept: Store | None
) -> list[tuple[str, ...]]:
    """Records, which end with their key, with a link to each that is beside the page."""
    beside = [Store(out), *([kept] if kept else [])]
    return [
        (*row, f"records/{row[-1]}/record.json" if any(s.has(row[-1]) for s in beside) else "")
        for row in records
    ]


def keep_record(key: str, source: Store, before: Store, new: Store) -> None:
    """Copies a record, and a session's samples, into a new report, if not in the one before.

    Raises:
        InputError: one of the files is a link.
    """
    folders = [store.folder(key) for store in (source, before, new)]
    for name in ("record.json", "samples.json.gz"):
        path, old, copy = (folder / name for folder in folders)
        refuse_link(path, old)
        if path.is_file():
            data = read_bytes(path)
            if not (old.is_file() and old.read_bytes() == data):
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(data)  # whole before the report's files are replaced


_STORED = ("records", "studies", "search")


@contextmanager
def replacing(folder: Path, written: Collection[str]) -> Iterator[Path]:
    """A new folder to render a report into; its files replace those of the old one after the body.

    They are moved one by one, the page last. If rendering fails or the process is killed before,
    the old report stays as it was. Files of the old folder that are ``written`` by reports of this
    kind, and not by this one, are removed; all other files stay.

    Raises:
        InputError: the folder's path is a file or a link.
        StorageError: the disk is full or not writable.
    """
    with exclusive(folder.parent):
        new = folder.with_name(f".{folder.name}.new")
        parts = {name.split("/")[0] for name in written if "/" in name} | set(_STORED)
        refuse_link(*(folder / part for part in sorted(parts)), folder, new)
        for path in (folder, new):
            if path.exists() and not path.is_dir():
                remedy = "Move it away; the report is written there."
                raise InputError("a file, not a folder", source=path, remedy=remedy)
        try:
            with storing(new):
                if new.exists():  # a killed process left it
                    shutil.rmtree(new)
                new.mkdir(parents=True)
            yield new
            with storing(folder):
                _move(new, folder, written)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _move(new: Path, folder: Path, written: Collection[str]) -> None:
    """Moves all files of the new folder, pages last, and removes written ones that it lacks."""
    names = [str(path.relative_to(new)) for path in new.rglob("*") if path.is_file()]
    for name in sorted(names, key=lambda name: (name.endswith(".html"), name)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(folder / name)
    for name in set(written) - set(names):
        (folder / name).unlink(missing_ok=True)
