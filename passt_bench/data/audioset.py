"""Opens AudioSet (Gemmeke et al. 2017): 527 classes, ten-second clips of videos.

Either the HDF5 files of the reference code, or the official lists
(``balanced_train_segments.csv``, …) with audio anywhere below the same folder, in files named
after the video (``Yabc….mp3``, ``abc….wav``, ``abc…_30.000.flac``). If both training
parts exist, both are trained on. Nobody has all clips: any number may be missing, and the
fingerprint states how many; of the existing ones, few may be broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path, PurePosixPath
from typing import ClassVar

from passt_bench.data.clip_table import TEST, TRAIN, Listing, ListingBuilder
from passt_bench.data.dataset import Dataset
from passt_bench.data.layout import DatasetLayout, open_listing
from passt_bench.data.scan import find_audio
from passt_bench.data.tables import FIX, read_rows
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec
from passt_bench.vocabulary import audioset_ids, built_in

# Part → (split, clips in the published list).
PARTS = {
    "balanced_train_segments": (TRAIN, 22160),
    "unbalanced_train_segments": (TRAIN, 2041789),
    "eval_segments": (TEST, 20371),
}
_HDF5 = "_mp3.hdf"
_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
_ID = 11  # characters of a video's name


class AudioSet(DatasetLayout):
    """The HDF5 files of the reference code, or the official lists and audio files."""

    name = "audioset"
    contents = "the official lists, or the HDF5 files,"
    marks = tuple(map("".join, product(PARTS, (".csv", _HDF5))))
    hdf5_files: ClassVar = {
        "train": (f"balanced_train_segments{_HDF5}", f"unbalanced_train_segments{_HDF5}"),
        "test": (f"eval_segments{_HDF5}",),
    }
    default_metrics = ("mAP_official", "mAP", "AUC", "dprime")
    published_metrics = ("mAP_official", "mAP")
    published_test_clips = 18951

    def expected_rows(self, files: Mapping[str, Sequence[Path]]) -> int:
        """Number of clips in the published lists of the parts that exist."""
        paths = [path for split in files.values() for path in split]
        return sum(PARTS[path.name.removesuffix(_HDF5)][1] for path in paths)

    def open_lists(self, folder: Path, spec: DataSpec, sampling_rate: int) -> Dataset:
        """Opens the existing audio files that the official lists name."""
        expected = [0, 0, 0]
        for part in _listed(folder):
            split, clips = PARTS[part]
            expected[split] += clips
        listing = self.read(folder)
        return open_listing(listing, spec, sampling_rate, expected=expected, incomplete=True)

    def read(self, folder: Path) -> Listing:
        """Reads the official lists that exist."""
        parts = _listed(folder)
        if not parts:
            raise InputError(
                "neither AudioSet's lists nor its HDF5 files",
                source=folder,
                field="--data audioset",
                remedy=f"Put {', '.join(f'{part}.csv' for part in PARTS)} there, of those parts "
                "that you have, from https://research.google.com/audioset/download.html.",
            )
        names = dict(zip(audioset_ids(), built_in(self.name), strict=True))
        builder = ListingBuilder(tuple(names.values()))
        for part, path in parts.items():
            for row in read_rows(path, _COLUMNS, head=False, comment="#"):
                clip = row.unlisted("YTID", row.text("YTID"), builder)
                ids = row.text("positive_labels").split(",")
                ids = row.known("positive_labels", ids, names, "the list of classes", FIX)
                builder.add(clip, clip, [names[each] for each in ids], PARTS[part][0])
        found = find_audio(folder, [""], builder, video_names)
        return builder.listing(folder, multi_label=True, found=found)


def video_names(name: str) -> tuple[str, ...]:
    """Possible names of a file's video: eleven characters, perhaps after a Y.

    >>> video_names("Y--PJHxphWEs_30.000.mp3")
    ('--PJHxphWEs',)
    """
    stem = PurePosixPath(name).stem
    return tuple(
        stem[at : at + _ID]
        for at in ((1, 0) if stem.startswith("Y") else (0,))
        if len(stem) == at + _ID or stem[at + _ID : at + _ID + 1] in ("_", ".")
    )


def _listed(folder: Path) -> dict[str, Path]:
    """Part → its official list, of the parts that exist."""
    lists = {part: folder / f"{part}.csv" for part in PARTS}
    return {part: path for part, path in lists.items() if path.is_file()}


DATASETS.register("audioset", version=1, summary="AudioSet, 527 classes; HDF5 or a folder")(
    AudioSet()
)
