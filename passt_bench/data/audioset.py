"""AudioSet (Gemmeke et al. 2017): 527 classes, ten-second clips of videos.

Either the HDF5 files of the reference code (``balanced_train_segments_mp3.hdf``, …, also below
``mp3/``), or the official lists (``balanced_train_segments.csv``, …) with audio anywhere below the
same folder, in files called after the video (``Yabc….mp3``, ``abc….wav``, ``abc…_30.000.flac``).
Both training parts are trained on, whichever are there. Nobody has all clips: any number of them
may be missing, and the fingerprint says how many; of those that are there, few may be broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from passt_bench.data.clip_table import TEST, TRAIN, Lister, Listing
from passt_bench.data.clips import open_listing
from passt_bench.data.dataset import Dataset
from passt_bench.data.scan import find_audio, given_folder, hdf5_files
from passt_bench.data.tables import Row, read_rows
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
MARKS = tuple(f"{part}{ending}" for part in PARTS for ending in (".csv", "_mp3.hdf"))
_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
_ID = 11  # letters of a video's name


@DATASETS.register("audioset", version=1, summary="AudioSet, 527 classes; HDF5 or a folder")
def open_audioset(spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
    """Opens AudioSet in either form; HDF5 files come first.

    Args:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all clips are resampled.
        root: the folder with the HDF5 files, or with the lists and the audio.

    Raises:
        InputError: neither form, a broken row, or too many broken clips.
    """
    folder = given_folder("audioset", root, "the official lists, or the HDF5 files,")
    packed = {part: hdf5_files(folder, [f"{part}_mp3.hdf"]) for part in PARTS}
    listed = {part: folder / f"{part}.csv" for part in PARTS}
    listed = {part: path for part, path in listed.items() if path.is_file()}
    if any(packed.values()):
        parts = [part for part in PARTS if packed[part]]
        files: dict[str, tuple[Path, ...]] = {}
        for part in parts:
            key = "test" if PARTS[part][0] == TEST else "train"
            files[key] = files.get(key, ()) + packed[part]
        from passt_bench.data.hdf5 import open_hdf5  # h5py, for those who have such files

        return open_hdf5(
            spec,
            sampling_rate,
            name="audioset",
            files=files,
            classes=built_in("audioset"),
            expected=sum(_published(parts)),
        )
    if not listed:
        raise InputError(
            "neither AudioSet's lists nor its HDF5 files",
            source=folder,
            field="--data audioset",
            remedy=f"Put {', '.join(f'{part}.csv' for part in PARTS)} there, of those parts that "
            "you have, from https://research.google.com/audioset/download.html.",
        )
    listing = read_segments(folder, listed)
    return open_listing(
        listing, spec, sampling_rate, expected=_published(list(listed)), incomplete=True
    )


def read_segments(folder: Path, lists: Mapping[str, Path]) -> Listing:
    """What the lists say, and where the clips' files lie.

    Args:
        folder: with the audio below.
        lists: part → its official list.

    Raises:
        InputError: a broken row.
    """
    names = _classes(folder)
    lister = Lister(tuple(names.values()))
    seen: set[str] = set()
    for part, path in lists.items():
        for row in read_rows(path, _COLUMNS, head=False, comment="#"):
            clip = row.text("YTID")
            if clip in seen:
                raise row.wrong("YTID", "listed twice")
            seen.add(clip)
            lister.add(clip, clip, _labels(row, names), PARTS[part][0])
    found = find_audio(folder, [""], seen, video_names)
    return lister.listing(folder, multi_label=True, found=found)


def video_names(name: str) -> tuple[str, ...]:
    """What the video of a file may be called: eleven letters, perhaps a Y before them.

    >>> video_names("Y--PJHxphWEs_30.000.mp3")
    ('--PJHxphWEs',)
    """
    stem = PurePosixPath(name).stem
    return tuple(
        stem[at : at + _ID]
        for at in ((1, 0) if stem.startswith("Y") else (0,))
        if len(stem) == at + _ID or stem[at + _ID : at + _ID + 1] in ("_", ".")
    )


def _published(parts: list[str]) -> tuple[int, int, int]:
    """Clips of each split in the published lists of some parts."""
    counts = [0, 0, 0]
    for part in parts:
        split, clips = PARTS[part]
        counts[split] += clips
    return counts[0], counts[1], counts[2]


def _classes(folder: Path) -> dict[str, str]:
    """Machine id → name, in the order of the classes."""
    beside = folder / "class_labels_indices.csv"
    if not beside.is_file():
        return dict(zip(audioset_ids(), built_in("audioset"), strict=True))
    rows = read_rows(beside, ("index", "mid", "display_name"))
    return {row.text("mid"): row.text("display_name") for row in rows}


def _labels(row: Row, names: Mapping[str, str]) -> list[str]:
    labels = row.text("positive_labels").split(",")
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise row.wrong(
            "positive_labels",
            f"no class {unknown[0]!r}",
            "Mend the row, or put the list's own class_labels_indices.csv beside it.",
        )
    return [names[label] for label in dict.fromkeys(labels)]
