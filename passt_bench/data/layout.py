"""The base class of data sets that are opened from a folder, one subclass per data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from passt_bench.data.clip_table import Listing, stem
from passt_bench.data.clips import open_listing
from passt_bench.data.dataset import Dataset
from passt_bench.data.hdf5 import open_hdf5
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec
from passt_bench.vocabulary import built_in


class DatasetLayout(ABC):
    """The files of a data set, and its published numbers.

    A registered instance opens the data set when it is called.

    Attributes:
        name: registered name.
        contents: description of what the folder must hold, for messages.
        marks: files that identify its folder: it holds at least one, and no other data set's does.
        published: numbers of training, test and validation clips as published; None means as many
            as are listed.
        hdf5_files: split → names of its HDF5 files in the reference code's layout, in order; they
            are in the folder or in its ``mp3/``.
        partly_labelled: whether labels in HDF5 files are likelihoods and a mask.
        default_metrics: metrics of an evaluation; empty means those that fit the labels.
        published_metrics: the metric of the publications, and metrics that equal it if every
            class has a positive clip; empty if no results of model files are published.
        published_test_clips: number of test clips in the publications; with folds, per fold.
    """

    name: ClassVar[str]
    contents: ClassVar[str]
    marks: ClassVar[tuple[str, ...]]
    published: ClassVar[tuple[int, int, int] | None] = None
    hdf5_files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    partly_labelled: ClassVar[bool] = False
    default_metrics: ClassVar[tuple[str, ...]] = ()
    published_metrics: ClassVar[tuple[str, ...]] = ()
    published_test_clips: ClassVar[int | None] = None

    def __call__(self, spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
        """Opens the data set: the HDF5 files in the folder if it holds any, else its lists.

        Args:
            spec: clip length; numbers of clips of each split (default all).
            sampling_rate: Hz, to which all clips are resampled.
            root: the folder.

        Raises:
            InputError: no folder, a missing list, a broken row, too many clips missing or broken,
                or fewer clips than the spec asks for.
        """
        folder = self.folder(root)
        files = self.found_hdf5(folder)
        if not files:
            return self.open_lists(folder, spec, sampling_rate)
        return open_hdf5(
            spec,
            sampling_rate,
            name=self.name,
            files=files,
            classes=self.classes(folder),
            masked=self.partly_labelled,
            expected=self.expected_rows(files),
            source_of=self.source_of,
        )

    def open_lists(self, folder: Path, spec: DataSpec, sampling_rate: int) -> Dataset:
        """Opens the audio files that the lists name."""
        return open_listing(self.read(folder), spec, sampling_rate, expected=self.published)

    @abstractmethod
    def read(self, folder: Path) -> Listing:
        """Reads the lists.

        Raises:
            InputError: a missing list, or a broken row.
        """

    def classes(self, folder: Path) -> Sequence[str]:
        """The names of the classes in the order of the targets."""
        return built_in(self.name)

    def expected_rows(self, files: Mapping[str, Sequence[Path]]) -> int:
        """Rows that HDF5 files should have together."""
        return sum(self.published or ())

    @staticmethod
    def source_of(clip: str) -> str:
        """The recording that a clip was cut from."""
        return stem(clip)

    def found_hdf5(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Split → its HDF5 files in the folder or in ``mp3/`` below it."""
        files = {}
        for split, names in self.hdf5_files.items():
            places = [(folder / name, folder / "mp3" / name) for name in names]
            paths = [next((path for path in pair if path.is_file()), None) for pair in places]
            files[split] = tuple(path for path in paths if path is not None)
        return {split: paths for split, paths in files.items() if paths}

    def is_in(self, folder: Path) -> bool:
        """Whether the folder holds the data set, by its marks."""
        places = (folder / sub / mark for mark in self.marks for sub in ("", "mp3"))
        return any(path.is_file() for path in places)

    def folder(self, root: Path | None) -> Path:
        """The folder of the data set.

        Raises:
            InputError: none was given, or it is not a folder.
        """
        if root is None:
            raise InputError(
                "needs the folder of the recordings",
                field="data.name",
                value=self.name,
                remedy=f"Give --data {self.name}=DIR with {self.contents} inside.",
            )
        if not root.is_dir():
            raise InputError(
                "no such folder",
                source=root,
                field=f"--data {self.name}",
                remedy=f"Give the folder with {self.contents} inside.",
            )
        return root


def layouts() -> dict[str, DatasetLayout]:
    """Name → layout of every registered data set that has one."""
    opens = {component.name: component.build for component in DATASETS.all()}
    return {name: build for name, build in opens.items() if isinstance(build, DatasetLayout)}
