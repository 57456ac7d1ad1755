"""The last step of a preparation: from the flat file to a folder that can be opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from passt_bench.data.dataset import Dataset
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
from passt_bench.runner.flat_file import FlatFile

# Data set → split → name of its published file; all others are called after data set and split.
_PUBLISHED = {
    "audioset": {
        "train": "unbalanced_train_segments_mp3.hdf",
        "test": "eval_segments_mp3.hdf",
    },
    "fsd50k": {
        "train": "FSD50K.train_mp3.hdf",
        "validation": "FSD50K.val_mp3.hdf",
        "test": "FSD50K.eval_mp3.hdf",
    },
    "openmic": {"train": "openmic_train.csv_mp3.hdf", "test": "openmic_test.csv_mp3.hdf"},
}


def finish(
    folder: Path,
    form: str,
    source: Dataset,
    flat: FlatFile,
    identity: Mapping[str, Any],
    checksum: str,
) -> Index:
    """Writes what stands beside the samples, the index last; removes what is no longer needed.

    Args:
        folder: of the result.
        form: ``int16`` or ``hdf5``.
        source: what was decoded.
        flat: the bytes of all clips.
        identity: what was asked for.
        checksum: of the bytes.
    """
    sizes = flat.sizes()
    lost, clipped = _marked(flat, identity["part"])
    splits, split = _split_codes(source)
    kept = np.setdiff1d(
        np.arange(len(source.ids)), np.fromiter(lost, dtype=np.int64, count=len(lost))
    )
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
    tidy(folder, index)
    write_index(folder, index)
    tidy(folder, index, done=True)
    return index


def _marked(flat: FlatFile, part: int) -> tuple[dict[int, str], dict[int, int]]:
    """Clip → why it broke; clip → samples beyond ±1."""
    lost: dict[int, str] = {}
    clipped: dict[int, int] = {}
    for number, entry in enumerate(flat.entries):
        lost |= {number * part + place: reason for place, reason in entry.lost.items()}
        clipped |= {number * part + place: count for place, count in entry.clipped.items()}
    return lost, clipped


def tidy(folder: Path, index: Index, *, done: bool = False) -> None:
    """Removes what preparations left there that were killed; with the index written, all but it."""
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
    survey = source.survey()
    if survey is not None and set(splits) <= set(survey.splits):
        return tuple(survey.expected[survey.splits.index(name)] for name in splits)
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
    files: dict[str, tuple[str, ...]] = {}
    for code, name in enumerate(splits):
        rows = np.flatnonzero(split[kept] == code)
        if not len(rows):  # a manifest may have test clips alone
            continue
        default = f"{dataset}_{name.replace(' ', '')}_mp3.hdf"
        file = _PUBLISHED.get(dataset, {}).get(name, default)
        inside = kept[rows]
        write_hdf5(
            folder / file,
            [_as_mp3_name(source.ids[clip]) for clip in inside],
            [source.sources[clip] for clip in inside],
            _sounds(flat, starts[inside], sizes[inside]),
            masked_target(targets[rows]) if masked else targets[rows],
        )
        files[keys.get(name, name.replace(" ", ""))] = (file,)
    return files


def _sounds(flat: FlatFile, starts: np.ndarray, sizes: np.ndarray) -> Iterator[bytes]:
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        yield flat.read(start, size)


def _as_mp3_name(name: str) -> str:
    return name if name.endswith(".mp3") else f"{name}.mp3"
