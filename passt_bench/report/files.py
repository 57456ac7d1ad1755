"""Writes the files of reports, and replaces a report's folder all at once.

The new folder is made beside the old one, then the two change places. Whatever goes wrong before
that, a full disk or somebody who ends the process, leaves the old report as it was; what is left of
the new one goes when the next one is rendered.
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
from passt_bench.report.layout import settle
from passt_bench.report.tables import Table, to_csv, to_latex, to_markdown
from passt_bench.report.theme import VERDICTS, Drawing, inline, look, to_svg

SHOWN = "[!.]*"  # folders of reports below that of all; hidden ones are not rendered to the end


def exclusive(reports: Path) -> AbstractContextManager[object]:
    """Inside it no other process renders into the folder; may be nested."""
    reports.mkdir(parents=True, exist_ok=True)
    return FileLock(reports / ".lock", is_singleton=True)


def kept_names(reports: Path, kind: str) -> set[str]:
    """Names of the studies, searches or comparisons whose records are in a report's folder."""
    return {path.stem for path in reports.glob(f"{SHOWN}/{kind}/*.json")}


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
        page: path of the page; its parts are in folders beside it.
        template: name of its template, which also gets ``tables`` and ``figures``.
        context: what else the template shows.
        tables: name → table.
        draw: makes the figures, in the project's look.
        label: what LaTeX's labels of the tables begin with.
        folder: of tables and figures; None is ``tables`` and ``figures``.

    Returns:
        The path of the page.
    """
    for made in tables.values():
        place = page.parent / (folder or "tables") / made.name
        write_text(place.with_name(f"{made.name}.csv"), to_csv(made))
        write_text(place.with_name(f"{made.name}.md"), to_markdown(made))
        write_text(place.with_name(f"{made.name}.tex"), to_latex(made, f"{label}-{made.name}"))
    figures = []
    with look():
        for drawing in draw():
            place = page.parent / (folder or "figures") / drawing.name
            figures.append((drawing, _write_figure(drawing, drawing.figure, place)))
    return write_page(page, template, {**context, "tables": tables, "figures": figures})


def _write_figure(drawing: Drawing, figure: Figure | None, place: Path) -> Markup | None:
    """The picture for the page, written to ``PLACE.svg`` and its data to ``PLACE.csv``."""
    if figure is None:
        return None
    settle(figure)
    svg = to_svg(figure, drawing.name.replace("_", "-"))
    write_text(place.with_name(f"{drawing.name}.svg"), svg)
    data = drawing.data.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_text(place.with_name(f"{drawing.name}.csv"), data)
    return Markup(inline(svg, drawing.title))


def write_page(page: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Writes a page from ``templates/TEMPLATE``; all but what is marked as safe is escaped."""
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
    """Copies a record, of a session with its samples, into a report, unless it has the same.

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


_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)

_STORED = ("records", "studies", "search", "comparisons")

_Seen = tuple[int, int]  # size and time of change of a file


@contextmanager
def replacing(
    folder: Path, written: Collection[str], *, reports: Path | None = None
) -> Iterator[Path]:
    """A new folder to render a report into; it takes the place of the old one after the body.

    It begins with the old one's files, but for those that reports write: so what a user or another
    report has put there stays, and what this report wrote before and does not write now goes. The
    body may remove files of the new folder, too.

    Where the file system can exchange two folders (Linux; not all layered ones), this is one step.
    Elsewhere the files are moved one by one, the page last: each is whole at any moment.

    Args:
        folder: of the report.
        written: the files that reports of this kind write, by paths below the folder.
        reports: the folder of all reports, where it is not the one above.

    Yields:
        The new folder.

    Raises:
        InputError: there is a file or a link in the folder's place.
        StorageError: the disk is full, or nothing can be written there; the old report is whole.
    """
    with exclusive(reports or folder.parent):
        new = folder.with_name(f".{folder.name}.new")
        _refuse_links(folder, written, reports or folder.parent)
        for place in (folder, new):
            refuse_link(place)
            if place.exists() and not place.is_dir():
                raise InputError(
                    "a file, not a folder",
                    source=place,
                    remedy="Move it away; the report is written there.",
                )
        with storing(new):
            if new.exists():  # of one that was killed
                shutil.rmtree(new)
        try:
            with storing(folder):
                new.mkdir(parents=True)
                if folder.exists():
                    shutil.copymode(folder, new)
                taken = _take_over(folder, new, written, {})
            yield new
            with storing(folder):
                _take_over(folder, new, written, taken)  # of what somebody has put there meanwhile
                if not folder.exists():
                    new.rename(folder)
                elif not _exchanged(new, folder):
                    _move(new, folder, {*written, *taken})
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _refuse_links(folder: Path, written: Collection[str], reports: Path) -> None:
    """Refuses links in the place of a folder that reports write to: they lead elsewhere."""
    above = [path for path in folder.parents if reports in path.parents]
    parts = {name.split("/")[0] for name in written if "/" in name} | set(_STORED)
    refuse_link(*above, *(folder / part for part in sorted(parts)))


def _files(folder: Path) -> Iterator[str]:
    """All files below a folder, links and empty folders among them, by their paths below it.

    Raises:
        InputError: a folder cannot be read, so that nobody knows what is in it.
    """
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*names, *links):
            yield str(Path(parent, name).relative_to(folder))
        if not names and not folders and Path(parent) != folder:
            yield str(Path(parent).relative_to(folder))


def _unreadable(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return  # there is no report yet, or somebody removes a folder just now
    raise InputError(
        f"cannot be read ({error.strerror})",
        source=error.filename,
        remedy="Make it readable, or move it out of the report's folder.",
    ) from None


def _seen(path: Path) -> _Seen:
    found = path.lstat()
    return found.st_size, found.st_mtime_ns


def _take_over(
    old: Path, new: Path, written: Collection[str], taken: dict[str, _Seen]
) -> dict[str, _Seen]:
    """Puts into the new folder what the old one holds beside the report.

    Args:
        old: folder; it need not be there.
        new: folder.
        written: what is left out.
        taken: what was taken over before, which is not looked at again unless it has changed.

    Returns:
        What is taken over by now.
    """
    now = dict(taken)
    for name in _files(old):
        try:
            seen = _seen(old / name)
        except FileNotFoundError:
            continue  # of somebody who writes there just now
        path = new / name
        mine = name not in taken and path.exists()  # the new report has put it there
        if name in written or mine or taken.get(name) == seen:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if (old / name).is_dir() and not (old / name).is_symlink():
            path.mkdir(exist_ok=True)
            continue
        path.unlink(missing_ok=True)
        try:
            os.link(old / name, path, follow_symlinks=False)
        except OSError:  # not every file system can
            shutil.copy2(old / name, path, follow_symlinks=False)
        now[name] = seen
    return now


def _exchanged(one: Path, other: Path) -> bool:
    """Lets two folders change places in one step; whether the system could."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)


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
