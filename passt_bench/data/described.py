"""What is told of clips in files: a survey, a digest of all that was found, and notes in words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Sized

import numpy as np

from passt_bench.data.decode import RESAMPLER
from passt_bench.data.listing import Listing
from passt_bench.data.scan import Scan
from passt_bench.data.survey import Lost, Survey
from passt_bench.data.targets import PackedTargets, Targets, classes_present

MISSING = "no such file"
_BLOCK = 1 << 16  # names that are hashed at a time
_NAMED = 5  # examples in a message


def survey_of(
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


def digest_of(name: str, clips: Listing, scan: Scan) -> str:
    """Of what was found: names, labels, splits, sources, stretches, sizes and pieces of the files.

    A piece is from the middle of a file: all of two million files would take hours to read.

    Sampling rate and clip length are not in it: they stand in the recipe.

    Args:
        name: of the data set.
        clips: those that can be used.
        scan: of their files.
    """
    head = (name, clips.classes, clips.multi_label, clips.split_names(), len(clips))
    hasher = hashlib.sha256(repr(head).encode())
    for texts in (clips.names, *(() if clips.sources is clips.names else (clips.sources,))):
        for at in range(0, len(texts), _BLOCK):
            hasher.update("".join(f"{text}\0" for text in texts[at : at + _BLOCK]).encode())
    packed = isinstance(clips.targets, PackedTargets)
    targets = clips.targets.packed if isinstance(clips.targets, PackedTargets) else clips.targets
    columns = [
        targets if packed else np.nan_to_num(targets, nan=2).astype("<f4"),
        clips.split,
        scan.sizes[clips.file].astype("<i8"),
        scan.pieces[clips.file].astype("<u8"),
    ]
    if clips.start is not None and clips.end is not None:
        columns += [clips.start.astype("<f8"), np.nan_to_num(clips.end, nan=-1).astype("<f8")]
    for column in columns:
        hasher.update(np.ascontiguousarray(column).view(np.uint8).data)
    return hasher.hexdigest()[:16]


def count_rates(rates: np.ndarray) -> dict[str, int]:
    """Hz → clips."""
    values, counts = np.unique(rates, return_counts=True)
    found = {str(value): int(count) for value, count in zip(values, counts, strict=True)}
    return dict(sorted(found.items()))


def notes_on(
    clips: Listing, survey: Survey, sampling_rate: int, late: np.ndarray
) -> tuple[str, ...]:
    """What a reader of a result should know of its data.

    Args:
        clips: those that can be used.
        survey: of them and of the lost ones.
        sampling_rate: Hz of the waveforms.
        late: numbers of those that end behind their files.
    """
    lost = survey.lost
    missing = sum(reason == MISSING for reason in lost.reasons)
    first = zip(lost.names[:_NAMED], lost.reasons[:_NAMED], strict=True)
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
            f"{some([clips.names[clip] for clip in late[:_NAMED].tolist()], late)}",
        ),
        (others, f"{others} clips resampled to {sampling_rate} Hz by {RESAMPLER}"),
        (mixed, f"{mixed} clips of several channels mixed to one"),
    )
    return (
        *(note for count, note in found if count),
        *lacking_classes(clips.targets, clips.split, survey.splits, clips.classes),
    )


def lacking_classes(
    targets: Targets, split: np.ndarray, splits: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """A note for each split of which some classes have no clip.

    Args:
        targets: (N, classes).
        split: (N,) code of each clip's split.
        splits: names of the splits by code.
        classes: their names.
    """
    notes = []
    for code, name in enumerate(splits):
        inside = np.flatnonzero(split == code)
        if len(inside):
            empty = np.flatnonzero(~classes_present(targets, inside)).tolist()
            named = [classes[at] for at in empty]
            if named:
                notes.append(f"{len(named)} classes without a clip in {name}: {some(named, named)}")
    return notes


def some(names: Sequence[str], of: Sized) -> str:
    """The first few names, and how many more there are."""
    more = len(of) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
