"""Small data sets in the HDF5 layout of the reference code: mp3 bytes, names and targets.

``audio_name`` (S20), ``mp3`` (variable-length uint8) and ``target``, as its prepare scripts write
them; the contents are those of tagging_layouts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sounds import encoded
from written import (
    Written,
    WrittenClip,
    audioset_classes,
    fsd50k_classes,
    labels_of,
    openmic_classes,
    openmic_known,
    signal,
    video_id,
)

from passt_bench.data.prepared import open_prepared, read_index, write_index
from passt_bench.spec import DataSpec


def write_hdf5(
    path: Path,
    names: Sequence[str],
    sounds: Sequence[bytes],
    target: np.ndarray,
    sources: Sequence[str] = (),
) -> Path:
    """One file in that layout.

    Args:
        path: to write; its folder is made.
        names: of the clips.
        sounds: bytes of mp3 files; empty ones are allowed, as in broken files.
        target: (N, any width) of any type.
        sources: recordings, a column that published files do not have.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for column, texts in (("audio_name", names), *([("source", sources)] if sources else ())):
            raw = [text.encode() for text in texts]
            file[column] = np.array(raw, dtype=f"S{max(20, *map(len, raw))}")
        mp3 = file.create_dataset("mp3", (len(names),), dtype=h5py.vlen_dtype(np.dtype("uint8")))
        for row, sound in enumerate(sounds):
            mp3[row] = np.frombuffer(sound, dtype=np.uint8)
        file.create_dataset("target", data=target)
    return path


def write_prepared_hdf5(
    prepared: Path,
    out: Path,
    encode: Callable[[str, np.ndarray, int], bytes] = lambda name, wave, rate: encoded(
        wave, rate, "mp3"
    ),
) -> Path:
    """Prepared clips as version 0.1 wrote them with ``--format hdf5``: HDF5 files and the index.

    Args:
        prepared: a folder of 16-bit samples.
        out: where to.
        encode: name, samples and rate of a clip → its bytes.
    """
    index = read_index(prepared)
    rate = index.sampling_rate
    data = open_prepared(DataSpec(index.source.dataset, seconds=0.01), rate, prepared)
    table = data.clip_table()
    assert table is not None
    files: dict[str, tuple[str, ...]] = {}
    for code, split in enumerate(table.splits):
        clips = np.flatnonzero(table.split == code)
        if not len(clips):
            continue
        key = {"validation": "valid"}.get(split, split.replace(" ", ""))
        names = [f"{data.ids[clip].removesuffix('.mp3')}.mp3" for clip in clips]
        target = data.targets[clips]
        known = ~np.isnan(target)
        masked = np.concatenate([np.where(known, target, 0.5), known], axis=1, dtype=np.float32)
        write_hdf5(
            out / f"{key}.hdf",
            names,
            [encode(n, data.whole(clip), rate) for n, clip in zip(names, clips, strict=True)],
            masked if index.masked else np.packbits(target > 0, axis=-1),
            [data.sources[clip] for clip in clips],
        )
        files[key] = (f"{key}.hdf",)
    write_index(out, replace(index, form="hdf5", files=files))
    return out


@dataclass(frozen=True)
class _Layout:
    """How a data set is packed."""

    classes: Sequence[str]
    file: str  # name, with SPLIT in it
    counts: Mapping[str, int]  # split → clips, by default
    name_of: Callable[[int, str, int], str]  # seed of a clip, split, number in it → name
    known_of: Callable[[int], tuple[int, ...] | None] = lambda seed: None  # None: all classes


def _write(
    layout: _Layout,
    root: Path,
    counts: Mapping[str, int] | None = None,
    *,
    rate: int = 32000,
    seconds: float = 1.0,
) -> Written:
    clips: list[WrittenClip] = []
    for split, count in (counts or layout.counts).items():
        for number in range(count):
            seed = len(clips)
            name, known = layout.name_of(seed, split, number), layout.known_of(seed)
            clips.append(WrittenClip(name, split, labels_of(seed), seed, known=known))
    written = Written(root, tuple(layout.classes), tuple(clips))
    for split in counts or layout.counts:
        part, target = written.of(split), written.targets(split)
        stored, known_labels = np.packbits(target > 0, axis=-1), ~np.isnan(target)
        if not known_labels.all():
            likely = np.where(known_labels, np.where(target == 1, 0.875, 0.125), 0.5)
            stored = np.concatenate([likely, known_labels], axis=1).astype(np.float32)
        sounds = [encoded(signal(clip, seconds, rate), rate, "mp3") for clip in part]
        file = root / layout.file.replace("SPLIT", split)
        write_hdf5(file, [clip.name for clip in part], sounds, stored)
    return written


def _audioset_name(seed: int, split: str, number: int) -> str:
    folder = f"{number % 41:02}/" if split == "unbalanced_train" else ""
    return f"{folder}Y{video_id(seed)}.mp3"


write_audioset_hdf5 = partial(
    _write,
    _Layout(
        [name for _, name in audioset_classes()],
        "SPLIT_segments_mp3.hdf",
        {"balanced_train": 6, "unbalanced_train": 8, "eval": 5},
        _audioset_name,
    ),
)
write_openmic_hdf5 = partial(
    _write,
    _Layout(
        openmic_classes(),
        "openmic_SPLIT.csv_mp3.hdf",
        {"train": 8, "test": 5},
        lambda seed, split, number: f"{46 + 1001 * seed:06}_{3840 + 7680 * (seed % 5)}.mp3",
        openmic_known,
    ),
)
_FSD50K = _Layout(
    [name for name, _ in fsd50k_classes()],
    "FSD50K.SPLIT_mp3.hdf",
    {"train": 8, "val": 4, "eval": 5},
    lambda seed, split, number: f"{64760 + 37 * seed}.mp3",
)


def write_fsd50k_hdf5(root: Path, counts: Mapping[str, int] | None = None, **sound: Any) -> Written:
    """FSD50K has a ``vocabulary.csv`` beside its files."""
    written = _write(_FSD50K, root, counts, **sound)
    rows = (f"{n},{name},{mid}\n" for n, (name, mid) in enumerate(fsd50k_classes()))
    (root / "vocabulary.csv").write_text("".join(rows))
    return written
