"""Opens data sets from folders: audio files that lists name, or HDF5 files.

A clip is a file or a part of one, of any rate, length, number of channels and format that
soundfile or FFmpeg reads. A clip whose file is missing, empty, cut off or not readable as audio is
skipped, counted and named in the fingerprint; if more than one clip in twenty is skipped, the data
set is refused.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from passt_bench.data.audio import RESAMPLER, Header, length_at, read_waveform
from passt_bench.data.clip_table import MISSING, ClipTable, Listing, stem
from passt_bench.data.dataset import MAX_SKIPPED, Dataset, Incomplete, StoredDataset
from passt_bench.data.fingerprint import class_notes, digest_of, first_few, look_of
from passt_bench.data.hdf5 import open_hdf5
from passt_bench.data.scan import scan_files
from passt_bench.data.targets import PackedTargets, Targets, select
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec
from passt_bench.vocabulary import built_in

_MAX_OVERRUN = 0.05  # seconds that a clip may end after its file without a note
_BLOCK = 1 << 16  # names that are hashed at a time


class DatasetLayout(ABC):
    """The files of a data set, and its published numbers.

    A registered instance opens the data set when it is called.
    """

    name: ClassVar[str]
    contents: ClassVar[str]  # what the folder must hold, for messages
    marks: ClassVar[tuple[str, ...]]  # its folder holds at least one, and no other data set's does
    # Numbers of training, test and validation clips; None means as many as are listed.
    published: ClassVar[tuple[int, int, int] | None] = None
    # Split → its files in the reference code's layout, in order, in the folder or in its mp3/.
    hdf5_files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    partly_labelled: ClassVar[bool] = False  # labels in HDF5 files are likelihoods and a mask
    default_metrics: ClassVar[tuple[str, ...]] = ()  # empty means those that fit the labels
    # The metric of the publications, and metrics that equal it if every class has a positive clip;
    # empty if no results of model files are published.
    published_metrics: ClassVar[tuple[str, ...]] = ()
    published_test_clips: ClassVar[int | None] = None  # with folds, per fold

    def __call__(self, spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
        """Opens the data set: the HDF5 files in the folder if it holds any, else its lists.

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
        remedy = f"Give --data {self.name}=DIR with {self.contents} inside."
        if root is None:
            problem = "needs the folder of the recordings"
            raise InputError(problem, field="data.name", value=self.name, remedy=remedy)
        if not root.is_dir():
            field = f"{self.name}=DIR"
            raise InputError("no such folder", source=root, field=field, remedy=remedy)
        return root


def layouts() -> dict[str, DatasetLayout]:
    """Name → layout of every registered data set that has one."""
    opens = {component.name: component.build for component in DATASETS.all()}
    return {name: build for name, build in opens.items() if isinstance(build, DatasetLayout)}


@dataclass(frozen=True, eq=False)
class FolderDataset(StoredDataset):
    """Clips in the files of a folder; the clip table has their ``samples`` at their file's rate."""

    def sound(self, index: int) -> Path:
        """The audio file of a clip; the clip table says which part of the file is the clip.

        Raises:
            FileChanged: the file changed after the data set was opened.
        """
        path = self.table.path(index)
        assert path is not None
        self.check_unchanged(path, int(self._column("file")[index]))
        return path

    def length(self, index: int) -> int | None:
        """Samples of the whole clip at the sampling rate; None if `waveform` gives all of it."""
        length = self._whole_length(index)
        return length if length > self.samples else None

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, but beginning at sample ``start``; little else is read from the file."""
        return self._read(index, start, self.samples)

    def whole(self, index: int) -> np.ndarray:
        """Mono float32 samples of the whole clip."""
        return self._read(index, 0, self._whole_length(index))

    def _whole_length(self, index: int) -> int:
        header = Header(int(self._column("rate")[index]), 1, int(self._column("samples")[index]))
        return length_at(header, self.sampling_rate)

    def _column(self, name: str) -> np.ndarray:
        return self.table.clips[name].to_numpy()

    def _read(self, index: int, start: int, samples: int) -> np.ndarray:
        begin, end = 0.0, math.inf
        if "start" in self.table.clips:
            begin, end = float(self._column("start")[index]), float(self._column("end")[index])
        part = begin, None if not math.isfinite(end) else end
        return read_waveform(self.sound(index), self.sampling_rate, samples, start, part)


def open_listing(
    listing: Listing,
    spec: DataSpec,
    sampling_rate: int,
    *,
    expected: Sequence[int] | None = None,
    incomplete: bool = False,
) -> FolderDataset:
    """Reads the headers of the files of a listing, and makes a data set of the usable clips.

    ``expected`` are the clips of each split as published, by default as listed; of ``incomplete``
    data any number of files may be missing, because nobody has all of them.

    Raises:
        InputError: too many files missing or broken, no test clip, or fewer clips than the spec
            asks for.
    """
    scan = scan_files(listing.root, listing.files)
    clips = _measured(listing.clips.join(scan, on="file"))
    skipped = clips[clips["problem"] != ""]
    clips = clips[clips["problem"] == ""].sort_values("name")
    targets, names = select(listing.targets, clips.index.to_numpy()), clips["name"].tolist()
    if expected is None:
        expected = np.bincount(listing.clips["split"], minlength=len(listing.splits)).tolist()
    table = ClipTable(
        root=listing.root,
        splits=listing.splits,
        expected=tuple(expected),
        names=names,
        sources=clips["source"].tolist() if "source" in clips else names,
        clips=clips.assign(seconds=(clips["samples"] / clips["rate"]).astype(np.float32))
        .drop(columns=["name", "source", "problem"], errors="ignore")
        .reset_index(drop=True),
        skipped=skipped[["name", "split", "problem"]].reset_index(drop=True),
        skipped_targets=select(listing.targets, skipped.index.to_numpy()),
        files=listing.files,
    )
    head = (spec.name, listing.classes, listing.multi_label, listing.splits, len(clips))
    rates, counts = np.unique(table.clips["rate"], return_counts=True)
    dataset = FolderDataset(
        fingerprint=Fingerprint(
            dataset=spec.name,
            digest=digest_of(head, _digested(clips, targets)),
            expected=sum(expected),
            found=len(clips),
            classes=listing.classes,
            multi_label=listing.multi_label,
            sampling_rates=dict(sorted(zip(map(str, rates), counts.tolist(), strict=True))),
            notes=(
                *listing.notes,
                *_notes(clips, skipped, sampling_rate, listing.root),
                *class_notes(targets, table.split, table.splits, listing.classes),
            ),
            folder=listing.folder,
        ),
        ids=names,
        targets=targets,
        sources=table.sources,
        folds=listing.folds,
        spec=spec,
        sampling_rate=sampling_rate,
        table=table,
        stamps=scan[["bytes", "changed"]].to_numpy(),
    )
    _check_skipped(skipped, incomplete, dataset)
    _check_testable(dataset)
    return dataset


def _measured(clips: pd.DataFrame) -> pd.DataFrame:
    """With the ``samples`` of each clip at its file's rate, and whether it ends after its file."""
    whole = clips["frames"].to_numpy()
    if "start" not in clips:
        return clips.assign(samples=whole, overrun=False)
    start, end, rate = (clips[column].to_numpy() for column in ("start", "end", "rate"))
    first, open_end = _samples_at(start, rate), np.isnan(end)
    last = np.where(open_end, whole, _samples_at(np.nan_to_num(end), rate))
    samples, problem = np.minimum(last, whole) - first, clips["problem"].to_numpy().copy()
    for clip in np.flatnonzero((problem == "") & (samples <= 0)).tolist():
        seconds = whole[clip] / rate[clip]
        problem[clip] = f"starts at {start[clip]:g} s, its file ends at {seconds:g} s"
        if first[clip] < whole[clip]:
            problem[clip] = "shorter than a sample"
    overrun = ~open_end & (last - whole > _MAX_OVERRUN * rate)
    return clips.assign(samples=np.maximum(samples, 0), overrun=overrun, problem=problem)


def _samples_at(seconds: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Times as numbers of samples, limited so that they fit 64 bits."""
    return np.rint(np.minimum(seconds * rates, 2.0**62)).astype(np.int64)


def _digested(clips: pd.DataFrame, targets: Targets) -> Iterator[str | np.ndarray]:
    """What the digest covers; not sampling rate and clip length, which are in the recipe."""
    for column in ("name", "source"):
        for at in range(0, len(clips) if column in clips else 0, _BLOCK):
            yield "".join(f"{text}\0" for text in clips[column].iloc[at : at + _BLOCK])
    if isinstance(targets, PackedTargets):
        yield targets.packed
    else:
        yield np.nan_to_num(targets, nan=2).astype("<f4")
    yield clips["split"].to_numpy()
    yield clips["bytes"].to_numpy("<i8")
    yield clips["piece"].to_numpy("<u8")
    if "start" in clips:
        yield clips["start"].to_numpy("<f8")
        yield np.nan_to_num(clips["end"].to_numpy("<f8"), nan=-1)


def _notes(clips: pd.DataFrame, skipped: pd.DataFrame, sampling_rate: int, root: Path) -> list[str]:
    """Notes on the data for readers of a result."""
    missing, late = int((skipped["problem"] == MISSING).sum()), clips["name"][clips["overrun"]]
    resampled = int((clips["rate"] != sampling_rate).sum())
    mixed = int((clips["channels"] > 1).sum())
    notes = (
        (
            len(skipped),
            f"{len(skipped)} clips left out, {missing} missing and {len(skipped) - missing} "
            f"without sound: {_named(skipped, root)}",
        ),
        (
            len(late),
            f"{len(late)} clips end behind their files; what is not there is silent: "
            f"{first_few(late.tolist())}",
        ),
        (resampled, f"{resampled} clips resampled to {sampling_rate} Hz by {RESAMPLER}"),
        (mixed, f"{mixed} clips of several channels mixed to one"),
    )
    return [note for count, note in notes if count]


def _named(skipped: pd.DataFrame, root: Path) -> str:
    """The first skipped clips, and what is wrong with them."""
    first = skipped[["name", "problem"]].head(5).itertuples(index=False)
    named = [f"{name} ({problem}{near_name(root / name)})" for name, problem in first]
    return first_few(named, len(skipped))


def near_name(path: Path) -> str:
    """A hint if for a missing file there is one that looks alike or has a further ending."""
    folder = next((each for each in path.parents if each.is_dir()), path)
    wanted = path.relative_to(folder).parts
    there: list[str] = []
    for part in wanted:
        try:
            names = sorted(each.name for each in folder.joinpath(*there).iterdir())
        except (OSError, ValueError):
            return ""
        looks = {name: look_of(name) for name in names}
        look = look_of(part)
        same = [each for each in names if look in (looks[each], looks[each].rpartition(".")[0])]
        if not same:
            return ""
        there.append(part if part in same else same[0])
    name = "/".join(there)
    if there == list(wanted):
        return ""
    plain = name.isascii() and all(part == part.strip() for part in there)
    return f", but there is {name if plain else ascii(name)}"


def _check_skipped(skipped: pd.DataFrame, incomplete: bool, usable: FolderDataset) -> None:
    """Refuses a data set of which too many clips are missing or broken."""
    counted = skipped[skipped["problem"] != MISSING] if incomplete else skipped
    clips = len(usable.ids) + len(counted)
    if clips and len(counted) <= MAX_SKIPPED * clips:
        return
    counted = counted if len(counted) else skipped
    refusal = Incomplete(
        f"{len(counted)} of {len(usable.ids) + len(skipped)} clips are missing or unreadable",
        source=usable.table.root,
        field="files",
        value=_named(counted, usable.table.root),
        remedy=f"At most {100 * MAX_SKIPPED:g} % may be missing or unreadable; add the files, or "
        "remove the clips from the list.",
    )
    refusal.dataset = usable
    raise refusal


def _check_testable(dataset: FolderDataset) -> None:
    """Refuses data without test clips; too few training clips are refused in training."""
    for fold in dataset.folds or (None,):
        if not len(dataset.split(fold)[1]):
            raise InputError(
                "no clip of the split 'test'",
                source=dataset.table.root,
                field="split",
                remedy="Evaluation needs clips of the split 'test', training of 'train'.",
            )
