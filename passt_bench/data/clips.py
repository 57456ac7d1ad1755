"""Data sets of audio files: one clip a file, or a stretch of it.

Any rate, length, number of channels and format that soundfile reads. A clip whose file is missing,
empty, cut off, no audio or not to be read is counted and named in the fingerprint, and is left out;
of more than one in twenty the data set is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data.audio import RESAMPLER, Header, Stretch, length_at, read_waveform
from passt_bench.data.clip_table import Listing, Lost, Survey
from passt_bench.data.dataset import Incomplete, SurveyedDataset
from passt_bench.data.fingerprint import count_rates, digest_of, lacking_classes, some
from passt_bench.data.scan import Scan, scan_files
from passt_bench.data.targets import PackedTargets
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec

MISSING = "no such file"
MOST_LOST = 0.05  # share of the clips whose file may be missing or broken
_LATE = 0.05  # seconds that a clip may end behind its file without a word
_BLOCK = 1 << 16  # names that are hashed at a time


@dataclass(frozen=True, eq=False)
class FolderDataset(SurveyedDataset):
    """Clips in files of a folder."""

    frames: np.ndarray  # (N,) int64, samples of each clip at its file's rate

    def sound(self, index: int) -> Path:
        """The audio file of a clip; where it is a stretch, the survey says which."""
        path = self.found.path(index)
        assert path is not None
        return path

    def waveform(self, index: int) -> np.ndarray:
        """Decoded, mixed down, resampled, cut or padded to the spec's length."""
        return self.excerpt(index, 0)

    def length(self, index: int) -> int | None:
        """Samples of the whole clip at the sampling rate; None where `waveform` gives all."""
        length = self._length(index)
        return length if length > self._samples() else None

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, from another sample on; little more than it is read from the file."""
        return self._read(index, start, self._samples())

    def whole(self, index: int) -> np.ndarray:
        """All samples of a clip."""
        return self._read(index, 0, self._length(index))

    def _length(self, index: int) -> int:
        header = Header(int(self.found.rates[index]), 1, int(self.frames[index]))
        return length_at(header, self.sampling_rate)

    def _read(self, index: int, start: int, samples: int) -> np.ndarray:
        found = self.found
        stretch = Stretch()
        if found.start is not None and found.end is not None:
            end = float(found.end[index])
            stretch = Stretch(float(found.start[index]), None if math.isnan(end) else end)
        return read_waveform(self.sound(index), self.sampling_rate, samples, start, stretch)

    def _samples(self) -> int:
        return round(self.spec.seconds * self.sampling_rate)


def open_listing(
    listing: Listing,
    spec: DataSpec,
    sampling_rate: int,
    *,
    expected: Sequence[int] | None = None,
    incomplete: bool = False,
) -> FolderDataset:
    """Looks at the files of a listing, and makes a data set of those that hold sound.

    Args:
        listing: clips, of which some files may be lost.
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all files are resampled.
        expected: clips of each split, as published; None is as many as are listed.
        incomplete: whether any number of files may be missing, for nobody has them all.

    Raises:
        InputError: too many files missing or broken, no clip to evaluate, or more clips asked for
            than there are.
    """
    scan = scan_files(listing.root, listing.files)
    frames, late, reasons = _measure(listing, scan)
    usable = np.ones(len(listing), dtype=bool)
    usable[list(reasons)] = False
    kept = np.flatnonzero(usable).tolist()
    order = np.array(sorted(kept, key=listing.names.__getitem__), dtype=np.int64)
    clips = listing.chosen(order)
    head = (spec.name, clips.classes, clips.multi_label, clips.split_names(), len(clips))
    survey = _survey(listing, clips, scan, frames[order], reasons, expected)
    dataset = FolderDataset(
        fingerprint=Fingerprint(
            dataset=spec.name,
            digest=digest_of(head, _digested(clips, scan)),
            expected=sum(survey.expected),
            found=len(clips),
            classes=listing.classes,
            multi_label=listing.multi_label,
            sampling_rates=count_rates(survey.rates),
            notes=_notes(clips, survey, sampling_rate, np.flatnonzero(late[order])),
        ),
        ids=clips.names,
        targets=clips.targets,
        sources=clips.sources,
        folds=clips.folds,
        spec=spec,
        sampling_rate=sampling_rate,
        found=survey,
        frames=frames[order],
    )
    _check_lost(listing, reasons, incomplete, dataset)
    _check_splits(dataset)
    return dataset


def _survey(
    listing: Listing,
    clips: Listing,
    scan: Scan,
    frames: np.ndarray,
    reasons: Mapping[int, str],
    expected: Sequence[int] | None,
) -> Survey:
    """What was found, clip by clip.

    Args:
        listing: all clips.
        clips: those that can be used.
        scan: of the files of both.
        frames: (clips,) samples of each that can be used.
        reasons: number of a clip in the listing → why it cannot be used.
        expected: clips of each split, as published; None is as many as are listed.
    """
    splits = listing.split_names()
    rates = scan.rates[clips.file]
    if expected is None:
        expected = np.bincount(listing.split, minlength=len(splits)).tolist()
    gone = sorted(reasons)
    return Survey(
        root=listing.root,
        splits=splits,
        expected=tuple(expected),
        names=clips.names,
        split=clips.split,
        sources=clips.sources,
        seconds=(frames / np.maximum(rates, 1)).astype(np.float32),
        rates=rates,
        channels=scan.channels[clips.file],
        lost=Lost(
            [listing.names[clip] for clip in gone],
            listing.split[gone],
            [reasons[clip] for clip in gone],
            listing.labels(gone),
        ),
        files=clips.files,
        file=clips.file,
        start=clips.start,
        end=clips.end,
    )


def _digested(clips: Listing, scan: Scan) -> Iterator[str | np.ndarray]:
    """What the digest covers: names, labels, splits, sources, stretches, sizes and pieces of files.

    Sampling rate and clip length are not in it: they stand in the recipe.

    Args:
        clips: those that can be used.
        scan: of their files.
    """
    for texts in (clips.names, *(() if clips.sources is clips.names else (clips.sources,))):
        for at in range(0, len(texts), _BLOCK):
            yield "".join(f"{text}\0" for text in texts[at : at + _BLOCK])
    if isinstance(clips.targets, PackedTargets):
        yield clips.targets.packed
    else:
        yield np.nan_to_num(clips.targets, nan=2).astype("<f4")
    yield clips.split
    yield scan.sizes[clips.file].astype("<i8")
    yield scan.pieces[clips.file].astype("<u8")
    if clips.start is not None and clips.end is not None:
        yield clips.start.astype("<f8")
        yield np.nan_to_num(clips.end, nan=-1).astype("<f8")


def _notes(clips: Listing, survey: Survey, sampling_rate: int, late: np.ndarray) -> tuple[str, ...]:
    """What a reader of a result should know of its data.

    Args:
        clips: those that can be used.
        survey: of them and of the lost ones.
        sampling_rate: Hz of the waveforms.
        late: numbers of those that end behind their files.
    """
    lost = survey.lost
    missing = sum(reason == MISSING for reason in lost.reasons)
    first = zip(lost.names[:5], lost.reasons[:5], strict=True)
    named = [f"{name} ({reason})" for name, reason in first]
    others = int((survey.rates != sampling_rate).sum())
    mixed = int((survey.channels > 1).sum())
    found = (
        (
            len(lost),
            f"{len(lost)} clips left out, {missing} missing and {len(lost) - missing} without "
            f"sound: {some(named, lost)}",
        ),
        (
            len(late),
            f"{len(late)} clips end behind their files; what is not there is silent: "
            f"{some([clips.names[clip] for clip in late[:5].tolist()], late)}",
        ),
        (others, f"{others} clips resampled to {sampling_rate} Hz by {RESAMPLER}"),
        (mixed, f"{mixed} clips of several channels mixed to one"),
    )
    return (
        *(note for count, note in found if count),
        *lacking_classes(clips.targets, clips.split, survey.splits, clips.classes),
    )


def _measure(listing: Listing, scan: Scan) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Samples of each clip, which clips end behind their file, and what is wrong with which."""
    whole = scan.frames[listing.file]
    lost = np.isin(listing.file, np.fromiter(scan.lost, dtype=np.int64, count=len(scan.lost)))
    reasons = {clip: scan.lost[listing.file[clip]] for clip in np.flatnonzero(lost).tolist()}
    late = np.zeros(len(listing), dtype=bool)
    if listing.start is None or listing.end is None:
        return whole, late, reasons
    rates = scan.rates[listing.file]
    first = _samples_at(listing.start, rates)
    open_end = np.isnan(listing.end)
    last = np.where(open_end, whole, _samples_at(np.nan_to_num(listing.end), rates))
    late = ~open_end & (last - whole > _LATE * rates)
    frames = np.minimum(last, whole) - first
    for clip in np.flatnonzero(~lost & (frames <= 0)).tolist():
        seconds = whole[clip] / rates[clip]
        reasons[clip] = (
            f"starts at {listing.start[clip]:g} s, its file ends at {seconds:g} s"
            if first[clip] >= whole[clip]
            else "shorter than a sample"
        )
    return np.maximum(frames, 0), late, reasons


def _samples_at(seconds: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Numbers of samples; of a time that no file reaches a number that none has."""
    return np.rint(np.minimum(seconds * rates, 2.0**62)).astype(np.int64)


def _check_lost(
    listing: Listing, reasons: dict[int, str], incomplete: bool, left: FolderDataset
) -> None:
    """Refuses a data set of which too much is gone."""
    counted = [clip for clip, reason in reasons.items() if not incomplete or reason != MISSING]
    there = len(listing) - len(reasons) + len(counted)
    if there and len(counted) <= MOST_LOST * there:
        return
    counted = counted or list(reasons)
    refusal = Incomplete(
        f"{len(counted)} of {len(listing)} clips are missing or hold no sound",
        source=listing.root,
        field="files",
        value=some([f"{listing.names[clip]} ({reasons[clip]})" for clip in counted[:5]], counted),
        remedy=f"At most {100 * MOST_LOST:g} % may be; bring the files, or remove the clips from "
        "the list.",
    )
    refusal.dataset = left
    raise refusal


def _check_splits(dataset: FolderDataset) -> None:
    """Refuses what cannot be evaluated; `check_training` refuses what cannot be trained on."""
    if len(dataset.folds) == 1:
        raise InputError(
            "one fold alone leaves nothing to train on",
            source=dataset.found.root,
            field="fold",
            value=dataset.folds,
            remedy="Give clips of at least two folds.",
        )
    for fold in dataset.folds or (None,):
        _, test = dataset.split(fold)
        if not len(test):
            raise InputError(
                "no clip of the split 'test'",
                source=dataset.found.root,
                field="split",
                remedy="Evaluation needs clips of the split 'test', training of 'train'.",
            )
