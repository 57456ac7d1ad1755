"""FSD50K (Fonseca et al. 2022): 200 classes, Freesound clips of 0.3 to 30 s.

Either the official folders (``FSD50K.ground_truth``, ``FSD50K.dev_audio``, ``FSD50K.eval_audio``),
or the HDF5 files of the reference code (``FSD50K.train_mp3.hdf``, …, also below ``mp3/``) with the
official ``vocabulary.csv`` beside them. The authors' validation clips belong to neither split.
"""

from __future__ import annotations

from pathlib import Path

from passt_bench.data.clip_table import TEST, TRAIN, VALIDATION, Lister, Listing
from passt_bench.data.clips import open_listing
from passt_bench.data.dataset import Dataset
from passt_bench.data.scan import find_audio, given_folder, hdf5_files
from passt_bench.data.tables import Row, read_rows, read_vocabulary
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

TRUTH = "FSD50K.ground_truth"
PUBLISHED = (36796, 10231, 4170)  # clips to train on, to evaluate, to choose by
_SPLITS = {"train": TRAIN, "val": VALIDATION}
_PACKED = {"train": "train", "valid": "val", "test": "eval"}
MARKS = (f"{TRUTH}/dev.csv", *(f"FSD50K.{part}_mp3.hdf" for part in _PACKED.values()))


@DATASETS.register("fsd50k", version=1, summary="FSD50K, 200 classes; official folders or HDF5")
def open_fsd50k(spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
    """Opens FSD50K in either form; HDF5 files come first.

    Args:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all clips are resampled.
        root: the folder with the official folders, or with the HDF5 files.

    Raises:
        InputError: neither form, no vocabulary, a broken row, or too many clips missing or broken.
    """
    folder = given_folder("fsd50k", root, f"{TRUTH}/, or the HDF5 files,")
    packed = {key: hdf5_files(folder, [f"FSD50K.{part}_mp3.hdf"]) for key, part in _PACKED.items()}
    if any(packed.values()):
        from passt_bench.data.hdf5 import open_hdf5  # h5py, for those who have such files

        return open_hdf5(
            spec,
            sampling_rate,
            name="fsd50k",
            files={key: paths for key, paths in packed.items() if paths},
            classes=read_vocabulary(_vocabulary(folder)),
            expected=sum(PUBLISHED),
        )
    return open_listing(read_truth(folder), spec, sampling_rate, expected=PUBLISHED)


def read_truth(folder: Path) -> Listing:
    """What the ground truth says, and where the clips' files lie.

    Raises:
        InputError: a file that is not there, or a broken row.
    """
    lister = Lister(read_vocabulary(_vocabulary(folder)))
    seen: set[str] = set()
    for name, columns in (("dev", ("fname", "labels", "split")), ("eval", ("fname", "labels"))):
        for row in read_rows(folder / TRUTH / f"{name}.csv", columns):
            clip = row.text("fname")
            if clip in seen:
                raise row.wrong("fname", "listed twice")
            seen.add(clip)
            lister.add(clip, clip, _labels(row, lister), _split(row) if name == "dev" else TEST)
    found = find_audio(folder, ["FSD50K.dev_audio", "FSD50K.eval_audio"], seen)
    return lister.listing(folder, multi_label=True, found=found)


def _vocabulary(folder: Path) -> Path:
    places = (folder / TRUTH / "vocabulary.csv", folder / "vocabulary.csv")
    for path in (*places, folder / "mp3" / "vocabulary.csv"):
        if path.is_file():
            return path
    raise InputError(
        "no vocabulary",
        source=folder,
        field="vocabulary.csv",
        remedy=f"Put FSD50K's vocabulary.csv into {TRUTH}/, or beside the HDF5 files.",
    )


def _labels(row: Row, lister: Lister) -> list[str]:
    labels = row.text("labels").split(",")
    unknown = [label for label in labels if label not in lister.classes]
    if unknown:
        raise row.wrong("labels", f"vocabulary.csv lacks {unknown[0]!r}")
    return list(dict.fromkeys(labels))


def _split(row: Row) -> int:
    split = row.text("split")
    if split not in _SPLITS:
        raise row.wrong("split", "no such split", f"There are {', '.join(_SPLITS)}.")
    return _SPLITS[split]
