"""Opens TAU Urban Acoustic Scenes 2020 Mobile, development set (Heittola et al. 2020): 10 scenes.

Files are named scene-city-location-segment-device; clips of one location, from any device, have
one source. Task 1A of DCASE 2020 is evaluated on the one published fold.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from passt_bench.data.clip_table import TEST, TRAIN, Listing, ListingBuilder
from passt_bench.data.layout import DatasetLayout
from passt_bench.data.scan import find_audio
from passt_bench.data.tables import read_rows
from passt_bench.registry import DATASETS
from passt_bench.vocabulary import built_in

SETUP = "evaluation_setup"
_PARTS = 5  # parts of a file's name


class Dcase20(DatasetLayout):
    """The official folder: ``audio/`` and two lists in ``evaluation_setup/``."""

    name = "dcase20"
    contents = f"audio/ and {SETUP}/"
    marks = (f"{SETUP}/fold1_evaluate.csv",)
    published = (13962, 2968, 0)
    default_metrics = ("accuracy",)

    def read(self, folder: Path) -> Listing:
        """Reads ``fold1_train.csv`` and ``fold1_evaluate.csv``."""
        scenes = built_in(self.name)
        builder = ListingBuilder(scenes)
        for part, split in (("train", TRAIN), ("evaluate", TEST)):
            path = folder / SETUP / f"fold1_{part}.csv"
            for row in read_rows(path, ("filename", "scene_label"), delimiter="\t"):
                stem = PurePosixPath(row.name("filename")).stem
                clip = row.unlisted("filename", stem, builder)
                scene = [row.text("scene_label")]
                remedy = f"There are {', '.join(scenes)}."
                row.known("scene_label", scene, scenes, "the list of scenes", remedy)
                parts = clip.split("-")
                if len(parts) != _PARTS:
                    problem = "not scene-city-location-segment-device"
                    raise row.wrong("filename", problem, "Give the published name.")
                builder.add(clip, clip, scene, split, source="-".join(parts[1:3]))
        found = find_audio(folder, ["audio"], builder.wanted)
        return builder.listing(folder, multi_label=False, found=found)


DATASETS.register("dcase20", version=1, summary="TAU Urban Acoustic Scenes 2020 Mobile, 10 scenes")(
    Dcase20()
)
