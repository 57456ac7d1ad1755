"""Small ESC-50, TAU Urban Acoustic Scenes 2020 Mobile, and recordings of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esc_layout import rows_of, write_meta
from sounds import cut, recordings, write_sound
from written import Written, WrittenClip, signal


def write_esc50(
    root: Path, folds: int = 5, each: int = 1, *, rate: int = 44100, seconds: float = 1.0
) -> Written:
    """ESC-50 in its official folder: three of its classes, ``each`` clips of them in every fold."""
    rows = rows_of(folds, each)
    write_meta(root, rows)
    names = {int(str(row["target"])): str(row["category"]) for row in rows}
    order = sorted(names)
    clips = []
    for seed, row in enumerate(rows):
        path = root / "audio" / str(row["filename"])
        label = order.index(int(str(row["target"])))
        clip = WrittenClip(path.stem, f"fold{row['fold']}", (label,), seed, path)
        write_sound(path, signal(clip, seconds, rate), rate)
        clips.append(clip)
    return Written(root, tuple(names[target] for target in order), tuple(clips))


SCENES = [
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
]


def write_dcase20(root: Path, each: int = 1, *, rate: int = 44100, seconds: float = 1.0) -> Written:
    """TAU Urban Acoustic Scenes 2020 Mobile: ten scenes, real and simulated devices, one split.

    Devices a, b and s1 are in the training part; a, s1 and s4 in the evaluation part. Several
    devices record the same place at once, as in the original.
    """
    clips: list[WrittenClip] = []
    meta = ["filename\tscene_label\tidentifier\tsource_label"]
    lists: dict[str, list[str]] = {"train": [], "evaluate": []}
    for split, city, devices in (("train", "lisbon", "ab1"), ("evaluate", "milan", "a14")):
        for label, scene in enumerate(SCENES):
            for take in range(each):
                for device in (f"s{d}" if d.isdigit() else d for d in devices):
                    place = 1000 + label
                    name = f"{scene}-{city}-{place}-{40000 + take}-{device}.wav"
                    clip = WrittenClip(
                        name[:-4], split, (label,), len(clips), root / "audio" / name
                    )
                    write_sound(root / "audio" / name, signal(clip, seconds, rate), rate)
                    clips.append(clip)
                    meta.append(f"audio/{name}\t{scene}\t{city}-{place}\t{device}")
                    lists[split].append(f"audio/{name}\t{scene}")
    setup = root / "evaluation_setup"
    setup.mkdir(parents=True, exist_ok=True)
    (root / "meta.csv").write_text("\n".join(meta) + "\n")
    for split, rows in lists.items():
        (setup / f"fold1_{split}.csv").write_text(
            "\n".join(["filename\tscene_label", *rows]) + "\n"
        )
    names = [row.split("\t")[0] for row in lists["evaluate"]]
    (setup / "fold1_test.csv").write_text("\n".join(["filename", *names]) + "\n")
    return Written(root, tuple(SCENES), tuple(clips))


MANIFEST_CLASSES = ("bell", "engine", "voice")


def write_manifest(
    root: Path,
    *,
    folds: int = 0,
    each: int = 2,
    multi_label: bool = False,
    seconds: Sequence[float] = (1.0, 0.7, 1.6),
    real: bool = False,
) -> Written:
    """Recordings of several formats, rates, channels and lengths, and ``manifest.csv``.

    Splits are train, validation and test, or ``folds`` folds; ``real`` cuts the sounds from
    ESC-10 where it lies here, and every class has ``each`` clips in every part.
    """
    parts = [str(fold + 1) for fold in range(folds)] or ["train", "validation", "test"]
    kinds = (("wav", 44100, 2), ("flac", 16000, 1), ("ogg", 44100, 1), ("mp3", 32000, 2))
    found = recordings() if real else []
    clips: list[WrittenClip] = []
    lines = [f"path,label,{'fold' if folds else 'split'}"]
    for part in parts:
        for number in range(each * len(MANIFEST_CLASSES)):
            seed, first = len(clips), number % len(MANIFEST_CLASSES)
            labels = (
                (first, (first + 1) % len(MANIFEST_CLASSES))
                if multi_label and seed % 2
                else (first,)
            )
            ending, rate, channels = kinds[seed % len(kinds)]
            name = f"audio/{part}-{number:02}.{ending}"
            split = f"fold{part}" if folds else part
            clip = WrittenClip(name, split, tuple(sorted(labels)), seed, root / name)
            length = seconds[seed % len(seconds)]
            samples = (
                cut(found[seed % len(found)], length, rate)
                if found
                else signal(clip, length, rate, channels)
            )
            write_sound(root / name, samples, rate)
            text = ";".join(MANIFEST_CLASSES[label] for label in clip.labels)
            lines.append(f"{name},{text},{part}")
            clips.append(clip)
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return Written(root, MANIFEST_CLASSES, tuple(clips))
