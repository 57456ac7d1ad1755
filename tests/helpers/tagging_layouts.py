"""Small AudioSet, FSD50K and OpenMIC-2018, in their official folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from sounds import write_sound
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


def write_audioset_folder(
    root: Path,
    counts: Mapping[str, int] | None = None,
    *,
    ending: str = "mp3",
    rate: int = 32000,
    seconds: float = 1.0,
    part_folders: bool = True,
) -> Written:
    """AudioSet with its official CSV files, and its clips as ``Y<id>.<ending>``.

    The unbalanced clips lie in ``unbalanced_train_segments/unbalanced_train_segments_partNN/``, as
    the common download scripts leave them, or all in one folder.
    """
    counts = counts or {"balanced_train": 6, "unbalanced_train": 8, "eval": 5}
    known = audioset_classes()
    clips: list[WrittenClip] = []
    root.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        listed = []
        for number in range(count):
            seed = len(clips)
            folder = root / f"{split}_segments"
            if split == "unbalanced_train" and part_folders:
                folder = folder / f"unbalanced_train_segments_part{number % 2:02}"
            path = folder / f"Y{video_id(seed)}.{ending}"
            clip = WrittenClip(video_id(seed), split, labels_of(seed), seed, path)
            write_sound(path, signal(clip, seconds, rate), rate)
            listed.append(clip)
            clips.append(clip)
        _write_segments(root / f"{split}_segments.csv", listed, known)
    lines = [f'{n},{mid},"{name}"' for n, (mid, name) in enumerate(known)]
    head = "index,mid,display_name"
    (root / "class_labels_indices.csv").write_text("\n".join([head, *lines]) + "\n")
    return Written(root, tuple(name for _, name in known), tuple(clips))


def _write_segments(path: Path, clips: list[WrittenClip], known: list[tuple[str, str]]) -> None:
    """A segments file with its three comment lines, blanks after commas, and quoted labels."""
    positives = sum(len(clip.labels) for clip in clips)
    lines = [
        "# Segments csv created Sun Mar  5 10:54:31 2017",
        f"# num_ytids={len(clips)}, num_segs={len(clips)}, num_unique_labels=527, "
        f"num_positive_labels={positives}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    for clip in clips:
        labels = ",".join(known[label][0] for label in clip.labels)
        start = 10.0 * (clip.seed % 4)
        lines.append(f'{clip.name}, {start:.3f}, {start + 10:.3f}, "{labels}"')
    path.write_text("\n".join(lines) + "\n")


def write_fsd50k(
    root: Path,
    counts: Mapping[str, int] | None = None,
    *,
    rate: int = 44100,
    seconds: float = 1.0,
) -> Written:
    """FSD50K in its official folders; every fourth clip is twice as long as ``seconds``."""
    counts = counts or {"train": 8, "val": 4, "eval": 5}
    known = fsd50k_classes()
    truth = root / "FSD50K.ground_truth"
    truth.mkdir(parents=True, exist_ok=True)
    rows = [f"{n},{name},{mid}" for n, (name, mid) in enumerate(known)]
    (truth / "vocabulary.csv").write_text("\n".join(rows) + "\n")
    clips: list[WrittenClip] = []
    for split, count in counts.items():
        folder = root / ("FSD50K.eval_audio" if split == "eval" else "FSD50K.dev_audio")
        for _ in range(count):
            seed = len(clips)
            name = str(64760 + 37 * seed)
            clip = WrittenClip(name, split, labels_of(seed), seed, folder / f"{name}.wav")
            write_sound(
                folder / f"{name}.wav", signal(clip, _fsd_seconds(clip, seconds), rate), rate
            )
            clips.append(clip)
    for file, splits, columns in (
        ("dev.csv", ("train", "val"), ["fname", "labels", "mids", "split"]),
        ("eval.csv", ("eval",), ["fname", "labels", "mids"]),
    ):
        lines = [",".join(columns)]
        for clip in clips:
            if clip.split in splits:
                names, mids = (",".join(known[c][part] for c in clip.labels) for part in (0, 1))
                last = f",{clip.split}" if "split" in columns else ""
                lines.append(f'{clip.name},"{names}","{mids}"{last}')
        (truth / file).write_text("\n".join(lines) + "\n")
    return Written(root, tuple(name for name, _ in known), tuple(clips))


def _fsd_seconds(clip: WrittenClip, seconds: float) -> float:
    return seconds * (2 if clip.seed % 4 == 3 else 1)


def write_openmic(
    root: Path,
    counts: Mapping[str, int] | None = None,
    *,
    rate: int = 44100,
    seconds: float = 1.0,
) -> Written:
    """OpenMIC-2018 in its official folder; stereo Ogg files of which most labels are unknown."""
    counts = counts or {"train": 8, "test": 5}
    classes = openmic_classes()
    clips: list[WrittenClip] = []
    (root / "partitions").mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        listed = []
        for _ in range(count):
            seed = len(clips)
            name = f"{46 + 1001 * seed:06}_{3840 + 7680 * (seed % 5)}"
            path = root / "audio" / name[:3] / f"{name}.ogg"
            clip = WrittenClip(name, split, labels_of(seed), seed, path, openmic_known(seed))
            write_sound(path, signal(clip, seconds, rate, channels=2), rate)
            listed.append(clip)
            clips.append(clip)
        text = "".join(f"{clip.name}\n" for clip in listed)
        (root / "partitions" / f"split01_{split}.csv").write_text(text)
    (root / "class-map.json").write_text(json.dumps({name: n for n, name in enumerate(classes)}))
    written = Written(root, classes, tuple(clips))
    truth = written.targets()
    known = ~np.isnan(truth)
    # Nobody's judgement stands as 0.5; a judged one as a likelihood, sure or nearly so.
    likely = np.where(known, np.where(truth == 1, 0.875, 0.125), 0.5)
    np.savez(
        root / "openmic-2018.npz",
        X=np.zeros((len(clips), 10, 128), dtype=np.int64),
        Y_true=likely.astype(np.float64),
        Y_mask=known,
        sample_key=np.array([clip.name for clip in clips]),
    )
    return written
