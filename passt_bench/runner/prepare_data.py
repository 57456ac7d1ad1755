"""Decodes and resamples a data set once into 16-bit samples, see `passt_bench.data.prepared`.

Other processes decode; this one appends what they send to one file, in the order of the clips, so
that the result does not depend on their number. After every thousand clips, a shard, the samples
are synced and the list of them is replaced atomically: a shard is there or it is not. After a kill
the same command cuts off what the list does not name, and resumes there. At the end some clips are
decoded again. The index is written last: without it a folder does not count as prepared.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError

from passt_bench.console import Progress
from passt_bench.data.audio import RESAMPLER
from passt_bench.data.dataset import MAX_SKIPPED, SCALE, Dataset, FileChanged
from passt_bench.data.prepared import (
    CLIPS,
    INDEX,
    WAVEFORMS,
    Index,
    broken,
    checksum_of,
    default_folder,
    read_index,
    write_clips,
    write_index,
)
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.processes import follow_parent
from passt_bench.records.files import read_bytes, storing, write_atomically
from passt_bench.registry import DATASETS
from passt_bench.runner.executor import fork_server
from passt_bench.spec.codec import from_json, to_plain, written_as
from passt_bench.spec.recipe import DataSpec

LIST = "preparing.json"  # `Shards`, while a folder is being prepared
_SHARD = 1000  # clips
_CHUNK = 16  # clips that a process does at a time
_SAMPLE = 48  # clips that are decoded again at the end
_DECODING, _CHECKING = 0.9, 0.07  # shares of the work, for the progress


@dataclass(frozen=True)
class Preparation:
    """A request to prepare a data set."""

    name: str  # of a registered data set
    root: Path  # its folder
    sampling_rate: int  # Hz
    out: Path | None = None  # where to; None is a folder within ``root``
    seconds: float | None = None  # length that longer clips are cut to; None keeps them whole
    workers: int = 1  # processes that decode

    @property
    def folder(self) -> Path:
        """The folder of the result."""
        # A manifest of another name is a file: the folder is beside it.
        root = self.root.with_suffix("") if self.root.is_file() else self.root
        return self.out if self.out is not None else default_folder(root, self.sampling_rate)


@dataclass
class Shards:
    """The complete shards of a folder that is being prepared; ``skipped``: clip → why."""

    made: dict[str, Any]  # what the clips are and how they were made
    sizes: list[int] = field(default_factory=list)  # samples of each clip; 0 for one that broke
    cut: int = 0  # clips that were longer than wanted
    clipped: dict[int, int] = field(default_factory=dict)  # clip → samples beyond ±1
    skipped: Annotated[dict[int, str], written_as("lost")] = field(default_factory=dict)

    def add(self, clip: Decoded) -> None:
        """Adds the next clip."""
        number = len(self.sizes)
        self.sizes.append(len(clip.data) // 2)
        self.cut += clip.cut
        if clip.clipped:
            self.clipped[number] = clip.clipped
        if clip.problem is not None:
            self.skipped[number] = clip.problem


class Decoded(NamedTuple):
    """A clip from a process that decodes."""

    data: bytes = b""  # 16-bit samples
    clipped: int = 0  # samples beyond ±1
    cut: bool = False
    problem: str | None = None


def prepare_data(
    asked: Preparation, progress: Progress = lambda share, text: None
) -> tuple[Index, bool]:
    """Prepares a data set, or the rest if some of it is done.

    Returns:
        The index of the folder, and whether everything had been done before.

    Raises:
        InputError: data that cannot be opened, too many clips that break, a folder with other
            things in it, or a process that died.
        StorageError: the disk is full, or nothing can be written there.
    """
    if (asked.root / INDEX).is_file():
        raise InputError(
            "holds prepared clips, and no data set to prepare",
            source=asked.root,
            field=asked.name,
            remedy="Give the folder that they were made from.",
        )
    spec = DataSpec(name=asked.name, seconds=asked.seconds or 1.0)
    source: Dataset = DATASETS.get(asked.name).build(spec, asked.sampling_rate, asked.root)
    folder = asked.folder
    if (folder / INDEX).is_file():
        return _finished(asked, source), True
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".prepare.lock", timeout=0)
    try:
        with lock:
            return _prepare(asked, source, progress), False
    except Timeout:
        raise InputError(
            "another command prepares clips there",
            source=folder,
            remedy="Let it finish, or give another folder with --folder.",
        ) from None
    except BrokenProcessPool:
        raise InputError(
            "a decoding process was killed, perhaps by a lack of memory",
            source=folder,
            field="--workers",
            value=asked.workers,
            remedy="Run the same command again, perhaps with fewer; it resumes from here.",
        ) from None


def _finished(asked: Preparation, source: Dataset) -> Index:
    """The index of a folder that is complete, if it is as requested."""
    index = read_index(asked.folder)
    there = (index.form, index.sampling_rate, index.seconds, index.source.digest)
    wanted = ("int16", asked.sampling_rate, asked.seconds, source.fingerprint.digest)
    if there != wanted:
        raise _foreign(asked.folder, f"holds other prepared clips: {there} instead of {wanted}")
    _remove_leftovers(asked.folder)
    return index


def _prepare(asked: Preparation, source: Dataset, progress: Progress) -> Index:
    path, shards = asked.folder / WAVEFORMS, _begun(asked, source)
    pool = ProcessPoolExecutor(
        asked.workers,
        mp_context=fork_server(),
        initializer=_begin,
        initargs=(source, asked.sampling_rate, asked.seconds),
    )
    try:
        _fill(path, source, shards, pool, progress)
        progress(_DECODING, "decoding some clips again")
        _check_sample(path, source, shards, pool)
    finally:
        pool.shutdown(cancel_futures=True)
    checksum = checksum_of(
        path, lambda share: progress(_DECODING + _CHECKING * share, "reading it again")
    )
    progress(_DECODING + _CHECKING, "writing the index")
    index = _write_tables(asked, source, shards, checksum)
    _remove_leftovers(asked.folder)
    return index


def _begun(asked: Preparation, source: Dataset) -> Shards:
    """The shards that an earlier command left; written empty before the first."""
    path = asked.folder / LIST
    new = Shards(
        {
            "rate": asked.sampling_rate,
            "seconds": asked.seconds,
            "digest": source.fingerprint.digest,
            "clips": len(source.ids),
            "resampler": RESAMPLER,
        }
    )
    if not path.exists():
        if (asked.folder / WAVEFORMS).exists():
            raise _foreign(asked.folder / WAVEFORMS, "the file was not begun by this command")
        _write_list(asked.folder, new)
        return new
    try:
        found = from_json(Shards, read_bytes(path))
    except ValidationError as error:
        raise broken(path, f"not a list of clips ({error.errors()[0]['msg']})") from None
    if found.made != new.made:
        raise _foreign(path, "the preparation of other clips was begun there", found.made)
    return found


def _write_list(folder: Path, shards: Shards) -> None:
    write_atomically(folder / LIST, json.dumps(to_plain(shards)).encode())


def _foreign(path: Path, problem: str, found: object = None) -> InputError:
    return InputError(
        problem,
        source=path,
        field="--folder",
        value=found,
        remedy="Give another folder with --folder, or remove what is there.",
    )


def _fill(
    path: Path, source: Dataset, shards: Shards, pool: ProcessPoolExecutor, progress: Progress
) -> None:
    """Appends the shards that the file lacks."""
    clips = len(source.ids)
    with storing(path), path.open("ab") as file:
        complete = 2 * sum(shards.sizes)
        if file.tell() < complete:
            raise broken(path, "shorter than the list beside it says")
        file.truncate(complete)
        for start in range(len(shards.sizes), clips, _SHARD):
            numbers = range(start, min(start + _SHARD, clips))
            for clip in pool.map(_decode, numbers, chunksize=_CHUNK):
                file.write(clip.data)
                shards.add(clip)
                _check_skipped(path, source, shards)
                done = len(shards.sizes)
                progress(_DECODING * done / clips, f"{done} of {clips} clips")
            file.flush()
            os.fsync(file.fileno())
            _write_list(path.parent, shards)


def _check_skipped(path: Path, source: Dataset, shards: Shards) -> None:
    """Refuses data of which too many clips break."""
    if len(shards.skipped) > MAX_SKIPPED * len(source.ids):
        raise InputError(
            f"more than {100 * MAX_SKIPPED:g} % of the clips break in decoding",
            source=path.parent,
            field="clips",
            value=", ".join(source.ids[number] for number in list(shards.skipped)[-5:]),
            remedy=f"The last: {list(shards.skipped.values())[-1]}. `passt-bench data check "
            f"{source.fingerprint.dataset}=DIR --decode` names all.",
        )


def _check_sample(path: Path, source: Dataset, shards: Shards, pool: ProcessPoolExecutor) -> None:
    """Decodes some clips again, which must give the same bytes."""
    clips = range(len(shards.sizes))
    offsets = np.concatenate([[0], np.cumsum(shards.sizes)])
    numbers = sorted(random.Random(0).sample(clips, min(_SAMPLE, len(clips))))
    with path.open("rb") as file:
        for number, clip in zip(numbers, pool.map(_decode, numbers), strict=True):
            file.seek(2 * int(offsets[number]))
            if clip.data != file.read(2 * shards.sizes[number]):
                raise InputError(
                    "a clip decodes to other samples than before",
                    source=path.parent,
                    field="clip",
                    value=source.ids[number],
                    remedy="The data changed meanwhile: remove the folder and prepare them again.",
                )


def _write_tables(asked: Preparation, source: Dataset, shards: Shards, checksum: str) -> Index:
    """Writes the files beside the samples, the index last."""
    sizes = np.array(shards.sizes, dtype=np.int64)
    kept = np.setdiff1d(np.arange(len(sizes)), list(shards.skipped))
    splits, split = _split_codes(source)
    table = source.clip_table()
    expected = np.bincount(split[split >= 0], minlength=len(splits)).tolist()
    if table is not None and set(splits) <= set(table.splits):
        expected = [table.expected[table.splits.index(name)] for name in splits]
    targets, masked = _stored_targets(source.targets, kept)
    columns = {
        "offsets": np.concatenate([[0], np.cumsum(sizes[kept])]).astype("<i8"),
        "names": np.array([source.ids[clip].encode() for clip in kept], dtype=np.bytes_),
        "sources": np.array([source.sources[clip].encode() for clip in kept], dtype=np.bytes_),
        "split": split[kept],
        "targets": targets,
    }
    write_clips(asked.folder, columns)
    index = Index(
        source=source.fingerprint,
        sampling_rate=asked.sampling_rate,
        resampler=RESAMPLER,
        seconds=asked.seconds,
        cut=shards.cut,
        clips=len(kept),
        samples=sum(shards.sizes),
        splits=splits,
        expected=tuple(expected),
        clipped=sum(shards.clipped.values()),
        clipped_clips=tuple(source.ids[clip] for clip in shards.clipped),
        skipped=tuple((source.ids[n], int(split[n]), why) for n, why in shards.skipped.items()),
        checksum=checksum,
        masked=masked,
    )
    write_index(asked.folder, index)
    return index


def _split_codes(source: Dataset) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the splits, and the code of each clip's."""
    code = np.full(len(source.ids), -1, dtype=np.int8)
    for number, fold in enumerate(source.folds):
        code[source.split(fold)[1]] = number
    if source.folds:
        return tuple(f"fold {fold}" for fold in source.folds), code
    validation = source.validation()
    for number, part in enumerate((*source.split(None), validation)):
        if part is not None:
            code[part] = number
    return ("train", "test", *(("validation",) if validation is not None else ())), code


def _stored_targets(targets: Targets, kept: np.ndarray) -> tuple[np.ndarray, bool]:
    """Packed bits; or, where some labels are unknown, float32 with NaN."""
    if isinstance(targets, PackedTargets):
        return targets.packed[kept], False
    if np.isnan(targets).any():
        return targets[kept].astype(np.float32), True
    return np.packbits(targets[kept] > 0.5, axis=-1), False


def _remove_leftovers(folder: Path) -> None:
    """Removes the list of shards, and temporary files of killed commands."""
    for pattern in (LIST, f".{LIST}.*", f".{CLIPS}.*", f".{INDEX}.*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def scaled(wave: np.ndarray) -> tuple[np.ndarray, int]:
    """Samples in 16 bits, and how many were beyond ±1."""
    beyond = int((np.abs(wave) > 1).sum())
    return np.rint(wave * SCALE).clip(-SCALE, SCALE - 1).astype("<i2"), beyond


_read: Callable[[int], Decoded]  # of a process that decodes


def _begin(source: Dataset, sampling_rate: int, seconds: float | None) -> None:
    """The beginning of a process that decodes."""
    global _read
    follow_parent()
    torch.set_num_threads(1)
    most = None if seconds is None else round(seconds * sampling_rate)

    def read(number: int) -> Decoded:
        wave = source.whole(number)
        stored, beyond = scaled(wave[:most])
        return Decoded(stored.tobytes(), beyond, len(wave) > len(stored))

    _read = read


def _decode(number: int) -> Decoded:
    """A clip, or why it cannot be decoded."""
    try:
        return _read(number)
    except FileChanged:
        raise
    except InputError as error:
        return Decoded(problem=error.problem)
