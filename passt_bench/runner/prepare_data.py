"""Decodes and resamples a data set once: into 16-bit samples, or into HDF5 files with mp3 inside.

Other processes decode; this one writes what they send, in the order of the clips, so that the
result does not depend on their number, and a preparation that was killed resumes where it was. At
the end everything is read again, and some of the clips are decoded again. The index is written
last: without it a folder does not count as prepared.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock, Timeout

from passt_bench.console import Progress
from passt_bench.data.audio import RESAMPLER
from passt_bench.data.dataset import MAX_SKIPPED, Dataset, FileChanged
from passt_bench.data.hdf5_file import check_mp3_rate, encode_mp3
from passt_bench.data.prepared import default_folder, scaled
from passt_bench.data.prepared_files import INDEX, WAVEFORMS, Index, read_index
from passt_bench.errors import InputError
from passt_bench.processes import follow_parent
from passt_bench.records.files import storing
from passt_bench.registry import DATASETS
from passt_bench.runner.executor import fork_server
from passt_bench.runner.prepared_form import Entry, FlatFile, finish, remove_leftovers
from passt_bench.spec.recipe import DataSpec

_PART = 32  # clips that a process does at a time, and that a line of the journal is about
_AHEAD = 2  # parts a process that are begun before the first of them is written
_SAMPLE = 48  # clips that are decoded again at the end
_DECODING, _CHECKING = 0.9, 0.07  # shares of the work, for the progress

Form = Literal["int16", "hdf5"]


@dataclass(frozen=True)
class Preparation:
    """A request to prepare a data set.

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
        """The folder of the result."""
        if self.out is not None:
            return self.out
        root = self.root
        if root.is_file():  # a manifest of another name: the folder is beside it
            root = root.with_suffix("")
        if self.form == "hdf5":
            return root / f"hdf5-{self.sampling_rate}"
        return default_folder(root, self.sampling_rate)


def prepare_data(
    asked: Preparation, progress: Progress = lambda share, text: None
) -> tuple[Index, bool]:
    """Prepares a data set, or the rest if some of it is done.

    Args:
        asked: the request.
        progress: called with the share that is done and a few words.

    Returns:
        The index of the folder, and whether everything had been done before.

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
    """The index of the folder if it is complete and as requested; None if there is none."""
    if not (asked.folder / INDEX).is_file():
        return None
    index = read_index(asked.folder)
    there = (index.form, index.sampling_rate, index.seconds, index.source.digest)
    wanted = (asked.form, asked.sampling_rate, asked.seconds, source.fingerprint.digest)
    if there != wanted:
        raise InputError(
            f"holds other prepared clips: {there} instead of {wanted}",
            source=asked.folder,
            field="--folder",
            remedy="Give another folder with --folder, or remove this one.",
        )
    remove_leftovers(asked.folder, index, done=True)
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
            "a decoding process was killed, perhaps by a lack of memory",
            source=asked.folder,
            field="--workers",
            value=asked.workers,
            remedy="Run the same command again, perhaps with fewer; it resumes from here.",
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
    clips = len(source.ids)
    starts = iter(range(len(flat.entries) * _PART, clips, _PART))
    waiting: deque[Future[tuple[bytes, Entry]]] = deque()
    while True:
        for start in islice(starts, 1 + _AHEAD * workers - len(waiting)):
            waiting.append(pool.submit(make_part, range(start, min(start + _PART, clips))))
        if not waiting:
            return
        _write_next(waiting, flat, source)
        done = min(len(flat.entries) * _PART, clips)
        progress(_DECODING * done / clips, f"{done} of {clips} clips")


def _write_next(
    waiting: deque[Future[tuple[bytes, Entry]]], flat: FlatFile, source: Dataset
) -> None:
    """Writes the oldest part."""
    data, entry = waiting.popleft().result()
    if entry.lost and flat.count_lost + len(entry.lost) > MAX_SKIPPED * len(source.ids):
        start = len(flat.entries) * _PART
        lost = flat.lost() | {start + place: reason for place, reason in entry.lost.items()}
        raise InputError(
            f"more than {100 * MAX_SKIPPED:g} % of the clips break in decoding",
            source=flat.path.parent,
            field="clips",
            value=", ".join(source.ids[number] for number in list(lost)[-5:]),
            remedy=f"The last: {list(lost.values())[-1]}. `passt-bench data check "
            f"{source.fingerprint.dataset}=DIR --decode` names all.",
        )
    flat.append(data, entry)


def _check_sample(
    source: Dataset, flat: FlatFile, pool: ProcessPoolExecutor, progress: Progress
) -> None:
    """Decodes some clips again, which must give the same bytes."""
    sizes = flat.sizes()
    starts = np.cumsum(sizes) - sizes
    numbers = random.Random(0).sample(range(len(sizes)), min(_SAMPLE, len(sizes)))
    parts = [pool.submit(make_part, range(number, number + 1)) for number in sorted(numbers)]
    progress(_DECODING, "decoding some clips again")
    for number, part in zip(sorted(numbers), parts, strict=True):
        data, _ = part.result()
        if data != flat.read(int(starts[number]), int(sizes[number])):
            raise InputError(
                "a clip decodes to other samples than before",
                source=flat.path.parent,
                field="clip",
                value=source.ids[number],
                remedy="The data changed meanwhile: remove the folder and prepare them again.",
            )


_decode: Callable[[int], tuple[bytes, int, int, bool]]  # of this process, which decodes


def begin(source: Dataset, form: Form, sampling_rate: int, seconds: float | None) -> None:
    """The beginning of a process that decodes."""
    global _decode
    follow_parent()
    torch.set_num_threads(1)
    most = None if seconds is None else round(seconds * sampling_rate)

    def decode(number: int) -> tuple[bytes, int, int, bool]:
        """Bytes of a clip, its samples, how many of them were beyond ±1, whether it was cut."""
        wave = source.whole(number)
        stored, beyond = scaled(wave[:most])
        data = stored.tobytes() if form == "int16" else encode_mp3(stored, sampling_rate)
        return data, len(stored), beyond, len(wave) > len(stored)

    _decode = decode


def make_part(numbers: range) -> tuple[bytes, Entry]:
    """The bytes of some clips, one after the other, and their line of the journal."""
    found: list[bytes] = []
    clipped: dict[int, int] = {}
    lost: dict[int, str] = {}
    cut = samples = 0
    for place, number in enumerate(numbers):
        try:
            data, length, beyond, shortened = _decode(number)
        except FileChanged:
            raise
        except InputError as error:
            lost[place] = error.problem
            found.append(b"")
            continue
        found.append(data)
        cut, samples = cut + shortened, samples + length
        if beyond:
            clipped[place] = beyond
    return b"".join(found), Entry(list(map(len, found)), clipped, lost, cut, samples)
