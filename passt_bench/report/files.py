"""Writes the files of reports, and replaces a report's folder in one step.

The new folder is written beside the old one, then the two are exchanged. If that fails, because the
disk is full or the process is killed, the old report stays as it was; the next rendering removes
the incomplete folder.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from passt_bench.errors import InputError
from passt_bench.records.files import read_bytes, refuse_link, storing, write_atomically
from passt_bench.records.store import Store
from passt_bench.report.layout import freeze_layout
from passt_bench.report.tables import Table, to_csv, to_latex, to_markdown
from passt_bench.report.theme import VERDICTS, Drawing, figure_style, inline, to_svg

REPORT_FOLDERS = "[!.]*"  # hidden folders are not complete yet


def exclusive(reports: Path) -> AbstractContextManager[object]:
    """A context that locks the folder against other processes that render; may be nested."""
    reports.mkdir(parents=True, exist_ok=True)
    return FileLock(reports / ".lock", is_singleton=True)


def kept_names(reports: Path, kind: str) -> set[str]:
    """Names of the studies, searches or comparisons that have a record in a report's folder."""
    return {path.stem for path in reports.glob(f"{REPORT_FOLDERS}/{kind}/*.json")}


def files_of(folder: str, tables: Iterable[str], figures: Iterable[str] = ()) -> frozenset[str]:
    """The files that `write_report` may write below a folder."""
    written = [f"{name}.{kind}" for name in tables for kind in ("csv", "md", "tex")]
    written += [f"{name}.{kind}" for name in figures for kind in ("svg", "csv")]
    return frozenset(f"{folder}/{name}" for name in written)


def write_report(
    page: Path,
    template: str,
    context: Mapping[str, Any],
    tables: Mapping[str, Table],
    draw: Callable[[], Sequence[Drawing]] = tuple,
    *,
    label: str,
    folder: str | None = None,
) -> Path:
    """Writes a page and its parts: tables as csv, md and tex, figures as svg with their data.

    Args:
        page: path of the page; its parts are written to folders beside it.
        template: name of its template, which also gets ``tables`` and ``figures``.
        context: other variables of the template.
        tables: name → table.
        draw: makes the figures, in the project's style.
        label: prefix of the tables' LaTeX labels.
        folder: folder of tables and figures; None is ``tables`` and ``figures``.

    Returns:
        The path of the page.
    """
    for made in tables.values():
        place = page.parent / (folder or "tables") / made.name
        write_text(place.with_name(f"{made.name}.csv"), to_csv(made))
        write_text(place.with_name(f"{made.name}.md"), to_markdown(made))
        write_text(place.with_name(f"{made.name}.tex"), to_latex(made, f"{label}-{made.name}"))
    figures = []
    with figure_style():
        for drawing in draw():
            place = page.parent / (folder or "figures") / drawing.name
            figures.append((drawing, _write_figure(drawing, drawing.figure, place)))
    return write_page(page, template, {**context, "tables": tables, "figures": figures})


def _write_figure(drawing: Drawing, figure: Figure | None, place: Path) -> Markup | None:
    """Writes ``PLACE.svg`` and its data to ``PLACE.csv``; returns the SVG for the page."""
    if figure is None:
        return None
    freeze_layout(figure)
    svg = to_svg(figure, drawing.name.replace("_", "-"))
    write_text(place.with_name(f"{drawing.name}.svg"), svg)
    data = drawing.data.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_text(place.with_name(f"{drawing.name}.csv"), data)
    return Markup(inline(svg, drawing.title))


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
    environment.globals["signs"] = {verdict: style.sign for verdict, style in VERDICTS.items()}
    return write_text(page, environment.get_template(template).render(context))


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text whole or not at all."""
    write_atomically(path, text.encode())
    return path


def keep_record(key: str, source: Store, kept: Store) -> None:
    """Copies a record, and a session's samples, into a report, unless it has the same files.

    Raises:
        InputError: one of the files is a link.
    """
    for name in ("record.json", "samples.json.gz"):
        path, copy = source.folder(key) / name, kept.folder(key) / name
        refuse_link(path)
        if path.is_file():
            data = read_bytes(path)
            if not (copy.is_file() and copy.read_bytes() == data):
                # A copy can be made again: it need not be forced to the disk.
                write_atomically(copy, data, sync=False)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # for renameat2(2)

_STORED = ("records", "studies", "search", "comparisons")

_FileState = tuple[int, int]  # size and modification time


@contextmanager
def replacing(
    folder: Path, written: Collection[str], *, reports: Path | None = None
) -> Iterator[Path]:
    """A new folder to render a report into; it replaces the old one after the body.

    It begins with the old one's files except those that reports write: files of a user or another
    report stay, and files that this report wrote before and does not write now are removed. The
    body may also remove files from the new folder.

    If the file system can exchange two folders (Linux; not all layered ones), this is one step.
    Otherwise the files are moved one by one, the page last; no file is ever incomplete.

    Args:
        folder: folder of the report.
        written: paths, relative to the folder, of the files that reports of this kind write.
        reports: the folder of all reports, if it is not the parent.

    Yields:
        The new folder.

    Raises:
        InputError: the folder's path is a file or a link.
        StorageError: the disk is full or not writable; the old report is unchanged.
    """
    with exclusive(reports or folder.parent):
        new = folder.with_name(f".{folder.name}.new")
        _refuse_links(folder, written, reports or folder.parent)
        for path in (folder, new):
            refuse_link(path)
            if path.exists() and not path.is_dir():
                raise InputError(
                    "a file, not a folder",
                    source=path,
                    remedy="Move it away; the report is written there.",
                )
        with storing(new):
            if new.exists():  # a killed process left it
                shutil.rmtree(new)
        try:
            with storing(folder):
                new.mkdir(parents=True)
                if folder.exists():
                    shutil.copymode(folder, new)
                copied = _copy_others(folder, new, written, {})
            yield new
            with storing(folder):
                _copy_others(folder, new, written, copied)  # written there in the meantime
                if not folder.exists():
                    new.rename(folder)
                elif not _exchange(new, folder):
                    _move(new, folder, {*written, *copied})
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _refuse_links(folder: Path, written: Collection[str], reports: Path) -> None:
    """Refuses links at the paths of folders that reports write to."""
    above = [path for path in folder.parents if reports in path.parents]
    parts = {name.split("/")[0] for name in written if "/" in name} | set(_STORED)
    refuse_link(*above, *(folder / part for part in sorted(parts)))


def _files(folder: Path) -> Iterator[str]:
    """Relative paths of all files below a folder, including links and empty folders.

    Raises:
        InputError: a folder cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*names, *links):
            yield str(Path(parent, name).relative_to(folder))
        if not names and not folders and Path(parent) != folder:
            yield str(Path(parent).relative_to(folder))


def _unreadable(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return  # there is no report yet, or a folder was removed in the meantime
    raise InputError(
        f"cannot be read ({error.strerror})",
        source=error.filename,
        remedy="Make it readable, or move it out of the report's folder.",
    ) from None


def _file_state(path: Path) -> _FileState:
    stat = path.lstat()
    return stat.st_size, stat.st_mtime_ns


def _copy_others(
    old: Path, new: Path, written: Collection[str], copied: dict[str, _FileState]
) -> dict[str, _FileState]:
    """Copies files of the old folder that are not part of the report into the new one.

    Args:
        old: the old folder; it may not exist.
        new: the new folder.
        written: relative paths of files not to copy.
        copied: files copied before, which are copied again only if they have changed.

    Returns:
        All files copied so far, with their states.
    """
    states = dict(copied)
    for name in _files(old):
        try:
            state = _file_state(old / name)
        except FileNotFoundError:
            continue  # removed in the meantime
        path = new / name
        own = name not in copied and path.exists()  # written by the new report
        if name in written or own or copied.get(name) == state:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if (old / name).is_dir() and not (old / name).is_symlink():
            path.mkdir(exist_ok=True)
            continue
        path.unlink(missing_ok=True)
        try:
            os.link(old / name, path, follow_symlinks=False)
        except OSError:  # not every file system supports links
            shutil.copy2(old / name, path, follow_symlinks=False)
        states[name] = state
    return states


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; returns whether the system supports it."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _move(new: Path, folder: Path, known: Collection[str]) -> None:
    """Moves the files of the new folder into the old one, and removes known files that it lacks."""
    names = [name for name in _files(new) if not (new / name).is_dir() or (new / name).is_symlink()]
    for name in sorted(names, key=lambda name: (name.endswith(".html"), name)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(folder / name)
    for name in set(known) - set(names):
        (folder / name).unlink(missing_ok=True)
        for parent in list((folder / name).parents)[: name.count("/")]:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
