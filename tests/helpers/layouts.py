"""Small data sets in exactly the published formats, with real audio inside.

Each function writes one data set below a folder and tells what it wrote (`Written`). Clips are one
second of `sounds.sound` and carry a few of the first classes; everything follows from the
arguments.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sounds import encoded, sound, write_sound

import passt_bench

Counts = Mapping[str, int]  # split → clips
NameOf = Callable[[int, str, int], str]  # seed of a clip, split, number in it → name
AUDIOSET: Counts = {"balanced_train": 6, "unbalanced_train": 8, "eval": 5}
FSD50K: Counts = {"train": 8, "val": 4, "eval": 5}
OPENMIC: Counts = {"train": 8, "test": 5}
SCENES = (
    "airport", "bus", "metro", "metro_station", "park", "public_square", "shopping_mall",
    "street_pedestrian", "street_traffic", "tram",
)  # fmt: skip
MANIFEST_CLASSES = ("bell", "engine", "voice")
LETTERS = "-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
USED = 6  # classes that clips carry


@dataclass(frozen=True)
class WrittenClip:
    """One clip as it was written."""

    name: str  # as the data set calls it: a file's stem, or what an HDF5 file says
    split: str  # "balanced", "train", "eval", … or "fold1" for folds
    labels: tuple[int, ...]  # numbers of its classes
    seed: int  # of its sound
    path: Path | None = None  # None inside an HDF5 file
    known: tuple[int, ...] | None = None  # classes that are known to hold or not; None for all


@dataclass(frozen=True)
class Written:
    """A data set as it was written: its folder, names of all classes, clips in listed order."""

    root: Path
    classes: tuple[str, ...]
    clips: tuple[WrittenClip, ...]

    def of(self, split: str) -> list[WrittenClip]:
        """The clips of a split."""
        return [clip for clip in self.clips if clip.split == split]

    def targets(self, split: str | None = None) -> np.ndarray:
        """(N, classes) float32: 0 or 1, NaN where nobody knows."""
        clips = self.clips if split is None else self.of(split)
        table = np.zeros((len(clips), len(self.classes)), dtype=np.float32)
        for row, clip in zip(table, clips, strict=True):
            row[list(clip.labels)] = 1
            if clip.known is not None:
                row[[c for c in range(len(row)) if c not in clip.known]] = np.nan
        return table


def audioset_classes() -> list[tuple[str, str]]:
    """Machine id and name of AudioSet's 527 classes, in official order."""
    root = Path(passt_bench.__file__).parent
    (path, *_) = sorted(root.rglob("audioset_class_labels_indices.csv"))
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["mid"], row["display_name"]) for row in csv.DictReader(file)]


def labels_of(number: int, used: int = USED) -> tuple[int, ...]:
    """Classes of the clip of that number: one to three of the first ``used``."""
    return tuple(sorted({number % used, (number + number // used) % used, (number * 2) % used}))


def video_id(seed: int) -> str:
    """Eleven letters, as YouTube has them; some begin with a dash or an underscore."""
    rng = np.random.default_rng((1611, seed))
    return LETTERS[seed % 3] + "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=10))


def signal(clip: WrittenClip, seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """The sound of a written clip, as it was before it was encoded."""
    return sound(clip.seed, seconds, rate, channels, pitch=clip.labels[0])


def fsd50k_classes() -> list[tuple[str, str]]:
    """200 names as FSD50K writes them, sorted, with their machine ids (taken from AudioSet's)."""
    names = {
        name.replace(", ", "_and_").replace(" ", "_").replace("-", "_"): mid
        for mid, name in audioset_classes()
    }
    return [(name, names[name]) for name in sorted(names)[:200]]


def openmic_classes() -> tuple[str, ...]:
    """OpenMIC's 20 instruments, in official order."""
    root = Path(passt_bench.__file__).parent
    (path, *_) = sorted(root.rglob("openmic_class_map.json"))
    found: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(sorted(found, key=found.__getitem__))


def openmic_known(number: int) -> tuple[int, ...]:
    """Classes that somebody judged in the clip of that number: its own and a few more."""
    return tuple(sorted({*labels_of(number), (number + 1) % USED, 6 + number % 14}))


def _clips(
    counts: Counts,
    name_of: NameOf,
    path_of: Callable[[str, str, int], Path] | None = None,
    known_of: Callable[[int], tuple[int, ...] | None] = lambda seed: None,
) -> list[WrittenClip]:
    """Clips of one to three labels; ``path_of`` takes name, split and number in it."""
    clips: list[WrittenClip] = []
    for split, count in counts.items():
        for number in range(count):
            seed = len(clips)
            name = name_of(seed, split, number)
            path = None if path_of is None else path_of(name, split, number)
            clips.append(WrittenClip(name, split, labels_of(seed), seed, path, known_of(seed)))
    return clips


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_audioset_folder(
    root: Path,
    counts: Counts | None = None,
    *,
    ending: str = "mp3",
    rate: int = 32000,
    seconds: float = 1.0,
) -> Written:
    """AudioSet with its official CSV files, and its clips as the common download scripts do it."""
    counts, known = counts or AUDIOSET, audioset_classes()

    def path_of(name: str, split: str, number: int) -> Path:
        below = f"{split}_segments_part{number % 2:02}" if split == "unbalanced_train" else ""
        return root / f"{split}_segments" / below / f"Y{name}.{ending}"

    clips = _clips(counts, lambda seed, *_: video_id(seed), path_of)
    written = Written(root, tuple(name for _, name in known), tuple(clips))
    for clip in clips:
        write_sound(clip.path, signal(clip, seconds, rate), rate)
    for split in counts:
        listed = written.of(split)
        lines = [
            "# Segments csv created Sun Mar  5 10:54:31 2017",
            f"# num_ytids={len(listed)}, num_segs={len(listed)}, num_unique_labels=527, "
            f"num_positive_labels={sum(len(clip.labels) for clip in listed)}",
            "# YTID, start_seconds, end_seconds, positive_labels",
        ]
        for clip in listed:
            labels = ",".join(known[label][0] for label in clip.labels)
            start = 10.0 * (clip.seed % 4)
            lines.append(f'{clip.name}, {start:.3f}, {start + 10:.3f}, "{labels}"')
        _write_lines(root / f"{split}_segments.csv", lines)
    rows = [f'{n},{mid},"{name}"' for n, (mid, name) in enumerate(known)]
    _write_lines(root / "class_labels_indices.csv", ["index,mid,display_name", *rows])
    return written


def write_fsd50k(
    root: Path, counts: Counts | None = None, *, rate: int = 44100, seconds: float = 1.0
) -> Written:
    """FSD50K in its official folders; every fourth clip is twice as long as ``seconds``."""
    known, truth = fsd50k_classes(), root / "FSD50K.ground_truth"
    rows = [f"{n},{name},{mid}" for n, (name, mid) in enumerate(known)]
    _write_lines(truth / "vocabulary.csv", rows)
    clips = _clips(
        counts or FSD50K,
        lambda seed, *_: str(64760 + 37 * seed),
        lambda name, split, _: (
            root / f"FSD50K.{'eval' if split == 'eval' else 'dev'}_audio" / f"{name}.wav"
        ),
    )
    lines = {"dev": ["fname,labels,mids,split"], "eval": ["fname,labels,mids"]}
    for clip in clips:
        length = seconds * (2 if clip.seed % 4 == 3 else 1)
        write_sound(clip.path, signal(clip, length, rate), rate)
        names, mids = (",".join(known[c][part] for c in clip.labels) for part in (0, 1))
        row = f'{clip.name},"{names}","{mids}"'
        if clip.split == "eval":
            lines["eval"].append(row)
        else:
            lines["dev"].append(f"{row},{clip.split}")
    for name, listed in lines.items():
        _write_lines(truth / f"{name}.csv", listed)
    return Written(root, tuple(name for name, _ in known), tuple(clips))


def _openmic_name(seed: int, *_: object) -> str:
    return f"{46 + 1001 * seed:06}_{3840 + 7680 * (seed % 5)}"


def _judged(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likelihoods, sure or nearly so, with 0.5 for nobody's judgement; and what was judged."""
    known = ~np.isnan(truth)
    return np.where(known, np.where(truth == 1, 0.875, 0.125), 0.5), known


def write_openmic(
    root: Path, counts: Counts | None = None, *, rate: int = 44100, seconds: float = 1.0
) -> Written:
    """OpenMIC-2018 in its official folder; stereo Ogg files of which most labels are unknown."""
    counts, classes = counts or OPENMIC, openmic_classes()
    clips = _clips(
        counts,
        _openmic_name,
        lambda name, *_: root / "audio" / name[:3] / f"{name}.ogg",
        openmic_known,
    )
    for clip in clips:
        write_sound(clip.path, signal(clip, seconds, rate, channels=2), rate)
    written = Written(root, classes, tuple(clips))
    for split in counts:
        names = [clip.name for clip in written.of(split)]
        _write_lines(root / "partitions" / f"split01_{split}.csv", names)
    (root / "class-map.json").write_text(json.dumps({name: n for n, name in enumerate(classes)}))
    likely, known = _judged(written.targets())
    np.savez(
        root / "openmic-2018.npz",
        X=np.zeros((len(clips), 10, 128), dtype=np.int64),
        Y_true=likely.astype(np.float64),
        Y_mask=known,
        sample_key=np.array([clip.name for clip in clips]),
    )
    return written


def write_esc50(
    root: Path, folds: int = 5, each: int = 1, *, rate: int = 44100, seconds: float = 1.0
) -> Written:
    """ESC-50 in its official folder: three of its classes, ``each`` clips of them in every fold."""
    lines, clips = ["filename,fold,target,category,esc10,src_file,take"], []
    classes = {0: "dog", 10: "rain", 11: "sea_waves"}
    for fold in range(1, folds + 1):
        for label, (target, name) in enumerate(classes.items()):
            for source in range(100 * fold + target, 100 * fold + target + each):
                path = root / "audio" / f"{fold}-{source}-A-{target}.wav"
                lines.append(f"{path.name},{fold},{target},{name},True,{source},A")
                clip = WrittenClip(path.stem, f"fold{fold}", (label,), len(clips), path)
                write_sound(path, signal(clip, seconds, rate), rate)
                clips.append(clip)
    _write_lines(root / "meta" / "esc50.csv", lines)
    return Written(root, tuple(classes.values()), tuple(clips))


def write_dcase20(root: Path, each: int = 1, *, rate: int = 44100, seconds: float = 1.0) -> Written:
    """TAU Urban Acoustic Scenes 2020 Mobile: several devices record the same place at once."""
    clips: list[WrittenClip] = []
    meta = ["filename\tscene_label\tidentifier\tsource_label"]
    lists: dict[str, list[str]] = {"train": [], "evaluate": []}
    for split, city, devices in (("train", "lisbon", "ab1"), ("evaluate", "milan", "a14")):
        for label, scene in enumerate(SCENES):
            for take in range(each):
                for device in (f"s{d}" if d.isdigit() else d for d in devices):
                    place = 1000 + label
                    name = f"audio/{scene}-{city}-{place}-{40000 + take}-{device}.wav"
                    path = root / name
                    clip = WrittenClip(path.stem, split, (label,), len(clips), path)
                    write_sound(path, signal(clip, seconds, rate), rate)
                    clips.append(clip)
                    meta.append(f"{name}\t{scene}\t{city}-{place}\t{device}")
                    lists[split].append(f"{name}\t{scene}")
    setup = root / "evaluation_setup"
    _write_lines(root / "meta.csv", meta)
    for split, rows in lists.items():
        _write_lines(setup / f"fold1_{split}.csv", ["filename\tscene_label", *rows])
    names = [row.split("\t")[0] for row in lists["evaluate"]]
    _write_lines(setup / "fold1_test.csv", ["filename", *names])
    return Written(root, SCENES, tuple(clips))


def write_manifest(
    root: Path,
    *,
    folds: int = 0,
    each: int = 2,
    multi_label: bool = False,
    seconds: Sequence[float] = (1.0, 0.7, 1.6),
) -> Written:
    """Recordings of several formats, rates, channels and lengths; ``each`` a class in each part."""
    parts = [str(fold + 1) for fold in range(folds)] or ["train", "validation", "test"]
    kinds = (("wav", 44100, 2), ("flac", 16000, 1), ("ogg", 44100, 1), ("mp3", 32000, 2))
    clips: list[WrittenClip] = []
    lines = [f"path,label,{'fold' if folds else 'split'}"]
    for part in parts:
        for number in range(each * len(MANIFEST_CLASSES)):
            seed, first = len(clips), number % len(MANIFEST_CLASSES)
            labels = {first, (first + (multi_label and seed % 2)) % len(MANIFEST_CLASSES)}
            ending, rate, channels = kinds[seed % len(kinds)]
            name = f"audio/{part}-{number:02}.{ending}"
            split = f"fold{part}" if folds else part
            clip = WrittenClip(name, split, tuple(sorted(labels)), seed, root / name)
            length = seconds[seed % len(seconds)]
            write_sound(root / name, signal(clip, length, rate, channels), rate)
            text = ";".join(MANIFEST_CLASSES[label] for label in clip.labels)
            lines.append(f"{name},{text},{part}")
            clips.append(clip)
    _write_lines(root / "manifest.csv", lines)
    return Written(root, MANIFEST_CLASSES, tuple(clips))


def write_hdf5(
    path: Path,
    names: Sequence[str],
    sounds: Sequence[bytes],
    target: np.ndarray,
    sources: Sequence[str] = (),
) -> Path:
    """One file in the HDF5 layout of the reference code; no published one has ``sources``."""
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


def _write_hdf5_files(
    classes: Sequence[str],
    file: str,
    default: Counts,
    name_of: NameOf,
    known_of: Callable[[int], tuple[int, ...] | None],
    root: Path,
    counts: Counts | None = None,
    *,
    rate: int = 32000,
    seconds: float = 1.0,
) -> Written:
    counts = counts or default
    clips = _clips(counts, name_of, None, known_of)
    written = Written(root, tuple(classes), tuple(clips))
    for split in counts:
        listed, target = written.of(split), written.targets(split)
        likely, known = _judged(target)
        stored = np.concatenate([likely, known], axis=1, dtype=np.float32)
        table = np.packbits(target > 0, axis=-1) if known.all() else stored
        sounds = [encoded(signal(clip, seconds, rate), rate, "mp3") for clip in listed]
        names = [clip.name for clip in listed]
        write_hdf5(root / file.replace("SPLIT", split), names, sounds, table)
    return written


def _video_name(seed: int, split: str, number: int) -> str:
    return f"{f'{number % 41:02}/' * (split == 'unbalanced_train')}Y{video_id(seed)}.mp3"


write_audioset_hdf5 = partial(
    _write_hdf5_files,
    [name for _, name in audioset_classes()],
    "SPLIT_segments_mp3.hdf",
    AUDIOSET,
    _video_name,
    lambda seed: None,
)
write_openmic_hdf5 = partial(
    _write_hdf5_files,
    openmic_classes(),
    "openmic_SPLIT.csv_mp3.hdf",
    OPENMIC,
    lambda seed, *_: f"{_openmic_name(seed)}.mp3",
    openmic_known,
)


def write_fsd50k_hdf5(root: Path, counts: Counts | None = None, **sound: Any) -> Written:
    """FSD50K has a ``vocabulary.csv`` beside its files."""
    rows = [f"{n},{name},{mid}" for n, (name, mid) in enumerate(fsd50k_classes())]
    _write_lines(root / "vocabulary.csv", rows)
    return _write_hdf5_files(
        [name for name, _ in fsd50k_classes()],
        "FSD50K.SPLIT_mp3.hdf",
        FSD50K,
        lambda seed, *_: f"{64760 + 37 * seed}.mp3",
        lambda seed: None,
        *(root, counts),
        **sound,
    )
