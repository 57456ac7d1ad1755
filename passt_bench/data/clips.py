"""Opens data sets of audio files, in which a clip is a file or a part of one.

Any rate, length, number of channels and format that soundfile reads. A clip whose file is missing,
empty, cut off or not readable as audio is skipped, counted and named in the fingerprint; if more
than one clip in twenty is skipped, the data set is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from passt_bench.data.audio import RESAMPLER, Header, length_at, read_waveform
from passt_bench.data.clip_table import MISSING, ClipTable, Listing, SkippedClips
from passt_bench.data.dataset import MAX_SKIPPED, Incomplete, StoredDataset
from passt_bench.data.fingerprint import digest_of, lacking_classes, some
from passt_bench.data.scan import Scan, scan_files
from passt_bench.data.targets import PackedTargets, Targets, select
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec

_MAX_OVERRUN = 0.05  # seconds that a clip may end after its file without a note
_BLOCK = 1 << 16  # names that are hashed at a time


@dataclass(frozen=True, eq=False)
class FolderDataset(StoredDataset):
    """Clips in the files of a folder."""

    clip_samples: np.ndarray  # (N,) int64, samples of each clip at its file's rate

    def sound(self, index: int) -> Path:
        """The audio file of a clip; the clip table says which part of the file is the clip.

        Raises:
            FileChanged: the file changed after the data set was opened.
        """
        path = self.table.path(index)
        assert path is not None and self.table.file is not None
        self.check_unchanged(path, int(self.table.file[index]))
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
        header = Header(int(self.table.rates[index]), 1, int(self.clip_samples[index]))
        return length_at(header, self.sampling_rate)

    def _read(self, index: int, start: int, samples: int) -> np.ndarray:
        table = self.table
        part: tuple[float, float | None] = (0.0, None)
        if table.start is not None and table.end is not None:
            end = float(table.end[index])
            part = (float(table.start[index]), None if math.isnan(end) else end)
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

    Args:
        listing: all clips.
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all files are resampled.
        expected: clips of each split, as published; None means as many as are listed.
        incomplete: whether any number of files may be missing, because nobody has all of them.

    Raises:
        InputError: too many files missing or broken, no test clip, or fewer clips than the spec
            asks for.
    """
    scan = scan_files(listing.root, listing.files)
    frames, overrun, reasons = _measure(listing.clips, scan)
    clips = listing.clips.drop(index=list(reasons)).sort_values("name")
    order = clips.index.to_numpy()
    targets, frames = select(listing.targets, order), frames[order]
    table = _clip_table(listing, clips, scan, frames, reasons, expected)
    head = (spec.name, listing.classes, listing.multi_label, listing.splits, len(clips))
    rates, counts = np.unique(table.rates, return_counts=True)
    dataset = FolderDataset(
        fingerprint=Fingerprint(
            dataset=spec.name,
            digest=digest_of(head, _digested(clips, targets, scan)),
            expected=sum(table.expected),
            found=len(clips),
            classes=listing.classes,
            multi_label=listing.multi_label,
            sampling_rates=dict(sorted(zip(map(str, rates), counts.tolist(), strict=True))),
            notes=(
                *_notes(table, sampling_rate, np.flatnonzero(overrun[order])),
                *lacking_classes(targets, table.split, table.splits, listing.classes),
            ),
        ),
        ids=table.names,
        targets=targets,
        sources=table.sources,
        folds=listing.folds,
        spec=spec,
        sampling_rate=sampling_rate,
        table=table,
        stamps=scan.stamps,
        clip_samples=frames,
    )
    _check_skipped(listing, reasons, incomplete, dataset)
    _check_testable(dataset)
    return dataset


def _measure(clips: pd.DataFrame, scan: Scan) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Samples of each clip, which clips end after their file, and why some cannot be used."""
    file = clips["file"].to_numpy()
    whole, rates = scan.frames[file], scan.rates[file]
    unusable = np.isin(file, list(scan.problems))
    reasons = {clip: scan.problems[file[clip]] for clip in np.flatnonzero(unusable).tolist()}
    if "start" not in clips:
        return whole, np.zeros(len(clips), dtype=bool), reasons
    start, end = clips["start"].to_numpy(), clips["end"].to_numpy()
    first = _samples_at(start, rates)
    open_end = np.isnan(end)
    last = np.where(open_end, whole, _samples_at(np.nan_to_num(end), rates))
    overrun = ~open_end & (last - whole > _MAX_OVERRUN * rates)
    frames = np.minimum(last, whole) - first
    for clip in np.flatnonzero(~unusable & (frames <= 0)).tolist():
        if first[clip] < whole[clip]:
            reasons[clip] = "shorter than a sample"
        else:
            seconds = whole[clip] / rates[clip]
            reasons[clip] = f"starts at {start[clip]:g} s, its file ends at {seconds:g} s"
    return np.maximum(frames, 0), overrun, reasons


def _samples_at(seconds: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Times as numbers of samples, limited so that they fit 64 bits."""
    return np.rint(np.minimum(seconds * rates, 2.0**62)).astype(np.int64)


def _clip_table(
    listing: Listing,
    clips: pd.DataFrame,
    scan: Scan,
    frames: np.ndarray,
    reasons: Mapping[int, str],
    expected: Sequence[int] | None,
) -> ClipTable:
    """The table of the usable ``clips`` of a listing and of the skipped ones."""
    file, names = clips["file"].to_numpy(), clips["name"].tolist()
    rates = scan.rates[file]
    if expected is None:
        expected = np.bincount(listing.clips["split"], minlength=len(listing.splits)).tolist()
    numbers = np.array(sorted(reasons), dtype=np.int64)
    skipped = listing.clips.loc[numbers]
    return ClipTable(
        root=listing.root,
        splits=listing.splits,
        expected=tuple(expected),
        names=names,
        split=clips["split"].to_numpy(),
        sources=clips["source"].tolist() if "source" in clips else names,
        seconds=(frames / np.maximum(rates, 1)).astype(np.float32),
        rates=rates,
        channels=scan.channels[file],
        skipped=SkippedClips(
            skipped["name"].tolist(),
            skipped["split"].to_numpy(),
            [reasons[clip] for clip in numbers.tolist()],
            select(listing.targets, numbers),
        ),
        files=listing.files,
        file=file,
        start=clips["start"].to_numpy() if "start" in clips else None,
        end=clips["end"].to_numpy() if "end" in clips else None,
        sizes=scan.stamps[file, 0],
    )


def _digested(clips: pd.DataFrame, targets: Targets, scan: Scan) -> Iterator[str | np.ndarray]:
    """What the digest covers; not sampling rate and clip length, which are in the recipe."""
    for column in clips.columns.intersection(["name", "source"]):
        for at in range(0, len(clips), _BLOCK):
            yield "".join(f"{text}\0" for text in clips[column].iloc[at : at + _BLOCK])
    if isinstance(targets, PackedTargets):
        yield targets.packed
    else:
        yield np.nan_to_num(targets, nan=2).astype("<f4")
    yield clips["split"].to_numpy()
    file = clips["file"].to_numpy()
    yield scan.stamps[file, 0].astype("<i8")
    yield scan.pieces[file].astype("<u8")
    if "start" in clips:
        yield clips["start"].to_numpy().astype("<f8")
        yield np.nan_to_num(clips["end"].to_numpy(), nan=-1).astype("<f8")


def _notes(table: ClipTable, sampling_rate: int, overrun: np.ndarray) -> list[str]:
    """Notes on the data for readers of a result; ``overrun`` clips end after their files."""
    skipped = table.skipped
    missing = sum(reason == MISSING for reason in skipped.reasons)
    first = zip(skipped.names[:5], skipped.reasons[:5], strict=True)
    named = [f"{name} ({reason})" for name, reason in first]
    resampled = int((table.rates != sampling_rate).sum())
    mixed = int((table.channels > 1).sum())
    notes = (
        (
            len(skipped),
            f"{len(skipped)} clips left out, {missing} missing and {len(skipped) - missing} "
            f"without sound: {some(named, skipped)}",
        ),
        (
            len(overrun),
            f"{len(overrun)} clips end behind their files; what is not there is silent: "
            f"{some([table.names[clip] for clip in overrun[:5].tolist()], overrun)}",
        ),
        (resampled, f"{resampled} clips resampled to {sampling_rate} Hz by {RESAMPLER}"),
        (mixed, f"{mixed} clips of several channels mixed to one"),
    )
    return [note for count, note in notes if count]


def _check_skipped(
    listing: Listing, reasons: Mapping[int, str], incomplete: bool, usable: FolderDataset
) -> None:
    """Refuses a data set of which too many clips are missing or broken."""
    counted = [clip for clip, reason in reasons.items() if not incomplete or reason != MISSING]
    clips = len(usable.ids) + len(counted)
    if clips and len(counted) <= MAX_SKIPPED * clips:
        return
    counted, names = counted or list(reasons), listing.clips["name"]
    refusal = Incomplete(
        f"{len(counted)} of {len(names)} clips are missing or unreadable",
        source=listing.root,
        field="files",
        value=some([f"{names[clip]} ({reasons[clip]})" for clip in counted[:5]], counted),
        remedy=f"At most {100 * MAX_SKIPPED:g} % may be missing or unreadable; add the files, or "
        "remove the clips from the list.",
    )
    refusal.dataset = usable
    raise refusal


def _check_testable(dataset: FolderDataset) -> None:
    """Refuses data without test clips; too few training clips are refused in training."""
    if len(dataset.folds) == 1:
        raise InputError(
            "a single fold leaves nothing to train on",
            source=dataset.table.root,
            field="fold",
            value=dataset.folds,
            remedy="Give clips of at least two folds.",
        )
    for fold in dataset.folds or (None,):
        if not len(dataset.split(fold)[1]):
            raise InputError(
                "no clip of the split 'test'",
                source=dataset.table.root,
                field="split",
                remedy="Evaluation needs clips of the split 'test', training of 'train'.",
            )
