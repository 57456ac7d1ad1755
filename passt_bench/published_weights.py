"""Lists the published weights (address, geometry, reported result) and finds their files.

``published_weights.csv`` is compiled from the reference code's ``models/passt.py`` and its releases
page, and from the ``hear21passt`` package. A file is checked against it after its download.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from passt_bench.errors import InputError, choose_from
from passt_bench.spec.codec import validate
from passt_bench.vocabulary import class_names

FOLDER_VARIABLE = "PASST_BENCH_WEIGHTS"
_CLASSES = {"audioset": 527, "openmic": 20, "fsd50k": 200, "esc50": 50, "imagenet": 1000}


@dataclass(frozen=True)
class Published:
    """A file of published weights.

    Attributes:
        name: name in the reference code.
        url: address of the file.
        stride: patch stride along both axes; None if only the file has it.
        frames: number of frames that the time encodings cover.
        claimed: result reported by the authors (accuracy of the fold for ESC-50, otherwise mAP).
        averaged: whether weights were averaged over training (SWA); None if unknown.
        labels: data set of the classes.
        hop: hop of the front end, in samples at 32 kHz.
        clip: length in seconds of the training clips.
        depth: number of blocks.
        width: embedding width.
        remark: further information.
    """

    name: str
    url: str
    stride: int | None = 10
    frames: int = 998
    claimed: float | None = None
    averaged: bool | None = None
    labels: str = "audioset"
    hop: int = 320
    clip: float = 10.0
    depth: int = 12
    width: int = 768
    remark: str | None = None

    @property
    def file(self) -> str:
        """The name of the file."""
        return PurePosixPath(self.url).name

    @property
    def classes(self) -> int:
        """The number of classes."""
        return _CLASSES[self.labels]

    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, see `vocabulary.class_names`."""
        return class_names(self.labels, self.classes)


def _read_table() -> dict[str, Published]:
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = [{key: value or None for key, value in row.items()} for row in csv.DictReader(file)]
    return {entry.name: entry for entry in validate(list[Published], rows)}


PUBLISHED = _read_table()


def find_published(name: str, sets: Iterable[str] = ()) -> Published:
    """The published weights with a name.

    Args:
        name: a name from `passt-bench weights list`.
        sets: further valid names, for the message.

    Raises:
        InputError: the name is unknown.
    """
    if name not in PUBLISHED:
        raise InputError(
            "no published weights of that name",
            field="NAME",
            value=name,
            remedy=choose_from([*PUBLISHED, *sets], name),
        )
    return PUBLISHED[name]


def by_file(file: str) -> Published | None:
    """The published weights with a file name, or None."""
    return next((entry for entry in PUBLISHED.values() if entry.file == file), None)


def weights_folder() -> Path:
    """The folder of published weights: ``PASST_BENCH_WEIGHTS``, or the user's cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    import pooch  # slow to import

    return Path(pooch.os_cache("passt_bench")) / "weights"


def locate(source: str | Path, folder: Path | None = None) -> Path:
    """Finds the file of a path, a published name, or the file name of published weights.

    Raises:
        InputError: published weights are missing; the message says how to get them.
    """
    path = Path(source)
    entry = PUBLISHED.get(str(source)) or by_file(path.name)
    if path.is_file() or entry is None:
        return path  # a missing file is reported when it is read
    known = (folder or weights_folder()) / entry.file
    if not known.is_file():
        raise InputError(
            "these published weights are not on this machine",
            source=known,
            field="weights",
            value=str(source),
            remedy=f"Run `passt-bench weights get {entry.name}`, or download {entry.url} "
            "and put it there.",
        )
    return known
