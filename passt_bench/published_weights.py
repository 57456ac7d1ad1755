"""The published weights: address, geometry and reported result; finds and downloads their files.

``published_weights.csv`` is compiled from the reference code's ``models/passt.py`` and its releases
page, and from the ``hear21passt`` package. A file is checked against it after its download.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

from filelock import FileLock

from passt_bench.console import Progress
from passt_bench.errors import InputError, check_known
from passt_bench.records.files import storing
from passt_bench.spec.codec import validate
from passt_bench.vocabulary import class_names

FOLDER_VARIABLE = "PASST_BENCH_WEIGHTS"
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a response
_CLASSES = {"audioset": 527, "openmic": 20, "fsd50k": 200, "esc50": 50, "imagenet": 1000}


@dataclass(frozen=True)
class Published:
    """A file of published weights."""

    name: str  # in the reference code
    url: str
    stride: int | None = 10  # of the patches along both axes; None if only the file has it
    frames: int = 998  # that the time encodings cover
    claimed: float | None = None  # by the authors: accuracy of the fold for ESC-50, otherwise mAP
    averaged: bool | None = None  # over training (SWA); None if unknown
    labels: str = "audioset"  # data set of the classes
    hop: int = 320  # of the front end, in samples at 32 kHz
    clip: float = 10.0  # seconds of the training clips
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

_S10 = ("passt_s_swa_p16_128_ap476", "passt_s_swa_p16_128_ap4761", "passt_s_p16_128_ap472")
_S12 = ("passt_s_p16_s12_128_ap470", "passt_s_swa_p16_s12_128_ap473")
_S14 = ("passt_s_p16_s14_128_ap469", "passt_s_swa_p16_s14_128_ap471")
_S16 = ("passt_s_p16_s16_128_ap468", "passt_s_swa_p16_s16_128_ap473")
_FOUR = (_S10[0], _S12[1], _S14[1], _S16[1])
# As in config_updates.py of the reference code; 2, 4, 5 and 9 are the rows of Table 2.
ENSEMBLES: dict[str, tuple[str, ...]] = {
    "ensemble_s16_14": (_S14[1], _S16[1]),
    "ensemble_s10": _S10,
    "ensemble_4": _FOUR,
    "ensemble_5": (*_FOUR, _S10[1]),
    "ensemble_many": (*_S10, *_S12, *_S14, *_S16),
}


def find_published(name: str) -> Published:
    """The published weights with a name."""
    check_known(name, [*PUBLISHED, *ENSEMBLES], "no published weights of that name", field="NAME")
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


def get(
    entry: Published,
    check: Callable[[Published, Path], None],
    folder: Path | None = None,
    progress: Progress = lambda share, text: None,
) -> Path:
    """Downloads a published file if it is missing, and checks it either way.

    A download is complete or absent.

    Args:
        entry: the file.
        check: refuses another model, see `models.weights.model_file.check_published`.
        folder: target folder; None is the default one.
        progress: called with the share done and a text.

    Raises:
        InputError: it cannot be downloaded (the message says what to put where), or does not match
            the table.
    """
    folder = folder or weights_folder()
    path, part = folder / entry.file, folder / f"{entry.file}.part"
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{entry.file}.lock"):
        if not path.is_file():
            _download(entry.url, part, path, progress)
        arrived = path if path.is_file() else part
        try:
            check(entry, arrived)
        except InputError as error:
            raise InputError(
                error.problem,
                source=arrived,
                field=error.field,
                value=error.value,
                remedy=f"It is not the published file: remove it and get it again ({entry.url}).",
            ) from None
        arrived.replace(path)
    return path


def _download(url: str, part: Path, path: Path, progress: Progress) -> None:
    import pooch  # slow to import

    def update(size: int) -> None:
        have = part.stat().st_size
        text = f"{have / 1e6:.0f} of {bar.total / 1e6:.0f} MB"
        progress(have / max(bar.total, have, 1), text)

    bar = SimpleNamespace(total=0, update=update, reset=lambda: None, close=lambda: None)
    try:
        pooch.HTTPDownloader(bar, _CHUNK, timeout=_TIMEOUT)(url, str(part), None)
    except OSError as error:
        part.unlink(missing_ok=True)
        # The reason within an error of a connection, without the object that it begins with.
        reason = str(getattr(next(iter(error.args), None), "reason", error))
        reason = re.sub(r"^(<[^>]*>|\w+\([^)]*\)): ", "", reason)
        raise InputError(
            f"could not be downloaded ({reason})",
            source=url,
            remedy=f"Try again; or download it elsewhere, put it at {path}, and run the same "
            "command, which checks it.",
        ) from None
