"""A report's folder changes all at once: the new one is made beside it, then the two change places.

Whatever goes wrong before that, a full disk or somebody who ends the process, leaves the old report
as it was; what is left of the new one goes when the next one is rendered.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from passt_bench.errors import InputError
from passt_bench.records.files import refuse_link, storing
from passt_bench.report.files import alone

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
        InputError: a file or a link stands in the folder's place.
        StorageError: the disk is full, or nothing can be written there; the old report is whole.
    """
    with alone(reports or folder.parent):
        new = folder.with_name(f".{folder.name}.new")
        _refuse_links(folder, written, reports or folder.parent)
        for place in (folder, new):
            refuse_link(place)
            if place.exists() and not place.is_dir():
                raise InputError(
                    "a file, and no folder",
                    source=place,
                    remedy="The report needs its place: move it away.",
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
        remedy="Give the right to read it, or move it out of the report's folder.",
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
    """Moves the files of the new folder into the old one; of the old's, known ones alone may go."""
    names = [name for name in _files(new) if not (new / name).is_dir() or (new / name).is_symlink()]
    for name in sorted(names, key=lambda name: (name.endswith(".html"), name)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(folder / name)
    for name in set(known) - set(names):
        (folder / name).unlink(missing_ok=True)
        for parent in list((folder / name).parents)[: name.count("/")]:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
