"""OpenMIC-2018 (Humphrey et al. 2018): 20 instruments, ten-second clips, labels partly unknown.

Either the official folder (``openmic-2018.npz``, ``partitions/``, ``audio/``), or the HDF5 files
of the reference code (``openmic_train.csv_mp3.hdf``, …, also below ``mp3/``). A label holds where
its likelihood is above one half, as in the reference code (``openmic/dataset.py``); where nobody
was asked it is NaN.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from passt_bench.data.clip_table import TEST, TRAIN, Lister, Listing
from passt_bench.data.clips import open_listing
from passt_bench.data.dataset import Dataset
from passt_bench.data.scan import find_audio, given_folder, hdf5_files
from passt_bench.data.tables import read_rows
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec
from passt_bench.vocabulary import built_in

LABELS = "openmic-2018.npz"
PUBLISHED = (14915, 5085, 0)  # clips to train on, to evaluate, to choose by
MARKS = (LABELS, "openmic_train.csv_mp3.hdf", "openmic_test.csv_mp3.hdf")
_LIKELY = 0.5
_UNREADABLE = (
    *(OSError, KeyError, ValueError, EOFError),
    *(zipfile.BadZipFile, pickle.PickleError),
)
_PICKLED = {  # what an array of text is pickled with
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


@DATASETS.register(
    "openmic", version=1, summary="OpenMIC-2018, 20 instruments, labels partly unknown"
)
def open_openmic(spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
    """Opens OpenMIC-2018 in either form; HDF5 files come first.

    Args:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all clips are resampled.
        root: the official folder, or the one with the HDF5 files.

    Raises:
        InputError: neither form, labels that do not fit, or too many clips missing or broken.
    """
    folder = given_folder("openmic", root, f"{LABELS}, or the HDF5 files,")
    packed = {
        part: hdf5_files(folder, [f"openmic_{part}.csv_mp3.hdf"]) for part in ("train", "test")
    }
    if any(packed.values()):
        from passt_bench.data.hdf5 import open_hdf5  # h5py, for those who have such files

        return open_hdf5(
            spec,
            sampling_rate,
            name="openmic",
            files={part: paths for part, paths in packed.items() if paths},
            classes=built_in("openmic"),
            masked=True,
            expected=sum(PUBLISHED),
            source_of=track,
        )
    return open_listing(read_partitions(folder), spec, sampling_rate, expected=PUBLISHED)


def track(name: str) -> str:
    """The recording of a clip: ``000046`` of ``000046_3840.ogg``."""
    return PurePosixPath(name).stem.partition("_")[0]


def read_partitions(folder: Path) -> Listing:
    """What the official lists and labels say, and where the clips' files lie.

    Raises:
        InputError: a missing file, labels of another width, or a clip without labels.
    """
    classes = _classes(folder)
    labels, rows = _labels(folder / LABELS, len(classes))
    lister = Lister(classes)
    order: list[int] = []
    seen: set[str] = set()
    for part, split in (("train", TRAIN), ("test", TEST)):
        path = folder / "partitions" / f"split01_{part}.csv"
        for row in read_rows(path, ("sample_key",), head=False):
            clip = row.text("sample_key")
            if clip in seen:
                raise row.wrong("sample_key", "listed twice")
            if clip not in rows:
                raise row.wrong("sample_key", f"{LABELS} has no labels of it")
            seen.add(clip)
            order.append(rows[clip])
            lister.add(clip, clip, (), split, source=track(clip))
    found = find_audio(folder, ["audio"], seen)
    listing = lister.listing(folder, multi_label=True, found=found)
    return replace(listing, targets=labels[order])


def _classes(folder: Path) -> tuple[str, ...]:
    path = folder / "class-map.json"
    if not path.is_file():
        return built_in("openmic")
    try:
        numbers: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
        names = sorted(numbers, key=numbers.__getitem__)
        fits = [numbers[name] for name in names] == list(range(len(names)))
    except (ValueError, TypeError, AttributeError, OSError):
        fits = False
    if not fits:
        raise InputError(
            "not a table of names and numbers from 0",
            source=path,
            remedy="Put the published file there, or remove it: its names are built in.",
        )
    return tuple(names)


def _labels(path: Path, classes: int) -> tuple[np.ndarray, dict[str, int]]:
    """Targets (N, classes), and the row of each clip."""
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            likely, known = np.asarray(file["Y_true"]), np.asarray(file["Y_mask"])
        keys = _keys(path)
    except _UNREADABLE as error:
        raise InputError(
            f"not OpenMIC's labels ({error})", source=path, remedy="Put the published file there."
        ) from None
    shape = (len(keys), classes)
    problem = ""
    if likely.shape != shape or known.shape != shape:
        problem = f"labels {likely.shape} and masks {known.shape} where {shape} are due"
    elif not np.isfinite(likely).all():
        problem = "NaN or infinity among the labels"
    if problem:
        raise InputError(
            problem,
            source=path,
            field="Y_true, Y_mask",
            remedy="Put the published file there.",
        )
    targets = np.where(known > 0, likely > _LIKELY, np.nan).astype(np.float32)
    return targets, {str(key): row for row, key in enumerate(keys.tolist())}


def _keys(path: Path) -> np.ndarray:
    """The clips' names, which the published file holds as pickled text.

    Nothing is unpickled but text: a pickle can run any program.
    """
    with zipfile.ZipFile(path) as archive, archive.open("sample_key.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
        if kind.hasobject:
            keys: np.ndarray = _Text(file).load()
        else:
            keys = np.frombuffer(file.read(), dtype=kind)
    return keys.reshape(shape)


class _Text(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(f"{module}.{name} is no text")
        return super().find_class(module, name)
