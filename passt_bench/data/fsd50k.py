"""Opens FSD50K (Fonseca et al. 2022): 200 classes, Freesound clips of 0.3 to 30 s.

Either the official folders, or the HDF5 files of the reference code with the official
``vocabulary.csv`` beside them. The authors' validation clips are in neither split.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar

from passt_bench.data.clip_table import TEST, TRAIN, VALIDATION, Listing, ListingBuilder
from passt_bench.data.layout import DatasetLayout
from passt_bench.data.scan import find_audio
from passt_bench.data.tables import FIX, read_rows, read_vocabulary
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS

TRUTH = "FSD50K.ground_truth"
_SPLITS = {"train": TRAIN, "val": VALIDATION}


class Fsd50k(DatasetLayout):
    """``FSD50K.ground_truth``, ``FSD50K.dev_audio`` and ``FSD50K.eval_audio``; or HDF5 files."""

    name = "fsd50k"
    contents = f"{TRUTH}/, or the HDF5 files,"
    hdf5_files: ClassVar = {
        "train": ("FSD50K.train_mp3.hdf",),
        "valid": ("FSD50K.val_mp3.hdf",),
        "test": ("FSD50K.eval_mp3.hdf",),
    }
    marks = (f"{TRUTH}/dev.csv", *chain.from_iterable(hdf5_files.values()))
    published = (36796, 10231, 4170)
    default_metrics = ("mAP",)
    published_metrics = ("mAP_official", "mAP")
    published_test_clips = 10231

    def read(self, folder: Path) -> Listing:
        """Reads ``dev.csv`` and ``eval.csv``."""
        classes = self.classes(folder)
        builder, known = ListingBuilder(classes), frozenset(classes)
        for name, columns in (("dev", ("fname", "labels", "split")), ("eval", ("fname", "labels"))):
            for row in read_rows(folder / TRUTH / f"{name}.csv", columns):
                clip = row.unlisted("fname", row.name("fname"), builder)
                given = row.text("labels").split(",")
                labels = row.known("labels", given, known, "vocabulary.csv", FIX)
                split = row.choice("split", _SPLITS) if name == "dev" else TEST
                builder.add(clip, clip, labels, split)
        found = find_audio(folder, ["FSD50K.dev_audio", "FSD50K.eval_audio"], builder.wanted)
        return builder.listing(folder, multi_label=True, found=found)

    def classes(self, folder: Path) -> Sequence[str]:
        """The names in ``vocabulary.csv``.

        Raises:
            InputError: there is none, or it is not a list of names.
        """
        for place in (folder / TRUTH, folder, folder / "mp3"):
            if (place / "vocabulary.csv").is_file():
                return read_vocabulary(place / "vocabulary.csv")
        raise InputError(
            "no vocabulary",
            source=folder,
            field="vocabulary.csv",
            remedy=f"Put FSD50K's vocabulary.csv into {TRUTH}/, or beside the HDF5 files.",
        )


DATASETS.register("fsd50k", version=1, summary="FSD50K, 200 classes; official folders or HDF5")(
    Fsd50k()
)
