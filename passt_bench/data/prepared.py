"""Opens clips that were decoded and resampled once by `passt-bench data prepare`.

The folder holds::

    prepared.json             `Index`; written last: a folder without it is not prepared
    waveforms-000000.i16, …   the samples of all clips, one after the other, 16 bits, little-endian;
                              a thousand clips in a file
    clips.npz                 offsets, names, sources, splits and targets, a row per clip
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import soundfile

from passt_bench.data.clip_table import ClipTable, skipped_clips
from passt_bench.data.dataset import SCALE, Dataset, StoredDataset, stamps_of
from passt_bench.data.fingerprint import class_notes, digest_of, evenly_spaced, first_few, piece_of
from passt_bench.data.opening import Encoded
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.records.files import check_zip, read, write_atomically
from passt_bench.records.run import Fingerprint
from passt_bench.spec.codec import to_plain, written_as
from passt_bench.spec.recipe import DataSpec

INDEX, CLIPS = "prepared.json", "clips.npz"
_COLUMNS = ("offsets", "names", "sources", "split", "targets")


@dataclass(frozen=True)
class Index:
    """The contents of a prepared folder."""

    source: Fingerprint  # of the data that it was made from
    sampling_rate: int  # Hz of the stored clips
    resampler: str  # for files of another rate
    seconds: float | None  # length that longer clips were cut to
    cut: int  # number of clips that were cut
    clips: int
    samples: int
    splits: tuple[str, ...]  # names by code: train, test, validation; or fold 1, …
    expected: tuple[int, ...]  # clips of each split before any was skipped
    clipped: int  # samples beyond ±1, which are stored as ±1
    clipped_clips: tuple[str, ...]  # names of the clips with such samples
    skipped: Annotated[tuple[tuple[str, int, str], ...], written_as("lost")]  # name, split, why
    checksum: str  # SHA-256 of the stored samples
    masked: bool = False  # whether some labels are unknown
    form: Literal["int16"] = "int16"
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)  # always empty
    schema: int = 1


@dataclass(frozen=True, eq=False)
class PreparedDataset(StoredDataset):
    """Clips of any length in memory-mapped files."""

    paths: tuple[Path, ...]  # the samples
    starts: np.ndarray  # (files,) int64, the first sample of each
    offsets: np.ndarray  # (N + 1,) int64, where each clip begins

    def length(self, index: int) -> int:
        """Samples of the whole clip."""
        return int(self.offsets[index + 1] - self.offsets[index])

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, but beginning at sample ``start``; nothing else is read."""
        return _unscaled(self._padded(index, start))

    def stored_waveform(self, index: int) -> np.ndarray:
        """Int16 samples of the clip's start, of the spec's length."""
        return self._padded(index, 0)

    def _padded(self, index: int, start: int) -> np.ndarray:
        stored = self._stored(index)[start : start + self.samples]
        missing = self.samples - len(stored)
        return np.pad(stored, (0, missing)) if missing else stored

    def sound(self, index: int) -> Encoded:
        """The clip as the bytes of a WAV file."""
        file = io.BytesIO()
        stored = self._stored(index)
        soundfile.write(file, stored, self.sampling_rate, format="WAV", subtype="PCM_16")
        folder = self.paths[0].parent
        return Encoded(file.getvalue(), f"{folder} clip {index} ({self.ids[index]})")

    def whole(self, index: int) -> np.ndarray:
        """Mono float32 samples of the whole clip."""
        return _unscaled(self._stored(index))

    def _stored(self, index: int) -> np.ndarray:
        begin, end = self.offsets[index : index + 2]
        file = int(self.starts.searchsorted(begin, "right")) - 1
        self.check_unchanged(self.paths[file], file)
        return _mapped(self.paths[file])[begin - self.starts[file] : end - self.starts[file]]


@lru_cache(maxsize=256)  # each is an open file
def _mapped(path: Path) -> np.ndarray:
    """The map of a file of samples; not an attribute, because pickling would copy the file."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype="<i2")
    return np.memmap(path, dtype="<i2", mode="r")


def _unscaled(stored: np.ndarray) -> np.ndarray:
    return np.asarray(np.multiply(stored, np.float32(1 / SCALE), dtype=np.float32))


def shard_name(number: int) -> str:
    """The file of a shard's samples."""
    return f"waveforms-{number:06}.i16"


def _shards(folder: Path) -> tuple[tuple[Path, ...], np.ndarray]:
    """The files of samples in order, and the first sample of each and the number of all."""
    paths = tuple(sorted(folder.glob("waveforms-*.i16")))
    sizes = [path.stat().st_size // 2 for path in paths]
    return paths, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def open_prepared(spec: DataSpec, sampling_rate: int, folder: Path) -> Dataset:
    """Opens a prepared folder."""
    index = read_index(folder)
    _check_fits(index, spec, sampling_rate, folder)
    paths, starts = _shards(folder)
    stamps = stamps_of(paths)
    columns = read_clips(folder, index)
    offsets = columns["offsets"]
    names, sources = ([t.decode() for t in columns[of].tolist()] for of in ("names", "sources"))
    targets: Targets = columns["targets"]
    if not index.masked:
        targets = PackedTargets(columns["targets"], len(index.source.classes))
    table = ClipTable(
        root=folder,
        splits=index.splits,
        expected=index.expected,
        names=names,
        sources=sources,
        clips=pd.DataFrame(
            {
                "split": columns["split"],
                "seconds": (np.diff(offsets) / sampling_rate).astype(np.float32),
                "rate": np.int32(sampling_rate),
                "channels": np.int16(1),
            }
        ),
        skipped=skipped_clips(index.skipped),
    )
    absent = class_notes(targets, table.split, table.splits, index.source.classes)
    # The digest begins with the source of the clips and how they were made.
    skipped = [name for name, _, _ in index.skipped]
    length = index.seconds if index.cut else None
    made = (index.form, index.sampling_rate, index.resampler, length, index.source.digest, skipped)
    digest = digest_of(made, _digested(index, columns, paths, starts))
    dataset = PreparedDataset(
        fingerprint=_fingerprint(index, digest, absent),
        ids=names,
        targets=targets,
        sources=table.sources,
        folds=tuple(int(n.split()[1]) for n in index.splits if n.startswith("fold ")),
        spec=spec,
        sampling_rate=sampling_rate,
        paths=paths,
        starts=starts[:-1],
        offsets=offsets,
        table=table,
        stamps=stamps,
    )
    dataset.check_splits()
    return dataset


def _digested(
    index: Index, columns: Mapping[str, np.ndarray], paths: Sequence[Path], starts: np.ndarray
) -> Iterator[str | np.ndarray]:
    """The parts of the digest: the columns, and a piece of the samples of some clips.

    A change between the pieces is found only by ``data check --decode``.
    """
    for name, column in columns.items():
        yield f"\n{name} {column.dtype.str} {column.shape}\n"
        yield column
    chosen = evenly_spaced(index.clips)
    offsets = columns["offsets"]
    files = starts[:-1].searchsorted(offsets[chosen], "right") - 1
    for clip, number in zip(chosen.tolist(), files.tolist(), strict=True):
        begin, end = (2 * (offsets[clip : clip + 2] - starts[number])).tolist()
        try:
            with paths[number].open("rb") as file:
                yield np.array(piece_of(file, begin, end), dtype="<u8")
        except OSError as error:
            raise broken(paths[number], f"cannot be read ({error.strerror})") from None


def _fingerprint(index: Index, digest: str, own: Sequence[str]) -> Fingerprint:
    """The source's fingerprint with the changes by preparing; ``own`` are notes on the clips."""
    source, skipped = index.source, [name for name, _, _ in index.skipped]
    notes = [f"16-bit samples at {index.sampling_rate} Hz made from the data {source.digest}"]
    if skipped:
        notes.append(
            f"{len(skipped)} clips could not be decoded and were skipped: {first_few(skipped)}"
        )
    if index.clipped:
        clips = index.clipped_clips
        notes.append(
            f"{index.clipped} samples of {len(clips)} clips beyond ±1 were clipped: "
            f"{first_few(clips)}"
        )
    return replace(
        source,
        digest=digest,
        found=index.clips,
        sampling_rates={str(index.sampling_rate): index.clips},
        notes=(*notes, *source.notes, *(note for note in own if note not in source.notes)),
    )


def _check_fits(index: Index, spec: DataSpec, sampling_rate: int, folder: Path) -> None:
    made, again = index.source.dataset, f"passt-bench data prepare {spec.name}=DIR --rate"
    longest = math.inf if index.seconds is None or not index.cut else index.seconds
    for name, found, fits, remedy in (
        ("data.name", spec.name, made == spec.name, f"Give {made}={folder}."),
        (
            "frontend.sampling_rate",
            sampling_rate,
            index.sampling_rate == sampling_rate,
            f"Give the folder that they were made from, or prepare it: {again} {sampling_rate}",
        ),
        (
            "data.seconds",
            spec.seconds,
            spec.seconds <= longest,
            f"Prepare longer clips: {again} {sampling_rate} --seconds {spec.seconds:g}",
        ),
    ):
        if not fits:
            problem = f"the clips are those of {made}, prepared at {index.sampling_rate} Hz"
            problem += f", and {index.cut} were cut at {index.seconds:g} s" if index.cut else ""
            raise InputError(problem, source=folder, field=name, value=found, remedy=remedy)


def write_clips(folder: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes the columns of `read_clips`; the same columns give the same bytes."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **{name: columns[name] for name in _COLUMNS})
    write_atomically(folder / CLIPS, content.getvalue())


def write_index(folder: Path, index: Index) -> None:
    """Writes the index, which makes a folder a prepared one."""
    text = json.dumps(to_plain(index), sort_keys=True, allow_nan=False, indent=1)
    write_atomically(folder / INDEX, f"{text}\n".encode())


def read_index(folder: Path) -> Index:
    """Reads the index of a prepared folder."""
    return read(Index, folder / INDEX, in_store=False)


def read_clips(folder: Path, index: Index) -> dict[str, np.ndarray]:
    """Offsets (N + 1,) of the samples, and names, sources, split codes and targets of N clips."""
    path = folder / CLIPS
    try:
        check_zip(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in _COLUMNS}
    except (OSError, MemoryError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise broken(path, f"not readable ({getattr(error, 'problem', error)})") from None
    offsets = columns["offsets"]
    rows = [len(columns[name]) for name in _COLUMNS[1:]]
    if rows != [index.clips] * len(rows) or len(offsets) != index.clips + 1:
        raise broken(path, f"{rows[0]} clips, but the index states {index.clips}")
    _, starts = _shards(folder)
    if starts[-1] != index.samples or offsets[-1] != index.samples:
        found, wanted = 2 * int(starts[-1]), 2 * index.samples
        raise broken(folder, f"{found} bytes of samples, but the index states {wanted}")
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or not np.isin(starts, offsets).all():
        raise broken(path, "clips that end before they begin, or in another file")
    return columns


def checksum_of(folder: Path, progress: Callable[[float], None]) -> str:
    """SHA-256 of all samples; ``progress`` is called with the share read."""
    hasher, (paths, _) = hashlib.sha256(), _shards(folder)
    for number, path in enumerate(paths, start=1):
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: hasher)
        except OSError as error:
            raise broken(path, f"cannot be read ({error.strerror})") from None
        progress(number / len(paths))
    return hasher.hexdigest()


def broken(path: Path, problem: str) -> InputError:
    """The error that names a file of a prepared folder, its problem and the remedy."""
    remedy = "Remove the folder, and prepare the data set again."
    return InputError(problem, source=path, remedy=remedy)
