"""Writes prepared clips: a flat file that grows part by part, then a folder that can be opened.

A journal lists the complete parts of the flat file. A part is written and synced before its line in
the journal, so that after a kill at any moment the complete lines describe what the file holds;
anything beyond is cut off, and the work resumes there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from passt_bench.data import Dataset, layouts
from passt_bench.data.hdf5 import SPLITS as HDF5_KEYS
from passt_bench.data.hdf5_file import masked_target, write_hdf5
from passt_bench.data.prepared_files import (
    CLIPS,
    INDEX,
    SPLITS,
    WAVEFORMS,
    Index,
    write_clips,
    write_index,
)
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.records.files import storing
from passt_bench.spec.codec import adapter

Value = TypeVar("Value")


@dataclass(frozen=True)
class Entry:
    """What the journal says of a part.

    Attributes:
        sizes: bytes of each clip; 0 for one that broke.
        clipped: place in the part → samples beyond ±1.
        lost: place in the part → why it broke.
        cut: clips that were longer than wanted.
        samples: of all clips.
        sha256: of the part's bytes.
    """

    sizes: list[int]
    clipped: dict[int, int] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    cut: int = 0
    samples: int = 0
    sha256: str = ""


class FlatFile:
    """The file and its journal, opened to be continued.

    Args:
        path: of the file; the journal is beside it.
        identity: of the work; what was begun for another is not continued.

    Raises:
        InputError: other work was begun there, or there is a file without a journal.
        StorageError: nothing can be written there.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.journal = path, path.with_suffix(".journal")
        self._identity = identity
        with storing(path):
            lines = self._read_journal(json.dumps(dict(identity), sort_keys=True).encode() + b"\n")
            self.entries = [adapter(Entry).validate_json(line) for line in lines]
            self.count_lost = sum(len(entry.lost) for entry in self.entries)
            self._file = self._open_at(sum(sum(entry.sizes) for entry in self.entries))
            self._lines = self.journal.open("ab")

    def __enter__(self) -> FlatFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._lines.close()

    def _read_journal(self, head: bytes) -> list[bytes]:
        """The complete lines after the first; one that a kill left incomplete is cut off."""
        if self.path.exists() and not self.journal.exists():
            raise _foreign(self.path, "the file was not begun by this command")
        with self.journal.open("a+b") as file:
            file.seek(0)
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            if whole and not whole.startswith(head):
                begun = whole.splitlines()[0].decode()
                raise _foreign(
                    self.journal, "the preparation of other clips was begun there", begun
                )
            file.truncate(len(whole))
            if not whole:
                _sync(file, head)
        return whole.splitlines()[1:]

    def _open_at(self, end: int) -> BinaryIO:
        file = self.path.open("r+b" if self.path.exists() else "w+b")
        if file.seek(0, 2) < end:
            file.close()
            raise _foreign(self.path, "shorter than its journal says")
        file.truncate(end)
        file.seek(end)
        return file

    def append(self, data: bytes, entry: Entry) -> None:
        """Adds a part; it is on the disk when this returns.

        Raises:
            StorageError: the disk is full.
        """
        entry = replace(entry, sha256=hashlib.sha256(data).hexdigest())
        with storing(self.path):
            _sync(self._file, data)
            _sync(self._lines, adapter(Entry).dump_json(entry) + b"\n")
        self.entries.append(entry)
        self.count_lost += len(entry.lost)

    def verify(self, progress: Callable[[float], None]) -> str:
        """Reads all of it again; SHA-256 of the whole.

        Raises:
            InputError: a part is not what was written.
        """
        whole = hashlib.sha256()
        self._file.seek(0)
        for number, entry in enumerate(self.entries):
            data = self._file.read(sum(entry.sizes))
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise _foreign(self.path, f"part {number} differs from what was written")
            whole.update(data)
            progress((number + 1) / len(self.entries))
        return whole.hexdigest()

    def sizes(self) -> np.ndarray:
        """(clips,) int64, bytes of each clip."""
        return np.array([size for entry in self.entries for size in entry.sizes], dtype=np.int64)

    def lost(self) -> dict[int, str]:
        """Number of a clip that broke → why."""
        return self._by_clip(entry.lost for entry in self.entries)

    def clipped(self) -> dict[int, int]:
        """Number of a clip → its samples beyond ±1."""
        return self._by_clip(entry.clipped for entry in self.entries)

    def _by_clip(self, parts: Iterable[Mapping[int, Value]]) -> dict[int, Value]:
        size = self._identity["part"]
        return {
            number * size + place: value
            for number, part in enumerate(parts)
            for place, value in part.items()
        }

    def read(self, start: int, size: int) -> bytes:
        """Bytes from somewhere in the file."""
        self._file.seek(start)
        return self._file.read(size)


def _sync(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _foreign(path: Path, problem: str, found: str | None = None) -> InputError:
    return InputError(
        problem,
        source=path,
        field="--folder" if found else None,
        value=found,
        remedy="Give another folder with --folder, or remove what is there.",
    )


def finish(
    folder: Path,
    form: str,
    source: Dataset,
    flat: FlatFile,
    identity: Mapping[str, Any],
    checksum: str,
) -> Index:
    """Writes the files beside the samples, the index last; removes what is no longer needed.

    Args:
        folder: of the result.
        form: ``int16`` or ``hdf5``.
        source: what was decoded.
        flat: the bytes of all clips.
        identity: what was asked for.
        checksum: of the bytes.
    """
    sizes, lost, clipped = flat.sizes(), flat.lost(), flat.clipped()
    splits, split = _split_codes(source)
    kept = np.setdiff1d(np.arange(len(source.ids)), list(lost))
    targets, masked = _stored_targets(source.targets, kept)
    files: dict[str, tuple[str, ...]] = {}
    if form == "hdf5":
        files = _write_hdf5(folder, source, flat, sizes, (kept, splits, split, targets, masked))
    else:
        write_clips(
            folder,
            np.concatenate([[0], np.cumsum(sizes[kept] // 2)]),
            [source.ids[clip] for clip in kept],
            [source.sources[clip] for clip in kept],
            split[kept],
            targets,
        )
    index = Index(
        form="hdf5" if form == "hdf5" else "int16",
        source=source.fingerprint,
        sampling_rate=identity["rate"],
        resampler=identity["resampler"],
        seconds=identity["seconds"],
        cut=sum(entry.cut for entry in flat.entries),
        clips=len(kept),
        samples=sum(entry.samples for entry in flat.entries),
        splits=splits,
        expected=_expected(source, splits, split),
        clipped=sum(clipped.values()),
        clipped_clips=tuple(source.ids[clip] for clip in clipped),
        lost=tuple((source.ids[clip], int(split[clip]), lost[clip]) for clip in sorted(lost)),
        checksum=checksum,
        masked=masked,
        files=files,
    )
    remove_leftovers(folder, index)
    write_index(folder, index)
    remove_leftovers(folder, index, done=True)
    return index


def remove_leftovers(folder: Path, index: Index, *, done: bool = False) -> None:
    """Removes what killed preparations left; with the index written, the journal as well."""
    names = [f".{INDEX}.*", f".{CLIPS}.*"]
    if done:
        names.append(f"{Path(WAVEFORMS).stem}.journal")
        if index.form == "hdf5":
            names.append(WAVEFORMS)
    for name in names:
        for path in folder.glob(name):
            path.unlink(missing_ok=True)


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
    return SPLITS if validation is not None else SPLITS[:2], code


def _expected(source: Dataset, splits: tuple[str, ...], split: np.ndarray) -> tuple[int, ...]:
    """Clips that each split should have: as the source says, or as it has."""
    table = source.clip_table()
    if table is not None and set(splits) <= set(table.splits):
        return tuple(table.expected[table.splits.index(name)] for name in splits)
    return tuple(np.bincount(split[split >= 0], minlength=len(splits)).tolist())


def _stored_targets(targets: Targets, kept: np.ndarray) -> tuple[np.ndarray, bool]:
    """Packed bits; or, where some labels are unknown, float32 with NaN."""
    if isinstance(targets, PackedTargets):
        return targets.packed[kept], False
    if np.isnan(targets).any():
        return targets[kept].astype(np.float32), True
    return np.packbits(targets[kept] > 0.5, axis=-1), False


def _write_hdf5(
    folder: Path,
    source: Dataset,
    flat: FlatFile,
    sizes: np.ndarray,
    clips: tuple[np.ndarray, tuple[str, ...], np.ndarray, np.ndarray, bool],
) -> dict[str, tuple[str, ...]]:
    """A file for each split that has clips; split as `open_hdf5` calls it → its file's name."""
    kept, splits, split, targets, masked = clips
    starts = np.cumsum(sizes) - sizes
    keys = {name: key for key, name in HDF5_KEYS.items()}
    dataset = source.fingerprint.dataset
    layout = layouts().get(dataset)
    published = layout.hdf5_files if layout else {}
    files: dict[str, tuple[str, ...]] = {}
    for code, name in enumerate(splits):
        rows = np.flatnonzero(split[kept] == code)
        if not len(rows):  # a manifest may have test clips alone
            continue
        key = keys.get(name, name.replace(" ", ""))
        default = f"{dataset}_{name.replace(' ', '')}_mp3.hdf"
        file = published.get(key, (default,))[-1]
        inside = kept[rows]
        write_hdf5(
            folder / file,
            [f"{source.ids[clip].removesuffix('.mp3')}.mp3" for clip in inside],
            [source.sources[clip] for clip in inside],
            (flat.read(int(starts[clip]), int(sizes[clip])) for clip in inside),
            masked_target(targets[rows]) if masked else targets[rows],
        )
        files[key] = (file,)
    return files
