"""What is told of prepared clips: what broke, a digest of what is there, and a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from passt_bench.data.described import some
from passt_bench.data.pieces import piece_of, spread_over
from passt_bench.data.prepared_files import Index, broken
from passt_bench.data.survey import Lost, Survey
from passt_bench.records.run import Fingerprint


def lost_of(index: Index) -> Lost:
    """The clips that broke in decoding."""
    names, splits, reasons = zip(*index.lost, strict=True) if index.lost else ((), (), ())
    return Lost(list(names), np.array(splits, dtype=np.int8), list(reasons))


def survey_of(index: Index, found: Survey) -> Survey:
    """What HDF5 files that were prepared hold, and what was lost when they were.

    Args:
        index: of the folder; its splits may have no file, for want of clips.
        found: what the files themselves tell.
    """
    codes = np.array([index.splits.index(name) for name in found.splits], dtype=np.int8)
    own, before = found.lost, lost_of(index)
    lost = Lost(
        [*before.names, *own.names],
        np.concatenate([before.split, codes[own.split]]),
        [*before.reasons, *own.reasons],
    )
    return replace(
        found,
        splits=index.splits,
        expected=index.expected,
        split=codes[found.split],
        lost=lost,
        prepared=True,
    )


def digest_of(index: Index, columns: Mapping[str, np.ndarray], samples: Path) -> str:
    """Of what the clips were made from and how, of their columns, and of pieces of their samples.

    What was changed since they were prepared is other data as far as the digest sees: samples
    between the pieces are compared by ``data check --decode`` alone.

    Args:
        index: of the folder.
        columns: that stand beside the samples.
        samples: the file of all of them.

    Raises:
        InputError: the samples cannot be read.
    """
    lost = [name for name, _, _ in index.lost]
    length = index.seconds if index.cut else None
    what = (index.form, index.sampling_rate, index.resampler, length, index.source.digest, lost)
    hasher = hashlib.sha256(repr(what).encode())
    for name, column in columns.items():
        hasher.update(f"\n{name} {column.dtype.str} {column.shape}\n".encode())
        hasher.update(np.ascontiguousarray(column).view(np.uint8).data)
    offsets = 2 * columns["offsets"]
    try:
        with samples.open("rb") as file:
            for clip in spread_over(index.clips).tolist():
                piece = piece_of(file, int(offsets[clip]), int(offsets[clip + 1]))
                hasher.update(piece.to_bytes(8, "little"))
    except OSError as error:
        raise broken(samples, f"cannot be read ({error.strerror})") from None
    return hasher.hexdigest()[:16]


def fingerprint_of(index: Index, digest: str, own: Sequence[str] = ()) -> Fingerprint:
    """Says that this is not the source itself: its samples are others, and what broke is not there.

    Args:
        index: of the folder.
        digest: of what is in it.
        own: notes on what is in it; those that the source has as well are told once.
    """
    source, lost = index.source, [name for name, _, _ in index.lost]
    stored = "mp3" if index.form == "hdf5" else "16-bit samples"
    notes = [f"{stored} at {index.sampling_rate} Hz made from the data {source.digest}"]
    if lost:
        notes.append(f"{len(lost)} clips broke in decoding and were left out: {some(lost, lost)}")
    if index.clipped:
        count = len(index.clipped_clips)
        notes.append(
            f"{index.clipped} samples of {count} clips beyond ±1 were clipped: "
            f"{some(index.clipped_clips, index.clipped_clips)}"
        )
    return replace(
        source,
        digest=digest,
        found=index.clips,
        sampling_rates={str(index.sampling_rate): index.clips},
        notes=(*notes, *source.notes, *(note for note in own if note not in source.notes)),
    )
