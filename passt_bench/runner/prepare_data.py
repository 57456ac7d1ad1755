"""Decodes and resamples a data set once: into 16-bit samples, or into HDF5 files with mp3 inside.

Processes decode; this one writes what they send, in the order of the clips, so that
the result does not depend on their number and a killed preparation goes on where it was. At the end
everything is read again, and a sample of the clips is decoded anew. The index comes last: without
it nobody takes the folder for a prepared one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock, Timeout

from passt_bench.data.audio import RESAMPLER
from passt_bench.data.dataset import Dataset, FileChanged
from passt_bench.data.hdf5_file import check_mp3_rate, encode_mp3
from passt_bench.data.prepared import default_folder, scaled
from passt_bench.data.prepared_files import INDEX, WAVEFORMS, Index, read_index
from passt_bench.errors import InputError
from passt_bench.processes import follow_parent
from passt_bench.records.files import storing
from passt_bench.registry import DATASETS
from passt_bench.runner.executor import fork_server
from passt_bench.runner.prepared_form import Entry, FlatFile, finish, tidy
from passt_bench.spec.recipe import DataSpec

Progress = Callable[[float, str], None]
_PART = 32  # clips that a process does at a time, and that a line of the journal is about
_AHEAD = 2  # parts a process that are begun before the first of them is written
_SAMPLE = 48  # clips that are decoded anew at the end
_MOST_LOST = 0.05  # share of the clips that may break in decoding
_DECODING, _CHECKING = 0.9, 0.07  # shares of the work, for the progress

Form = Literal["int16", "hdf5"]


@dataclass(frozen=True)
class Preparation:
    """What is asked for.

    Attributes:
        name: registered data set.
        root: its folder.
        sampling_rate: Hz.
        form: 16-bit samples, or HDF5 files.
        out: where to; None is a folder within ``root``.
        seconds: at which longer clips are cut; None keeps them whole.
        workers: processes that decode.
    """

    name: str
    root: Path
    sampling_rate: int
    form: Form = "int16"
    out: Path | None = None
    seconds: float | None = None
    workers: int = 1

    @property
    def folder(self) -> Path:
        """Where the result lies."""
        if self.out is not None:
            return self.out
        root = self.root
        if root.is_file():  # a manifest by its name: what is prepared lies beside it
            root = root.with_suffix("")
        if self.form == "hdf5":
            return root / f"hdf5-{self.sampling_rate}"
        return default_folder(root, self.sampling_rate)


def prepare_data(
    asked: Preparation, progress: Progress = lambda share, text: None
) -> tuple[Index, bool]:
    """Prepares a data set, or what is left to do of it.

    Args:
        asked: what.
        progress: told the share done and a few words.

    Returns:
        What the folder holds, and whether it held all of it before.

    Raises:
        InputError: data that cannot be opened, too many clips that break, a folder with other
            things in it, or a process that died.
        StorageError: the disk is full, or nothing can be written there.
    """
    source = _open_source(asked)
    folder = asked.folder
    found = _finished(asked, source)
    if found is not None:
        return found, True
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".prepare.lock", timeout=0)
    try:
        with lock, FlatFile(folder / WAVEFORMS, _identity(asked, source)) as flat:
            return _fill_and_check(asked, source, flat, progress), False
    except Timeout:
        raise InputError(
            "another command prepares clips there",
            source=folder,
            remedy="Let it finish, or give another folder with --folder.",
        ) from None


def _open_source(asked: Preparation) -> Dataset:
    if (asked.root / INDEX).is_file():
        raise InputError(
            "holds prepared clips, and no data set to prepare",
            source=asked.root,
            field=asked.name,
            remedy="Give the folder that they were made from.",
        )
    if asked.form == "hdf5":
        check_mp3_rate(asked.sampling_rate)
    spec = DataSpec(name=asked.name, seconds=asked.seconds or 1.0)
    source: Dataset = DATASETS.get(asked.name).build(spec, asked.sampling_rate, asked.root)
    return source


def _finished(asked: Preparation, source: Dataset) -> Index | None:
    """What the folder holds if it is what is asked for; None where it holds nothing."""
    if not (asked.folder / INDEX).is_file():
        return None
    index = read_index(asked.folder)
    there = (index.form, index.sampling_rate, index.seconds, index.source.digest)
    wanted = (asked.form, asked.sampling_rate, asked.seconds, source.fingerprint.digest)
    if there != wanted:
        raise InputError(
            f"holds other prepared clips: {there}, and wanted are {wanted}",
            source=asked.folder,
            field="--folder",
            remedy="Give another folder with --folder, or remove this one.",
        )
    tidy(asked.folder, index, done=True)
    return index


def _identity(asked: Preparation, source: Dataset) -> dict[str, object]:
    return {
        "form": asked.form,
        "rate": asked.sampling_rate,
        "seconds": asked.seconds,
        "digest": source.fingerprint.digest,
        "clips": len(source.ids),
        "part": _PART,
        "resampler": RESAMPLER,
    }


def _fill_and_check(
    asked: Preparation, source: Dataset, flat: FlatFile, progress: Progress
) -> Index:
    pool = ProcessPoolExecutor(
        asked.workers,
        mp_context=fork_server(),
        initializer=begin,
        initargs=(source, asked.form, asked.sampling_rate, asked.seconds),
    )
    try:
        _fill(source, flat, pool, asked.workers, progress)
        _check_sample(source, flat, pool, progress)
    except BrokenProcessPool:
        raise InputError(
            "a process that decodes was ended from outside, or by a lack of memory",
            source=asked.folder,
            field="--workers",
            value=asked.workers,
            remedy="Give the same command again, perhaps with fewer; it resumes from here.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    checksum = flat.verify(
        lambda share: progress(_DECODING + _CHECKING * share, "reading it again")
    )
    progress(_DECODING + _CHECKING, "writing the index")
    return finish(asked.folder, asked.form, source, flat, _identity(asked, source), checksum)


def _fill(
    source: Dataset, flat: FlatFile, pool: ProcessPoolExecutor, workers: int, progress: Progress
) -> None:
    """Writes the parts that the file lacks, in their order."""
    clips, done = len(source.ids), len(flat.entries)
    lost = sum(len(entry.lost) for entry in flat.entries)
    starts = iter(range(done * _PART, clips, _PART))
    waiting: deque[Future[tuple[bytes, Entry]]] = deque()
    for start in starts:
        waiting.append(pool.submit(make_part, range(start, min(start + _PART, clips))))
        if len(waiting) <= _AHEAD * workers:
            continue
        lost += _write_next(waiting, flat, source, lost)
        _tell(flat, clips, progress)
    while waiting:
        lost += _write_next(waiting, flat, source, lost)
        _tell(flat, clips, progress)


def _write_next(
    waiting: deque[Future[tuple[bytes, Entry]]], flat: FlatFile, source: Dataset, lost: int
) -> int:
    """Writes the oldest part; how many of its clips broke."""
    data, entry = waiting.popleft().result()
    if lost + len(entry.lost) > _MOST_LOST * len(source.ids):
        names = [source.ids[number] for number, _ in _lost(flat)]
        start = len(flat.entries) * _PART
        names += [source.ids[start + place] for place in entry.lost]
        reason = next(iter(entry.lost.values()))
        raise InputError(
            f"more than {100 * _MOST_LOST:g} % of the clips break in decoding",
            source=flat.path.parent,
            field="clips",
            value=", ".join(names[-5:]),
            remedy=f"The last: {reason}. `passt-bench data check {source.fingerprint.dataset}=DIR "
            "--decode` names all.",
        )
    flat.append(data, entry)
    return len(entry.lost)


def _lost(flat: FlatFile) -> Iterator[tuple[int, str]]:
    """Numbers of the clips that broke, and why."""
    for number, entry in enumerate(flat.entries):
        for place, reason in entry.lost.items():
            yield number * _PART + place, reason


def _tell(flat: FlatFile, clips: int, progress: Progress) -> None:
    done = min(len(flat.entries) * _PART, clips)
    progress(_DECODING * done / clips, f"{done} of {clips} clips")


def _check_sample(
    source: Dataset, flat: FlatFile, pool: ProcessPoolExecutor, progress: Progress
) -> None:
    """Decodes some clips anew: the same bytes must come."""
    sizes = flat.sizes()
    starts = np.cumsum(sizes) - sizes
    numbers = random.Random(0).sample(range(len(sizes)), min(_SAMPLE, len(sizes)))
    parts = [pool.submit(make_part, range(number, number + 1)) for number in sorted(numbers)]
    progress(_DECODING, "decoding a sample anew")
    for number, part in zip(sorted(numbers), parts, strict=True):
        data, _ = part.result()
        if data != flat.read(int(starts[number]), int(sizes[number])):
            raise InputError(
                "a clip does not decode as it did before",
                source=flat.path.parent,
                field="clip",
                value=source.ids[number],
                remedy="The data changed meanwhile: remove the folder, and prepare them anew.",
            )


@dataclass(frozen=True)
class _Work:
    """What a process does with each clip."""

    source: Dataset
    form: Form
    sampling_rate: int
    most: int | None  # samples that are kept of a clip


_work: _Work | None = None  # of this process, which decodes


def begin(source: Dataset, form: Form, sampling_rate: int, seconds: float | None) -> None:
    """The beginning of a process that decodes."""
    global _work
    follow_parent()
    torch.set_num_threads(1)
    most = None if seconds is None else round(seconds * sampling_rate)
    _work = _Work(source, form, sampling_rate, most)


def make_part(numbers: range) -> tuple[bytes, Entry]:
    """The bytes of some clips, one after the other, and what is to be said of them."""
    assert _work is not None
    found, sizes = [], []
    clipped: dict[int, int] = {}
    lost: dict[int, str] = {}
    cut = samples = 0
    for place, number in enumerate(numbers):
        data = b""
        try:
            wave = _work.source.whole(number)
        except FileChanged:
            raise
        except InputError as error:
            lost[place] = error.problem
        else:
            most = _work.most
            cut += most is not None and len(wave) > most
            stored, beyond = scaled(wave[:most])
            samples += len(stored)
            if beyond:
                clipped[place] = beyond
            as_int16 = _work.form == "int16"
            data = stored.tobytes() if as_int16 else encode_mp3(stored, _work.sampling_rate)
        found.append(data)
        sizes.append(len(data))
    return b"".join(found), Entry(sizes, clipped, lost, cut, samples)
