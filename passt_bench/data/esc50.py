"""Opens recordings in the layout of ESC-50 (Piczak 2015): any subset of classes, clips and folds.

Each clip has one class, numbered by ``target``; ``src_file`` names the recording it was cut from.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from passt_bench.data.clip_table import Listing, ListingBuilder
from passt_bench.data.layout import DatasetLayout
from passt_bench.data.scan import find_audio
from passt_bench.data.tables import Row, read_rows
from passt_bench.registry import DATASETS

META = "meta/esc50.csv"
_COLUMNS = ("filename", "fold", "target", "category", "src_file")


class Esc50(DatasetLayout):
    """The official folder: ``meta/esc50.csv`` and ``audio/``."""

    name = "esc50"
    contents = f"{META} and audio/"
    marks = (META,)
    default_metrics = ("accuracy",)
    published_metrics = ("accuracy",)
    published_test_clips = 400

    def read(self, folder: Path) -> Listing:
        """Reads ``meta/esc50.csv``."""
        rows = list(read_rows(folder / META, _COLUMNS))
        builder = ListingBuilder(_classes(rows))
        for row in rows:
            name = row.name("filename")
            if ".." in PureWindowsPath(name).parts:  # of both kinds of slashes
                raise row.wrong("filename", "leads out of the folder")
            clip = PurePosixPath(name).stem
            if clip in builder:
                raise row.wrong("filename", "listed twice (suffixes do not count)")
            label, source = row.text("category"), row.text("src_file")
            builder.add(clip, clip, [label], row.number("fold", 100), source=source)
        found = find_audio(folder, ["audio"], builder.wanted)
        return builder.listing(folder, multi_label=False, folded=True, found=found)


def _classes(rows: list[Row]) -> list[str]:
    """Names in the order of their numbers."""
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for row in rows:
        target, category = row.number("target", 10000), row.text("category")
        if names.setdefault(target, category) != category:
            raise row.wrong("category", f"target {target} is called {names[target]!r} above")
        if numbers.setdefault(category, target) != target:
            raise row.wrong("target", f"{category!r} is target {numbers[category]} above")
    return [names[target] for target in sorted(names)]


DATASETS.register("esc50", version=1, summary="recordings in the ESC-50 layout, five folds")(
    Esc50()
)
