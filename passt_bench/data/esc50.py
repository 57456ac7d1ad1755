"""Recordings in the ESC-50 layout: ``meta/esc50.csv`` and ``audio/`` (Piczak 2015).

Any subset of classes, clips and folds. Each clip carries one class, numbered by ``target``, and
names by ``src_file`` the recording that it was cut from.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from passt_bench.data.clip_table import Lister, Listing
from passt_bench.data.clips import FolderDataset, open_listing
from passt_bench.data.scan import find_audio, given_folder
from passt_bench.data.tables import Row, read_rows
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

META = "meta/esc50.csv"
_COLUMNS = ("filename", "fold", "target", "category", "src_file")


@DATASETS.register("esc50", version=1, summary="recordings in the ESC-50 layout, five folds")
def open_esc50(spec: DataSpec, sampling_rate: int, root: Path | None) -> FolderDataset:
    """Reads the metadata and looks at the files that it names.

    Args:
        spec: clip length; numbers of clips of each split (default all; else that many, in turn
            over the classes).
        sampling_rate: Hz, to which all files are resampled.
        root: the folder with ``meta/`` and ``audio/``.

    Raises:
        InputError: no folder, no metadata, a missing column, a broken row, too many files missing
            or broken, a single fold, or more clips asked for than there are.
    """
    folder = given_folder("esc50", root, f"{META} and audio/")
    return open_listing(read_meta(folder), spec, sampling_rate)


def read_meta(folder: Path) -> Listing:
    """What the metadata say, and where the clips' files lie.

    Raises:
        InputError: no metadata, a missing column, or a row from which label or fold cannot be told
            beyond doubt.
    """
    rows = list(read_rows(folder / META, _COLUMNS))
    lister = Lister(_classes(rows))
    seen: set[str] = set()
    for row in rows:
        name = row.text("filename")
        if ".." in PureWindowsPath(name).parts:  # between either stroke
            raise row.wrong("filename", "leads out of the folder")
        clip = PurePosixPath(name).stem
        if clip in seen:
            raise row.wrong("filename", "listed twice (endings do not count)")
        seen.add(clip)
        source = row.text("src_file")
        lister.add(clip, clip, [row.text("category")], _number(row, "fold", 100), source=source)
    found = find_audio(folder, ["audio"], seen)
    return lister.listing(folder, multi_label=False, folded=True, found=found)


def _classes(rows: list[Row]) -> list[str]:
    """Names in the order of their numbers."""
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for row in rows:
        target, category = _number(row, "target", 10000), row.text("category")
        if names.setdefault(target, category) != category:
            raise row.wrong("category", f"target {target} is called {names[target]!r} above")
        if numbers.setdefault(category, target) != target:
            raise row.wrong("target", f"{category!r} is target {numbers[category]} above")
    return [names[target] for target in sorted(names)]


def _number(row: Row, column: str, below: int) -> int:
    text = row.text(column)
    if not text.isdecimal() or len(text) > len(str(below)) or int(text) >= below:
        raise row.wrong(column, f"not a whole number below {below}")
    return int(text)
