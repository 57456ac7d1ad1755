"""Folders as published data sets come in: where their files lie, whatever their endings."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from passt_bench.errors import InputError

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"),
)


def stems(name: str) -> tuple[str, ...]:
    """What a clip may be called by the name of its file: that without its ending."""
    return (PurePosixPath(name).stem,)


def find_audio(
    root: Path,
    below: Sequence[str],
    wanted: Container[str],
    called: Callable[[str], Iterable[str]] = stems,
) -> dict[str, str]:
    """The audio files of clips, found by one walk: endings and folders between do not count.

    Args:
        root: of the data set.
        below: folders relative to it in which the files lie at any depth; ``""`` is all of it.
        wanted: names of the clips.
        called: what a file's clip may be called; the first that is wanted counts.

    Returns:
        Name of a clip → path relative to ``root``; of two files the first by path.
    """
    found: dict[str, str] = {}
    for folder in below:
        for path in _walk(root, folder):
            if path.lower().endswith(SUFFIXES):
                clip = next(
                    (name for name in called(path.rpartition("/")[2]) if name in wanted), ""
                )
                if clip:
                    found.setdefault(clip, path)
    return found


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Files at any depth, sorted, relative to the root; links to folders are followed, once."""
    seen: set[str] = set()
    start = f"{root}/{folder}".rstrip("/")
    for where, inside, files in os.walk(start, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            inside.clear()
            continue
        seen.add(real)
        inside.sort()
        prefix = where[len(str(root)) :].lstrip("/")
        for name in sorted(files):
            yield f"{prefix}/{name}" if prefix else name


def given_folder(data: str, root: Path | None, inside: str) -> Path:
    """The folder of a data set.

    Args:
        data: registered name.
        root: as it was given, or None.
        inside: what must be in it, in words.

    Raises:
        InputError: none was given, or it is no folder.
    """
    if root is None:
        raise InputError(
            "needs the folder of the recordings",
            field="data.name",
            value=data,
            remedy=f"Give --data {data}=DIR with {inside} inside.",
        )
    if not root.is_dir():
        raise InputError(
            "no such folder",
            source=root,
            field=f"--data {data}",
            remedy=f"Give the folder with {inside} inside.",
        )
    return root


def hdf5_files(root: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Those of the HDF5 files that are there, in a folder or in its ``mp3/``."""
    places = [root / folder / name for name in names for folder in ("", "mp3")]
    found = {path.name: path for path in reversed(places) if path.is_file()}
    return tuple(found[name] for name in names if name in found)
