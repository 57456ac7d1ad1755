"""Rendering templates and writing what was rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from passt_bench.records.files import read_bytes, refuse_link, write_atomically
from passt_bench.records.store import Store
from passt_bench.report.figures.drawing import Drawing
from passt_bench.report.layout import settle
from passt_bench.report.tables import Table, to_csv, to_latex, to_markdown
from passt_bench.report.theme import inline, to_svg

TABULATED, DRAWN = ("csv", "md", "tex"), ("svg", "csv")  # what tables and drawings are written as
SHOWN = "[!.]*"  # folders of reports below that of all; hidden ones are not rendered to the end


@dataclass(frozen=True)
class Shown:
    """A drawing as a page shows it; ``svg`` is None where the drawing is left out."""

    drawing: Drawing
    svg: Markup | None


def alone(reports: Path) -> AbstractContextManager[object]:
    """Inside it no other process renders into the folder: two runs may end at once.

    It may be entered again inside itself.
    """
    reports.mkdir(parents=True, exist_ok=True)
    return FileLock(reports / ".lock", is_singleton=True)


def render_template(name: str, context: Mapping[str, Any]) -> str:
    """A page from ``templates/NAME``; everything is escaped but what is marked as safe."""
    environment = Environment(
        loader=PackageLoader("passt_bench.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loader = environment.loader
    assert loader is not None  # given above
    style = loader.get_source(environment, "style.css")[0]
    return environment.get_template(name).render(style=Markup(style), **context)


def files_of(folder: str, kinds: Iterable[str], names: Iterable[str]) -> frozenset[str]:
    """The files ``FOLDER/NAME.KIND`` that a report may write: tables and figures."""
    kinds = tuple(kinds)
    return frozenset(f"{folder}/{name}.{kind}" for name in names for kind in kinds)


def keep_record(key: str, source: Store, kept: Store) -> None:
    """Copies a record, of a session with its samples, into a report, unless it has the same.

    Raises:
        InputError: a link stands in the place of one of the files.
    """
    for name in ("record.json", "samples.json.gz"):
        path, copy = source.folder(key) / name, kept.folder(key) / name
        refuse_link(path)
        if path.is_file():
            data = read_bytes(path)
            if not (copy.is_file() and copy.read_bytes() == data):
                # A copy can be made again: it need not be forced to the disk.
                write_atomically(copy, data, sync=False)


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text whole or not at all."""
    write_atomically(path, text.encode())
    return path


def write_table(table: Table, folder: Path, label: str) -> None:
    """Writes a table as csv, md and tex; ``label`` is what LaTeX refers to it by."""
    write_text(folder / f"{table.name}.csv", to_csv(table))
    write_text(folder / f"{table.name}.md", to_markdown(table))
    write_text(folder / f"{table.name}.tex", to_latex(table, f"{label}-{table.name}"))


def write_drawing(drawing: Drawing, folder: Path) -> Shown:
    """Writes a figure as svg and its data as csv; call it under `theme.look`."""
    if drawing.figure is None:
        return Shown(drawing, None)
    settle(drawing.figure)
    svg = to_svg(drawing.figure, drawing.name.replace("_", "-"))
    write_text(folder / f"{drawing.name}.svg", svg)
    data = drawing.data.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_text(folder / f"{drawing.name}.csv", data)
    return Shown(drawing, Markup(inline(svg, drawing.title)))
