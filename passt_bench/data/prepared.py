"""Clips that were decoded and resampled once: a memory-mapped file of 16-bit samples.

A folder of `passt-bench data prepare`::

    prepared.json    `Index`; written last, so that a folder without it is none
    waveforms.i16    the samples of all clips, one after the other, little-endian
    clips.npz        offsets, names, sources, splits and targets, a row a clip

In the HDF5 form, ``*.hdf`` files in the published layout stand in place of the last two.
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
from passt_bench.data.clip_table import Lost, Names, Survey
from passt_bench.data.dataset import Dataset, SurveyedDataset
from passt_bench.data.fingerprint import digest_of, lacking_classes, piece_of, some, spread_over
from passt_bench.data.hdf5 import SPLITS as KEYS
from passt_bench.data.hdf5 import open_hdf5
from passt_bench.data.prepared_files import INDEX, WAVEFORMS, Index, broken, read_clips, read_index
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec

SCALE = 32768  # a sample of 16 bits over it lies within ±1


@dataclass(frozen=True, eq=False)
class PreparedDataset(SurveyedDataset):
    """Clips of any length in a memory-mapped file."""

    path: Path  # the samples
    offsets: np.ndarray  # (N + 1,) int64, where each clip begins

    def length(self, index: int) -> int:
        """Samples of the whole clip."""
        return int(self.offsets[index + 1] - self.offsets[index])

    def waveform(self, index: int) -> np.ndarray:
        """Read from the map, cut or padded to the spec's length."""
        return self.excerpt(index, 0)

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, from another sample on; nothing else is read."""
        samples = round(self.spec.seconds * self.sampling_rate)
        first = self.offsets[index] + start
        stored = _mapped(self.path)[first : min(first + samples, self.offsets[index + 1])]
        if len(stored) == samples:
            return _unscaled(stored)
        wave = np.zeros(samples, dtype=np.float32)
        wave[: len(stored)] = _unscaled(stored)
        return wave

    def sound(self, index: int) -> Encoded:
        """The clip as the bytes of a WAV file."""
        first, last = self.offsets[index : index + 2]
        file = io.BytesIO()
        stored = _mapped(self.path)[first:last]
        soundfile.write(file, stored, self.sampling_rate, format="WAV", subtype="PCM_16")
        return Encoded(file.getvalue(), f"{self.path} clip {index} ({self.ids[index]})")

    def whole(self, index: int) -> np.ndarray:
        """All samples of a clip."""
        return _unscaled(_mapped(self.path)[self.offsets[index] : self.offsets[index + 1]])


@lru_cache(maxsize=16)
def _mapped(path: Path) -> np.ndarray:
    """Not kept in the data set: pickled, a map becomes a copy of the file."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype="<i2")
    return np.memmap(path, dtype="<i2", mode="r")


def _unscaled(stored: np.ndarray) -> np.ndarray:
    wave: np.ndarray = np.multiply(stored, np.float32(1 / SCALE), dtype=np.float32)
    return wave


def scaled(wave: np.ndarray) -> tuple[np.ndarray, int]:
    """Samples in 16 bits, and how many lay beyond ±1."""
    beyond = int((np.abs(wave) > 1).sum())
    return np.rint(wave * SCALE).clip(-SCALE, SCALE - 1).astype("<i2"), beyond


def find_prepared(root: Path, sampling_rate: int) -> Path | None:
    """The prepared folder that ``root`` is, or that it holds for a sampling rate; or None."""
    for folder in (root, default_folder(root, sampling_rate)):
        if (folder / INDEX).is_file():
            return folder
    return None


def default_folder(root: Path, sampling_rate: int) -> Path:
    """Where clips of a data set are prepared unless another place is given."""
    return root / f"prepared-{sampling_rate}"


def open_prepared(spec: DataSpec, sampling_rate: int, folder: Path) -> Dataset:
    """Opens a prepared folder.

    Args:
        spec: name, clip length; numbers of clips of each split.
        sampling_rate: Hz, which must be that of the folder.
        folder: with an index.

    Raises:
        InputError: another data set, another rate, clips that were cut shorter than the spec wants,
            or files that are not whole.
    """
    index = read_index(folder)
    _check_fits(index, spec, sampling_rate, folder)
    if index.form == "hdf5":
        return _open_hdf5(spec, sampling_rate, folder, index)
    columns = read_clips(folder, index)
    offsets, names = columns["offsets"], Names(columns["names"])
    targets: Targets = columns["targets"]
    if not index.masked:
        targets = PackedTargets(columns["targets"], len(index.source.classes))
    survey = Survey(
        root=folder,
        splits=index.splits,
        expected=index.expected,
        names=names,
        split=columns["split"],
        sources=Names(columns["sources"]),
        seconds=(np.diff(offsets) / sampling_rate).astype(np.float32),
        rates=np.full(index.clips, sampling_rate, dtype=np.int32),
        channels=np.ones(index.clips, dtype=np.int16),
        lost=_lost(index),
        prepared=True,
    )
    lacking = lacking_classes(targets, survey.split, survey.splits, index.source.classes)
    # The digest begins with what the clips were made from, and how.
    gone = [name for name, _, _ in index.lost]
    length = index.seconds if index.cut else None
    made = (index.form, index.sampling_rate, index.resampler, length, index.source.digest, gone)
    digest = digest_of(made, _digested(index, columns, folder / WAVEFORMS))
    dataset = PreparedDataset(
        fingerprint=_fingerprint(index, digest, lacking),
        ids=names,
        targets=targets,
        sources=survey.sources,
        folds=_folds(index),
        spec=spec,
        sampling_rate=sampling_rate,
        path=folder / WAVEFORMS,
        offsets=offsets,
        found=survey,
    )
    for fold in dataset.folds or (None,):
        dataset.split(fold)  # refuses too few clips now rather than in the midst of a study
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
    found = dataset.fingerprint
    # Its own digest covers a piece of some rows, that of the source one of every file.
    both = digest_of((found.digest, source.digest), ())
    told = _fingerprint(index, both, found.notes)
    return replace(
        dataset,
        fingerprint=replace(told, found=found.found),
        folds=_folds(index),
        found=_survey(index, dataset.found),
    )


def _lost(index: Index) -> Lost:
    """The clips that broke in decoding."""
    names, splits, reasons = zip(*index.lost, strict=True) if index.lost else ((), (), ())
    return Lost(list(names), np.array(splits, dtype=np.int8), list(reasons))


def _survey(index: Index, found: Survey) -> Survey:
    """What HDF5 files that were prepared hold, and what was lost when they were.

    Args:
        index: of the folder; its splits may have no file, for want of clips.
        found: what the files themselves tell.
    """
    codes = np.array([index.splits.index(name) for name in found.splits], dtype=np.int8)
    own, before = found.lost, _lost(index)
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


def _digested(
    index: Index, columns: Mapping[str, np.ndarray], samples: Path
) -> Iterator[str | np.ndarray]:
    """What the digest covers of a folder: the columns of its clips, and pieces of their samples.

    What was changed since they were prepared is other data as far as the digest sees: samples
    between the pieces are compared by ``data check --decode`` alone.

    Args:
        index: of the folder.
        columns: that stand beside the samples.
        samples: the file of all of them.

    Raises:
        InputError: the samples cannot be read.
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


def _fingerprint(index: Index, digest: str, own: Sequence[str] = ()) -> Fingerprint:
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
            remedy=f"Give the folder that they were made from, or prepare them: {again}",
        )
    if index.cut and index.seconds is not None and spec.seconds > index.seconds:
        raise InputError(
            f"{index.cut} of the prepared clips were cut at {index.seconds:g} s",
            source=folder,
            field="data.seconds",
            value=spec.seconds,
            remedy=f"Prepare them longer: {again} --seconds {spec.seconds:g}",
        )
