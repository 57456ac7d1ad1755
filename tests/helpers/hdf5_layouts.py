"""Small data sets in the HDF5 layout of the reference code: mp3 bytes, names and targets.

``audio_name`` (S20), ``mp3`` (variable-length uint8) and ``target``, as its prepare scripts write
them; the contents are those of tagging_layouts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

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


def mp3s(clips: Sequence[WrittenClip], seconds: float, rate: int) -> list[bytes]:
    """The clips' sounds as mp3."""
    return [encoded(signal(clip, seconds, rate), rate, "mp3") for clip in clips]


def write_audioset_hdf5(
    root: Path,
    counts: Mapping[str, int] | None = None,
    *,
    rate: int = 32000,
    seconds: float = 1.0,
) -> Written:
    """AudioSet: ``Y<id>.mp3``, with ``NN/`` before it in the unbalanced part; 527 packed bits."""
    counts = counts or {"balanced_train": 6, "unbalanced_train": 8, "eval": 5}
    clips: list[WrittenClip] = []
    written = Written(root, tuple(name for _, name in audioset_classes()), ())
    for split, count in counts.items():
        for number in range(count):
            seed = len(clips)
            part = f"{number % 41:02}/" if split == "unbalanced_train" else ""
            name = f"{part}Y{video_id(seed)}.mp3"
            clips.append(WrittenClip(name, split, labels_of(seed), seed))
    written = Written(root, written.classes, tuple(clips))
    for split in counts:
        part_clips = written.of(split)
        write_hdf5(
            root / f"{split}_segments_mp3.hdf",
            [clip.name for clip in part_clips],
            mp3s(part_clips, seconds, rate),
            np.packbits(written.targets(split) > 0, axis=-1),
        )
    return written


def write_fsd50k_hdf5(
    root: Path,
    counts: Mapping[str, int] | None = None,
    *,
    rate: int = 32000,
    seconds: float = 1.0,
    vocabulary: bool = True,
) -> Written:
    """FSD50K: ``FSD50K.train|val|eval_mp3.hdf``; 200 packed bits; ``vocabulary.csv`` beside."""
    counts = counts or {"train": 8, "val": 4, "eval": 5}
    known = fsd50k_classes()
    clips: list[WrittenClip] = []
    for split, count in counts.items():
        for _ in range(count):
            seed = len(clips)
            clips.append(WrittenClip(f"{64760 + 37 * seed}.mp3", split, labels_of(seed), seed))
    written = Written(root, tuple(name for name, _ in known), tuple(clips))
    for split in counts:
        write_hdf5(
            root / f"FSD50K.{split}_mp3.hdf",
            [clip.name for clip in written.of(split)],
            mp3s(written.of(split), seconds, rate),
            np.packbits(written.targets(split) > 0, axis=-1),
        )
    if vocabulary:
        rows = [f"{n},{name},{mid}" for n, (name, mid) in enumerate(known)]
        (root / "vocabulary.csv").write_text("\n".join(rows) + "\n")
    return written


def write_openmic_hdf5(
    root: Path,
    counts: Mapping[str, int] | None = None,
    *,
    rate: int = 32000,
    seconds: float = 1.0,
) -> Written:
    """OpenMIC-2018: ``openmic_train|test.csv_mp3.hdf``; 20 likelihoods, then 20 masks, float32."""
    counts = counts or {"train": 8, "test": 5}
    clips: list[WrittenClip] = []
    for split, count in counts.items():
        for _ in range(count):
            seed = len(clips)
            name = f"{46 + 1001 * seed:06}_{3840 + 7680 * (seed % 5)}.mp3"
            clips.append(WrittenClip(name, split, labels_of(seed), seed, known=openmic_known(seed)))
    written = Written(root, openmic_classes(), tuple(clips))
    for split in counts:
        truth = written.targets(split)
        known = ~np.isnan(truth)
        likely = np.where(known, np.where(truth == 1, 0.875, 0.125), 0.5)
        write_hdf5(
            root / f"openmic_{split}.csv_mp3.hdf",
            [clip.name for clip in written.of(split)],
            mp3s(written.of(split), seconds, rate),
            np.concatenate([likely, known], axis=1).astype(np.float32),
        )
    return written
