"""Decodes and resamples a data set once into 16-bit samples, see `passt_bench.data.prepared`.

Other processes decode; this one writes what they send in shards of a thousand clips, in the order
of the clips, so that the result does not depend on their number. A shard is written atomically: it
is there or it is not, and the same command makes those that are missing. The index is written last:
without it a folder does not count as prepared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from passt_bench.console import Progress
from passt_bench.data.audio import RESAMPLER
from passt_bench.data.dataset import MAX_SKIPPED, SCALE, Dataset, FileChanged
from passt_bench.data.fingerprint import digest_of
from passt_bench.data.prepared import (
    CLIPS,
    INDEX,
    Index,
    checksum_of,
    read_index,
    shard_name,
    write_clips,
    write_index,
)
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.processes import follow_parent
from passt_bench.records.files import read_bytes, storing, write_atomically, writing
from passt_bench.registry import DATASETS
from passt_bench.runner.executor import fork_server
from passt_bench.runner.initial_weights import sha256_of
from passt_bench.spec.codec import parse_json
from passt_bench.spec.recipe import DataSpec

_SHARD = 1000  # clips
_CHUNK = 16  # clips that a process does at a time


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
        return self.out if self.out is not None else root / f"prepared-{self.sampling_rate}"


class Decoded(NamedTuple):
    """A clip from a process that decodes."""

    samples: int = 0
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
            remedy="Run the same command again, perhaps with fewer; whole shards are kept.",
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
    longest = None if asked.seconds is None else round(asked.seconds * asked.sampling_rate)
    pool = ProcessPoolExecutor(
        asked.workers, fork_server(), initializer=_begin, initargs=(source, longest)
    )
    clips: list[Decoded] = []
    try:
        for start in range(0, len(source.ids), _SHARD):
            numbers = range(start, min(start + _SHARD, len(source.ids)))
            clips += _shard(asked, source, pool, numbers, progress)
            _check_skipped(asked, source, clips)
    finally:
        pool.shutdown(cancel_futures=True)
    checksum = checksum_of(asked.folder, lambda share: progress(share, "reading it again"))
    index = _write_tables(asked, source, clips, checksum)
    _remove_leftovers(asked.folder)
    return index


def _remove_leftovers(folder: Path) -> None:
    """Removes the lists of shards, and temporary files of killed commands."""
    for pattern in ("waveforms-*.json", ".waveforms-*.*", f".{CLIPS}.*", f".{INDEX}.*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _shard(
    asked: Preparation,
    source: Dataset,
    pool: ProcessPoolExecutor,
    numbers: range,
    progress: Progress,
) -> list[Decoded]:
    """The clips of a shard, which is written unless it is there and undamaged.

    A list of its clips, which is written after their samples, has the checksum of these, and says
    what they were made from.
    """
    path = asked.folder / shard_name(numbers.start // _SHARD)
    made = (asked.sampling_rate, asked.seconds, RESAMPLER, source.fingerprint.digest, len(numbers))
    listed, digest = path.with_suffix(".json"), digest_of(made, ())
    if path.exists():
        there = dict[str, Any]()
        with suppress(ValueError, TypeError):  # none, or a damaged one
            there = dict(parse_json(read_bytes(listed)))
        if there.get("made", digest) != digest:
            raise _foreign(listed, "the preparation of other clips was begun there")
        if there.get("checksum") == sha256_of(path):
            return [Decoded(*clip) for clip in there["clips"]]
    clips = []
    with writing(path) as file:
        for data, clip in pool.map(_decode, numbers, chunksize=_CHUNK):
            file.write(data)
            clips.append(clip)
            done = numbers.start + len(clips)
            progress(done / len(source.ids), f"{done} of {len(source.ids)} clips")
    about = {"made": digest, "clips": clips, "checksum": sha256_of(path)}
    write_atomically(listed, json.dumps(about).encode())
    return clips


def _foreign(path: Path, problem: str) -> InputError:
    remedy = "Give another folder with --folder, or remove what is there."
    return InputError(problem, source=path, field="--folder", remedy=remedy)


def _check_skipped(asked: Preparation, source: Dataset, clips: Sequence[Decoded]) -> None:
    """Refuses data of which too many clips break."""
    skipped = [number for number, clip in enumerate(clips) if clip.problem is not None]
    if len(skipped) > MAX_SKIPPED * len(source.ids):
        raise InputError(
            f"more than {100 * MAX_SKIPPED:g} % of the clips break in decoding",
            source=asked.folder,
            field="clips",
            value=", ".join(source.ids[number] for number in skipped[-5:]),
            remedy=f"The last: {clips[skipped[-1]].problem}. `passt-bench data check "
            f"{asked.name}={asked.root} --decode` names all.",
        )


def _write_tables(
    asked: Preparation, source: Dataset, clips: Sequence[Decoded], checksum: str
) -> Index:
    """Writes the files beside the samples, the index last."""
    made = pd.DataFrame(clips)
    kept: list[int] = np.flatnonzero(made["problem"].isna()).tolist()
    splits, split = _split_codes(source)
    table = source.clip_table()
    expected = np.bincount(split[split >= 0], minlength=len(splits)).tolist()
    if table is not None and set(splits) <= set(table.splits):
        expected = [table.expected[table.splits.index(name)] for name in splits]
    targets, masked = _stored_targets(source.targets, np.array(kept, dtype=np.int64))
    columns = {
        "offsets": np.concatenate([[0], np.cumsum(made["samples"].to_numpy()[kept])]).astype("<i8"),
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
        cut=int(made["cut"].sum()),
        clips=len(kept),
        samples=int(made["samples"].sum()),
        splits=splits,
        expected=tuple(expected),
        clipped=int(made["clipped"].sum()),
        clipped_clips=tuple(source.ids[clip] for clip in np.flatnonzero(made["clipped"]).tolist()),
        skipped=tuple(
            (source.ids[number], int(split[number]), clip.problem)
            for number, clip in enumerate(clips)
            if clip.problem is not None
        ),
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


def scaled(wave: np.ndarray) -> tuple[np.ndarray, int]:
    """Samples in 16 bits, and how many were beyond ±1."""
    beyond = int((np.abs(wave) > 1).sum())
    return np.rint(wave * SCALE).clip(-SCALE, SCALE - 1).astype("<i2"), beyond


_job: tuple[Dataset, int | None]  # of a process that decodes: the data, and the longest clip


def _begin(source: Dataset, longest: int | None) -> None:
    """The beginning of a process that decodes."""
    global _job
    follow_parent()
    torch.set_num_threads(1)
    _job = source, longest


def _decode(number: int) -> tuple[bytes, Decoded]:
    """16-bit samples of a clip, or why it cannot be decoded."""
    source, longest = _job
    try:
        wave = source.whole(number)
    except FileChanged:
        raise
    except InputError as error:
        return b"", Decoded(problem=error.problem)
    stored, beyond = scaled(wave[:longest])
    return stored.tobytes(), Decoded(len(stored), beyond, len(wave) > len(stored))
