"""Reads whole files, and finds clips that occur more than once."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from passt_bench.data.audio import blocks_of, check_samples
from passt_bench.data.clip_table import ClipTable
from passt_bench.data.fingerprint import first_few
from passt_bench.data.opening import AudioFile, opened
from passt_bench.data.scan import Share, in_threads
from passt_bench.errors import InputError

_BLOCK = 1 << 16  # samples decoded at a time
# What the names of takes differ in, before their suffix.
_TAKE = re.compile(r"(?<=[^/])[-_. ](?:[A-Za-z](?=(?:[-_. ]\d+)?\.\w+$)|\d{1,2}(?=\.\w+$))")
_CANCELLED = 0.01  # share of the channels' power, below which a mix has nearly none


def identical(
    known: pd.DataFrame, sound_of: Callable[[int], AudioFile], threads: int, update: Share
) -> tuple[np.ndarray, dict[int, str]]:
    """Each file's group of identical files, (N,), -1 if no other is identical; and file → problem.

    Only files that agree in all that is ``known`` of them (size, hash of a piece) are read.
    """

    def digest(number: int) -> bytes | str:
        sound = sound_of(number)
        try:
            with sound.open("rb") if isinstance(sound, Path) else io.BytesIO(sound.data) as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"

    alike: list[int] = np.flatnonzero(known.duplicated(keep=False)).tolist()
    found = dict(zip(alike, in_threads(digest, alike, threads, update), strict=True))
    problems = {number: each for number, each in found.items() if isinstance(each, str)}
    read = pd.Series(found, dtype=object).drop(list(problems))
    same = read[read.duplicated(keep=False)]
    groups = np.full(len(known), -1, dtype=np.int64)
    groups[same.index] = pd.factorize(same)[0]
    return groups, problems


class Decoded(NamedTuple):
    """The result of decoding a whole file."""

    problem: str = ""  # why it cannot be used; empty if it can
    seconds: float = np.nan
    rate: int = 0  # Hz
    channels: int = 0
    silent: bool = False  # whether its channels are zero throughout, in 16 bits
    cancels: bool = False  # whether the mean of its channels has less than 1 % of their power
    digest: bytes = b""  # of rate and samples (mean of channels in 16 bits)


def decode_file(sound: AudioFile) -> Decoded:
    """Decodes a whole file, in blocks."""
    try:
        with opened(sound, thorough=True) as file:
            hasher = hashlib.blake2b(str(file.samplerate).encode(), digest_size=16)
            count, mixing = 0, np.zeros(3)
            # Not with soundfile's `blocks`, which repeats old samples if a file ends early.
            for block in blocks_of(file, 0, file.frames, _BLOCK):
                check_samples(sound, block)
                count += len(block)
                mixing += _mixing(block)
                mono = np.rint(32768 * block.mean(axis=1)).clip(-32768, 32767).astype("<i2")
                hasher.update(mono.tobytes())
            if count < file.frames:
                return Decoded(f"cut off: {file.frames} samples expected, {count} found")
            seconds = count / file.samplerate
            shape = file.samplerate, file.channels
            return Decoded("", seconds, *shape, not mixing[0], _cancels(mixing), hasher.digest())
    except InputError as error:
        return Decoded(error.problem)


def cancelled(sound: AudioFile, parts: Iterable[tuple[float, float]]) -> list[bool]:
    """Of parts of a file, from start to end in seconds, whether the channels cancel there."""
    with opened(sound) as file:
        rate = file.samplerate
        if not file.seekable():
            parts = [(0.0, file.frames / rate)]
        places = [(round(rate * start), round(rate * (end - start))) for start, end in parts]
        return [
            _cancels(sum(map(_mixing, blocks_of(file, *place, _BLOCK)), np.zeros(3)))
            for place in places
        ]


def _mixing(block: np.ndarray) -> np.ndarray:
    """Samples that are not silent in 16 bits, power of the channels, and power of their mean."""
    loud, power = np.count_nonzero(np.rint(32768 * block)), np.square(block).sum() / block.shape[1]
    return np.array([loud, power, np.square(block.mean(axis=1)).sum()], dtype=np.float64)


def _cancels(mixing: np.ndarray) -> bool:
    return bool(mixing[0] and mixing[2] < _CANCELLED * mixing[1])


def duplicates(table: ClipTable, clips: pd.DataFrame) -> dict[str, list[str]]:
    """Clips that occur more than once, by list, by bytes or by sound."""
    # One clip represents all clips of a file in a split: parts of one file are no duplicates.
    single = clips.assign(split=table.split).drop_duplicates(["file", "split"])
    single = single.sort_values(["file", "split"])
    sets = {
        "listed twice": listed_twice(table),
        "identical files": equal_sets(single[["same"]][single["same"] >= 0]),
        "identical sound": [],
    }
    if "digest" in single:
        unusable = (single["problem"] != "") | single["silent"] | single["cancels"]
        sets["identical sound"] = [
            members
            for members in equal_sets(single[["digest"]][~unusable.astype(bool)])
            if clips["same"][members].min() < 0 or clips["same"][members].nunique() > 1
        ]  # the others were found by their bytes
    across: dict[str, None] = {}
    found: dict[str, list[str]] = {kind: [] for kind in sets}
    for kind, sets_of_kind in sets.items():
        for members in sets_of_kind:
            together = _join_names(table, members)
            if len(np.unique(table.split[members])) > 1:
                across[together] = None
            else:
                found[kind].append(together)
    return {"identical across splits": list(across), **found}


def listed_twice(table: ClipTable) -> list[np.ndarray]:
    """Sets of clips that are the same part of the same file, or have the same name."""
    columns = [name for name in ("file", "start", "end") if name in table.clips]
    return equal_sets(table.clips[columns] if columns else pd.DataFrame(_hashes(table.names)))


def sources_in_several_splits(table: ClipTable) -> list[str]:
    """Recordings that have clips in several splits, with one clip of each.

    Clips of one file are of one recording, even if the list names several sources.
    """
    found: dict[str, str] = {}
    for members in divided(_hashes(table.sources), table.split):
        found[_join_names(table, members, ", ")] = table.sources[int(members[0])]
    if table.files is not None:
        file = table.clips["file"].to_numpy()
        for members in divided(file, table.split):
            together = _join_names(table, members, ", ")
            found.setdefault(together, table.files[file[members[0]]])
    return [f"{name}: {together}" for together, name in found.items()]


def takes_apart(paths: Sequence[str], split: np.ndarray) -> list[np.ndarray]:
    """For each set of files named like takes of one recording, if in several splits, one of each.

    Names differ in an ending like ``-A`` or ``_1``, or before a number: ``1-47250-A-41.wav``.
    """
    return divided(_hashes([_TAKE.sub("", path, count=1) for path in paths]), split)


def divided(groups: np.ndarray, split: np.ndarray) -> list[np.ndarray]:
    """For each group, (N,), with clips in several splits, (N,), one clip of each split."""
    first = pd.DataFrame({"group": groups, "split": split}).drop_duplicates()
    return equal_sets(first[["group"]])


def equal_sets(rows: pd.DataFrame) -> list[np.ndarray]:
    """Labels of each set of two or more equal rows, ordered by their first; NaN equals NaN."""
    rows = rows[rows.duplicated(keep=False)]
    if not len(rows):
        return []
    number = rows.groupby(list(rows), sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    return np.split(rows.index.to_numpy()[order], np.flatnonzero(np.diff(number[order])) + 1)


def _hashes(texts: Sequence[str]) -> np.ndarray:
    """64-bit hashes of texts: with two million, the chance of a collision is 1 in 10 million."""
    return np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))


def named(table: ClipTable, clip: int) -> str:
    """A clip's split and name."""
    return f"{table.splits[table.split[clip]]} {table.names[clip]}"


def _join_names(table: ClipTable, clips: np.ndarray, between: str = " = ") -> str:
    return first_few([named(table, clip) for clip in clips[:9].tolist()], len(clips), between)
