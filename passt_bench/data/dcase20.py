"""TAU Urban Acoustic Scenes 2020 Mobile, development set (Heittola et al. 2020): ten scenes.

The official folder: ``audio/`` and ``evaluation_setup/fold1_train.csv``, ``fold1_evaluate.csv``.
Files are called scene-city-location-segment-device; clips of one place, by whichever device, are
of one source. Task 1A of DCASE 2020 is evaluated on the one published fold.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from passt_bench.data.clip_table import TEST, TRAIN, Lister, Listing
from passt_bench.data.clips import FolderDataset, open_listing
from passt_bench.data.scan import find_audio, given_folder
from passt_bench.data.tables import Row, read_rows
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec
from passt_bench.vocabulary import built_in

SETUP = "evaluation_setup"
PUBLISHED = (13962, 2968, 0)  # clips to train on, to evaluate, to choose by
MARKS = (f"{SETUP}/fold1_evaluate.csv",)
_PARTS = 5  # of a file's name


@DATASETS.register("dcase20", version=1, summary="TAU Urban Acoustic Scenes 2020 Mobile, 10 scenes")
def open_dcase20(spec: DataSpec, sampling_rate: int, root: Path | None) -> FolderDataset:
    """Reads the evaluation setup and looks at the files that it names.

    Args:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all clips are resampled.
        root: the folder with ``audio/`` and ``evaluation_setup/``.

    Raises:
        InputError: no folder, a missing list, a broken row, or too many clips missing or broken.
    """
    folder = given_folder("dcase20", root, f"audio/ and {SETUP}/")
    return open_listing(read_setup(folder), spec, sampling_rate, expected=PUBLISHED)


def read_setup(folder: Path) -> Listing:
    """What the evaluation setup says, and where the clips' files lie.

    Raises:
        InputError: a missing list, or a broken row.
    """
    lister = Lister(built_in("dcase20"))
    seen: set[str] = set()
    for name, split in (("train", TRAIN), ("evaluate", TEST)):
        path = folder / SETUP / f"fold1_{name}.csv"
        for row in read_rows(path, ("filename", "scene_label"), delimiter="\t"):
            clip = PurePosixPath(row.text("filename")).stem
            if clip in seen:
                raise row.wrong("filename", "listed twice")
            seen.add(clip)
            lister.add(clip, clip, [_scene(row, lister)], split, source=_place(row, clip))
    found = find_audio(folder, ["audio"], seen)
    return lister.listing(folder, multi_label=False, found=found)


def _scene(row: Row, lister: Lister) -> str:
    scene = row.text("scene_label")
    if scene not in lister.classes:
        raise row.wrong("scene_label", "no such scene", f"There are {', '.join(lister.classes)}.")
    return scene


def _place(row: Row, clip: str) -> str:
    parts = clip.split("-")
    if len(parts) != _PARTS:
        raise row.wrong(
            "filename", "not scene-city-location-segment-device", "Give the published name."
        )
    return "-".join(parts[1:3])
