"""Computes the digests and notes of data sets' fingerprints.

A digest covers a piece of each file, since reading two million whole files would take hours.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np

from passt_bench.data.targets import Targets, class_counts

_PIECE = 4096  # bytes; enough to distinguish two recordings of the same size
_PIECES = 1024  # clips of which a piece is hashed if one file holds many
_NAMED = 5  # examples in a message
# Letters and marks that are not shown (default-ignorable; others of them are of category C).
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def digest_of(what: object, parts: Iterable[str | np.ndarray]) -> str:
    """16 hex digits of a hash of settings, by their ``repr``, and of texts and columns' bytes."""
    hasher = hashlib.sha256(repr(what).encode())
    for part in parts:
        if isinstance(part, str):
            hasher.update(part.encode())
        else:
            hasher.update(np.ascontiguousarray(part).view(np.uint8).data)
    return hasher.hexdigest()[:16]


def hash_of(content: bytes) -> int:
    """A hash of 64 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def piece_of(file: BinaryIO, start: int = 0, end: int | None = None) -> int:
    """Hash of 4 KiB from the middle of the bytes ``start`` to ``end``, or of all if fewer."""
    end = file.seek(0, os.SEEK_END) if end is None else end
    file.seek(start + max(0, end - start - _PIECE) // 2)
    return hash_of(file.read(min(_PIECE, end - start)))


def evenly_spaced(count: int) -> np.ndarray:
    """Indices of up to 1,024 of ``count`` clips, spread evenly from the first to the last."""
    chosen = min(count, _PIECES)
    return np.asarray(np.arange(chosen) * (count - 1) // max(chosen - 1, 1))


def class_notes(
    targets: Targets, split: np.ndarray, splits: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """A note for each split in which some classes have no clip, and on names that look alike."""
    notes = _alike(classes)
    for code, name in enumerate(splits):
        inside = np.flatnonzero(split == code)
        if len(inside):
            empty = np.flatnonzero(class_counts(targets, inside) == 0).tolist()
            if empty:
                named = first_few([classes[at] for at in empty])
                notes.append(f"{len(empty)} classes without a clip in {name}: {named}")
    return notes


def _alike(classes: Sequence[str]) -> list[str]:
    """Notes on classes whose names a reader cannot tell apart, or that may be lists of names."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(look_of(name), []).append(name)
    alike = [" and ".join(map(ascii, names)) for names in groups.values() if len(names) > 1]
    notes = [f"classes that look alike: {', '.join(alike)}"] if alike else []
    known, lists = set(classes), []
    for name in classes:
        parts = [part.strip() for part in re.split(r"[,;|/+&]", name)]
        # A name may have commas, but a blank follows them.
        if re.search(r"[][{}|;]|\S,\S", name) or (len(parts) > 1 and known.issuperset(parts)):
            lists.append(ascii(name))
    return [*notes, *([f"classes that may be lists: {', '.join(lists)}"] if lists else [])]


def look_of(name: str) -> str:
    """What names have in common that differ in case, composition of letters or invisible ones."""
    letters = _UNSEEN.sub("", unicodedata.normalize("NFKD", name)).casefold()
    kept = "".join(letter for letter in letters if unicodedata.category(letter)[0] != "C")
    return " ".join(unicodedata.normalize("NFKC", kept).split())


def first_few(names: Sequence[str], count: int | None = None, between: str = ", ") -> str:
    """The first few names, and how many more there are; they are the first of ``count``."""
    more = (len(names) if count is None else count) - _NAMED
    return between.join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
