"""Opens clips that were decoded and resampled once by `passt-bench data prepare`.

The folder holds::

    prepared.json    `Index`; written last, so that a folder without it is not prepared
    waveforms.i16    the samples of all clips, one after the other, 16 bits, little-endian
    clips.npz        offsets, names, sources, splits and targets, a row per clip

In the HDF5 form, ``*.hdf`` files in the published layout replace the last two.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from passt_bench.data.audio import Encoded
from passt_bench.data.clip_table import ClipTable, Names, SkippedClips
from passt_bench.data.dataset import Dataset, StoredDataset, stamps_of
from passt_bench.data.fingerprint import digest_of, lacking_classes, piece_of, some, spread_over
from passt_bench.data.hdf5 import SPLITS as KEYS
from passt_bench.data.hdf5 import open_hdf5
from passt_bench.data.prepared_files import INDEX, WAVEFORMS, Index, broken, read_clips, read_index
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec

SCALE = 32768  # 16-bit samples divided by it are within ±1


@dataclass(frozen=True, eq=False)
class PreparedDataset(StoredDataset):
    """Clips of any length in a memory-mapped file."""

    path: Path  # the samples
    offsets: np.ndarray  # (N + 1,) int64, where each clip begins

    def length(self, index: int) -> int:
        """Samples of the whole clip."""
        return int(self.offsets[index + 1] - self.offsets[index])

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, but beginning at sample ``start``; nothing else is read."""
        stored = self._stored(index)[start : start + self.samples]
        if len(stored) == self.samples:
            return _unscaled(stored)
        wave = np.zeros(self.samples, dtype=np.float32)
        wave[: len(stored)] = _unscaled(stored)
        return wave

    def sound(self, index: int) -> Encoded:
        """The clip as the bytes of a WAV file."""
        file = io.BytesIO()
        stored = self._stored(index)
        soundfile.write(file, stored, self.sampling_rate, format="WAV", subtype="PCM_16")
        return Encoded(file.getvalue(), f"{self.path} clip {index} ({self.ids[index]})")

    def whole(self, index: int) -> np.ndarray:
        """Mono float32 samples of the whole clip."""
        return _unscaled(self._stored(index))

    def _stored(self, index: int) -> np.ndarray:
        self.check_unchanged(self.path, 0)
        return _mapped(self.path)[self.offsets[index] : self.offsets[index + 1]]


@lru_cache(maxsize=16)
def _mapped(path: Path) -> np.ndarray:
    """The mapped samples; not an attribute, because pickling would copy the file."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype="<i2")
    return np.memmap(path, dtype="<i2", mode="r")


def _unscaled(stored: np.ndarray) -> np.ndarray:
    wave: np.ndarray = np.multiply(stored, np.float32(1 / SCALE), dtype=np.float32)
    return wave


def scaled(wave: np.ndarray) -> tuple[np.ndarray, int]:
    """Samples in 16 bits, and how many were beyond ±1."""
    beyond = int((np.abs(wave) > 1).sum())
    return np.rint(wave * SCALE).clip(-SCALE, SCALE - 1).astype("<i2"), beyond


def find_prepared(root: Path, sampling_rate: int) -> Path | None:
    """``root`` if it is a prepared folder, else the one in it for the rate; None if neither."""
    for folder in (root, default_folder(root, sampling_rate)):
        if (folder / INDEX).is_file():
            return folder
    return None


def default_folder(root: Path, sampling_rate: int) -> Path:
    """Where clips of a data set are prepared by default."""
    return root / f"prepared-{sampling_rate}"


def open_prepared(spec: DataSpec, sampling_rate: int, folder: Path) -> Dataset:
    """Opens a prepared folder.

    Args:
        spec: name, clip length; numbers of clips of each split.
        sampling_rate: Hz, which must be that of the folder.
        folder: with an index.

    Raises:
        InputError: another data set, another rate, clips that were cut shorter than in the spec,
            or incomplete files.
    """
    index = read_index(folder)
    _check_fits(index, spec, sampling_rate, folder)
    if index.form == "hdf5":
        return _open_hdf5(spec, sampling_rate, folder, index)
    stamps = stamps_of([folder / WAVEFORMS])
    columns = read_clips(folder, index)
    offsets, names = columns["offsets"], Names(columns["names"])
    targets: Targets = columns["targets"]
    if not index.masked:
        targets = PackedTargets(columns["targets"], len(index.source.classes))
    table = ClipTable(
        root=folder,
        splits=index.splits,
        expected=index.expected,
        names=names,
        split=columns["split"],
        sources=Names(columns["sources"]),
        seconds=(np.diff(offsets) / sampling_rate).astype(np.float32),
        rates=np.full(index.clips, sampling_rate, dtype=np.int32),
        channels=np.ones(index.clips, dtype=np.int16),
        skipped=_skipped(index),
        prepared=True,
    )
    lacking = lacking_classes(targets, table.split, table.splits, index.source.classes)
    # The digest begins with the source of the clips and how they were made.
    skipped = [name for name, _, _ in index.lost]
    length = index.seconds if index.cut else None
    made = (index.form, index.sampling_rate, index.resampler, length, index.source.digest, skipped)
    digest = digest_of(made, _digested(index, columns, folder / WAVEFORMS))
    dataset = PreparedDataset(
        fingerprint=_fingerprint(index, digest, lacking),
        ids=names,
        targets=targets,
        sources=table.sources,
        folds=_folds(index),
        spec=spec,
        sampling_rate=sampling_rate,
        path=folder / WAVEFORMS,
        offsets=offsets,
        table=table,
        stamps=stamps,
    )
    dataset.check_splits()
    return dataset


def _open_hdf5(spec: DataSpec, sampling_rate: int, folder: Path, index: Index) -> Dataset:
    source = index.source
    folds = sorted(set(index.files) - set(KEYS), key=lambda key: int(key.removeprefix("fold")))
    keys = [key for key in (*KEYS, *folds) if key in index.files]
    dataset = open_hdf5(
        spec,
        sampling_rate,
        name=spec.name,
        files={key: tuple(folder / name for name in index.files[key]) for key in keys},
        classes=source.classes,
        masked=index.masked,
        multi_label=source.multi_label,
        expected=source.expected,
    )
    own, table = dataset.fingerprint, dataset.table
    # The files' digest covers a piece of some rows, that of the source one of every file.
    both = digest_of((own.digest, source.digest), ())
    # A split without clips has no file.
    codes = np.array([index.splits.index(name) for name in table.splits], dtype=np.int8)
    before, empty = _skipped(index), table.skipped
    skipped = SkippedClips(
        [*before.names, *empty.names],
        np.concatenate([before.split, codes[empty.split]]),
        [*before.reasons, *empty.reasons],
    )
    return replace(
        dataset,
        fingerprint=replace(_fingerprint(index, both, own.notes), found=own.found),
        folds=_folds(index),
        table=replace(
            table,
            splits=index.splits,
            expected=index.expected,
            split=codes[table.split],
            skipped=skipped,
            prepared=True,
        ),
    )


def _skipped(index: Index) -> SkippedClips:
    """The clips that could not be decoded when the others were prepared."""
    names, splits, reasons = zip(*index.lost, strict=True) if index.lost else ((), (), ())
    return SkippedClips(list(names), np.array(splits, dtype=np.int8), list(reasons))


def _digested(
    index: Index, columns: Mapping[str, np.ndarray], samples: Path
) -> Iterator[str | np.ndarray]:
    """The parts of the digest: the columns, and a piece of the samples of some clips.

    A change between the pieces is found only by ``data check --decode``.
    """
    for name, column in columns.items():
        yield f"\n{name} {column.dtype.str} {column.shape}\n"
        yield column
    offsets = 2 * columns["offsets"]
    try:
        with samples.open("rb") as file:
            for clip in spread_over(index.clips).tolist():
                piece = piece_of(file, int(offsets[clip]), int(offsets[clip + 1]))
                yield np.array(piece, dtype="<u8")
    except OSError as error:
        raise broken(samples, f"cannot be read ({error.strerror})") from None


def _fingerprint(index: Index, digest: str, own: Sequence[str]) -> Fingerprint:
    """The source's fingerprint with the changes by preparing; ``own`` are notes on the clips."""
    source, skipped = index.source, [name for name, _, _ in index.lost]
    stored = "mp3" if index.form == "hdf5" else "16-bit samples"
    notes = [f"{stored} at {index.sampling_rate} Hz made from the data {source.digest}"]
    if skipped:
        notes.append(
            f"{len(skipped)} clips could not be decoded and were skipped: {some(skipped, skipped)}"
        )
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


def _folds(index: Index) -> tuple[int, ...]:
    return tuple(int(name.split()[1]) for name in index.splits if name.startswith("fold "))


def _check_fits(index: Index, spec: DataSpec, sampling_rate: int, folder: Path) -> None:
    again = f"passt-bench data prepare {spec.name}=DIR --rate {sampling_rate}"
    if index.source.dataset != spec.name:
        raise InputError(
            f"prepared clips of {index.source.dataset}",
            source=folder,
            field="data.name",
            value=spec.name,
            remedy=f"Give {index.source.dataset}={folder.name}, or the folder of {spec.name}.",
        )
    if index.form == "int16" and index.sampling_rate != sampling_rate:
        raise InputError(
            f"the clips are prepared at {index.sampling_rate} Hz",
            source=folder,
            field="frontend.sampling_rate",
            value=sampling_rate,
            remedy=f"Give the folder that they were made from, or prepare it: {again}",
        )
    if index.cut and index.seconds is not None and spec.seconds > index.seconds:
        raise InputError(
            f"{index.cut} of the prepared clips were cut at {index.seconds:g} s",
            source=folder,
            field="data.seconds",
            value=spec.seconds,
            remedy=f"Prepare again with longer clips: {again} --seconds {spec.seconds:g}",
        )
