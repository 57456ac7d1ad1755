"""Data sets: one file each, registered by name."""

from __future__ import annotations

from pathlib import Path

from passt_bench.data import audioset, dcase20, esc50, fsd50k, manifest, openmic, synthetic
from passt_bench.data.dataset import Dataset, Incomplete
from passt_bench.data.prepared import find_prepared, open_prepared
from passt_bench.data.prepared_files import INDEX, read_index
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

# Data set → files of which at least one lies in its folder, and in no other's.
_MARKS = {
    "audioset": audioset.MARKS,
    "dcase20": dcase20.MARKS,
    "esc50": ("meta/esc50.csv",),
    "fsd50k": fsd50k.MARKS,
    "manifest": (manifest.MANIFEST,),
    "openmic": openmic.MARKS,
}

__all__ = [
    "Dataset",
    "audioset",
    "dcase20",
    "esc50",
    "find_folders",
    "fsd50k",
    "manifest",
    "open_dataset",
    "openmic",
    "synthetic",
]


def open_dataset(spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
    """Opens a registered data set; its prepared clips where the folder holds some at that rate.

    Args:
        spec: name, clip length, how much of it.
        sampling_rate: Hz of the waveforms that it gives.
        root: its folder, or one of prepared clips; None for procedural data.

    Raises:
        InputError: an unknown name, or data that are missing or broken.
    """
    folder = None if root is None else find_prepared(root, sampling_rate)
    if folder is not None:
        DATASETS.get(spec.name)
        if folder != root and root is not None:
            _check_fresh(spec, sampling_rate, root, folder)
        return open_prepared(spec, sampling_rate, folder)
    dataset: Dataset = DATASETS.get(spec.name).build(spec, sampling_rate, root)
    return dataset


def _check_fresh(spec: DataSpec, sampling_rate: int, root: Path, folder: Path) -> None:
    """Refuses clips that were prepared of what the folder around them no longer holds."""
    index = read_index(folder)
    asked = DataSpec(name=spec.name, seconds=index.seconds or 1.0)
    problem = ""
    try:
        source = DATASETS.get(spec.name).build(asked, sampling_rate, root)
    except InputError as error:
        if _is_gone(spec.name, root, error):
            return  # what was prepared is all that is left
        problem = f", and can no longer be read: {error}"
    else:
        if source.fingerprint.digest == index.source.digest:
            return
    raise InputError(
        f"the data have changed since these clips were prepared{problem}",
        source=folder,
        field=f"--data {spec.name}",
        value=root.name,
        remedy="Remove the folder and prepare anew, or give it itself to use it as it is.",
    )


def _is_gone(name: str, root: Path, error: InputError) -> bool:
    """Whether what clips were prepared of was taken away: its lists, or all of its recordings."""
    if isinstance(error, Incomplete):
        return not len(error.dataset.ids)
    return not root.is_file() and not _marked(name, root)


def _marked(name: str, folder: Path) -> bool:
    """Whether a file lies in a folder that tells the data set."""
    places = (folder / place / mark for mark in _MARKS.get(name, ()) for place in ("", "mp3"))
    return any(path.is_file() for path in places)


def find_folders(root: Path) -> dict[str, Path]:
    """Data sets among the folders directly below ``root``, the first by name of each.

    Folders of prepared clips count where the data set itself is not there.
    """
    found: dict[str, Path] = {}
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for name in _MARKS:
            if name not in found and _marked(name, folder):
                found[name] = folder
    for path in sorted(root.glob(f"*/{INDEX}")):
        found.setdefault(read_index(path.parent).source.dataset, path.parent)
    return found
