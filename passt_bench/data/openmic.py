"""Opens OpenMIC-2018 (Humphrey et al. 2018): 20 instruments, 10 s clips, labels partly unknown.

Either the official folder, or the HDF5 files of the reference code. A label is positive where its
likelihood is above one half, as in the reference code (``openmic/dataset.py``), and NaN where it
was not annotated.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from passt_bench.data.clip_table import TEST, TRAIN, Listing, ListingBuilder
from passt_bench.data.layout import DatasetLayout
from passt_bench.data.scan import find_audio
from passt_bench.data.tables import read_rows
from passt_bench.errors import InputError
from passt_bench.records.files import check_zip
from passt_bench.registry import DATASETS

LABELS = "openmic-2018.npz"
_LIKELY, _MOST = 0.5, 64 << 20  # bytes of the names
_READ = ("Y_true.npy", "Y_mask.npy", "sample_key.npy")
_UNREADABLE = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, pickle.PickleError)
_PICKLED = {  # what an array of text is pickled with
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class OpenMic(DatasetLayout):
    """``openmic-2018.npz``, ``partitions/`` and ``audio/``; or HDF5 files."""

    name = "openmic"
    contents = f"{LABELS}, or the HDF5 files,"
    hdf5_files: ClassVar = {
        "train": ("openmic_train.csv_mp3.hdf",),
        "test": ("openmic_test.csv_mp3.hdf",),
    }
    marks = (LABELS, *chain.from_iterable(hdf5_files.values()))
    published = (14915, 5085, 0)
    partly_labelled = True
    default_metrics = ("mAP_masked",)
    published_metrics = ("mAP_masked",)
    published_test_clips = 5085

    @staticmethod
    def source_of(clip: str) -> str:
        """The track of a clip, e.g. ``000046`` for ``000046_3840.ogg``."""
        return PurePosixPath(clip).stem.partition("_")[0]

    def read(self, folder: Path) -> Listing:
        """Reads the partitions and the labels."""
        classes = self.classes(folder)
        labels, rows = _labels(folder / LABELS, len(classes))
        builder = ListingBuilder(classes)
        order: list[int] = []
        for part, split in (("train", TRAIN), ("test", TEST)):
            path = folder / "partitions" / f"split01_{part}.csv"
            for row in read_rows(path, ("sample_key",), head=False):
                clip = row.unlisted("sample_key", row.text("sample_key"), builder)
                if clip not in rows:
                    raise row.wrong("sample_key", f"{LABELS} has no labels of it")
                order.append(rows[clip])
                builder.add(clip, clip, (), split, source=self.source_of(clip))
        found = find_audio(folder, ["audio"], builder)
        listing = builder.listing(folder, multi_label=True, found=found)
        return replace(listing, targets=labels[order])


def _labels(path: Path, classes: int) -> tuple[np.ndarray, dict[str, int]]:
    """Targets (N, classes), and the row of each clip."""
    try:
        check_zip(path, _READ)  # the published file has also features, which are not read
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            likely, known = np.asarray(file["Y_true"]), np.asarray(file["Y_mask"])
        keys = _keys(path)
    except (MemoryError, *_UNREADABLE) as error:
        why = getattr(error, "problem", error)
        raise InputError(
            f"not OpenMIC's labels ({why})", source=path, remedy="Put the published file there."
        ) from None
    shape = (len(keys), classes)
    if not likely.shape == known.shape == shape or not np.isfinite(likely).all():
        raise InputError(
            f"labels {likely.shape} and masks {known.shape} where {shape} without NaN are needed",
            source=path,
            field="Y_true, Y_mask",
            remedy="Put the published file there.",
        )
    targets = np.where(known > 0, likely > _LIKELY, np.nan).astype(np.float32)
    return targets, {str(key): row for row, key in enumerate(keys.tolist())}


def _keys(path: Path) -> np.ndarray:
    """The clips' names, which the published file holds as pickled text.

    Only text is unpickled, since a pickle can run any program.
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
            keys = np.frombuffer(file.read(_MOST), dtype=kind)
    return keys.reshape(shape)


class _Text(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(f"{module}.{name} is not text")
        return super().find_class(module, name)


DATASETS.register(
    "openmic", version=1, summary="OpenMIC-2018, 20 instruments, labels partly unknown"
)(OpenMic())
