"""Recordings in the ESC-50 layout: ``meta/esc50.csv`` and ``audio/`` (Piczak 2015).

Any subset, any audio format that soundfile reads, any sampling rate. Where a named file is not
there but one that differs in its ending alone is, that one is taken.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data.dataset import Dataset
from passt_bench.data.decode import RESAMPLER, read_waveform, sampling_rate_of
from passt_bench.errors import InputError
from passt_bench.record import Fingerprint
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

_COLUMNS = ("filename", "fold", "target", "category", "src_file")
_MOST_MISSING = 0.05  # share of the rows whose file may be missing


@dataclass(frozen=True)
class _Clip:
    path: Path
    fold: int
    target: int
    category: str
    source: str
    rate: int


@dataclass(frozen=True)
class Esc50(Dataset):
    """A folder in the ESC-50 layout; each clip carries one class."""

    paths: tuple[Path, ...]
    fold_of: np.ndarray
    sampling_rate: int
    samples: int

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """All other folds, and the fold held out."""
        if fold not in self.folds:
            raise InputError(
                "no such fold", field="fold", value=fold, remedy=f"There are {self.folds}."
            )
        return np.flatnonzero(self.fold_of != fold), np.flatnonzero(self.fold_of == fold)

    def waveform(self, index: int) -> np.ndarray:
        """Decoded, mixed down, resampled, cut or padded to the spec's length."""
        return read_waveform(self.paths[index], self.sampling_rate, self.samples)


@DATASETS.register("esc50", version=1, summary="recordings in the ESC-50 layout, five folds")
def open_esc50(spec: DataSpec, sampling_rate: int, root: Path | None) -> Esc50:
    """Reads metadata and headers of a folder in the ESC-50 layout.

    Raises:
        InputError: no folder, no metadata, a missing column, a broken row or file, or too many
            files missing.
    """
    if root is None:
        raise InputError(
            "needs the folder of the recordings",
            field="data.name",
            value="esc50",
            remedy="Give --data esc50=DIR with meta/esc50.csv and audio/ inside.",
        )
    for name in ("train_clips", "test_clips"):
        if getattr(spec, name) is not None:
            raise InputError(
                "the folds of ESC-50 are used whole",
                field=f"data.{name}",
                value=getattr(spec, name),
                remedy="Leave it out; --folds 1 makes a study shorter.",
            )
    rows = _rows(root)
    clips, missing = _clips(root, rows)
    names = {clip.target: clip.category for clip in clips}
    labels = sorted(names)
    targets = np.zeros((len(clips), len(labels)), dtype=np.float32)
    targets[np.arange(len(clips)), [labels.index(clip.target) for clip in clips]] = 1
    return Esc50(
        fingerprint=_fingerprint(spec, sampling_rate, clips, len(rows), missing, names),
        ids=tuple(clip.path.stem for clip in clips),
        targets=targets,
        sources=tuple(clip.source for clip in clips),
        folds=tuple(sorted({clip.fold for clip in clips})),
        paths=tuple(clip.path for clip in clips),
        fold_of=np.array([clip.fold for clip in clips]),
        sampling_rate=sampling_rate,
        samples=round(spec.seconds * sampling_rate),
    )


def _rows(root: Path) -> list[dict[str, str]]:
    meta = root / "meta" / "esc50.csv"
    if not root.is_dir():
        raise InputError(
            "no such folder", source=root, field="--data esc50", remedy="Mend the path."
        )
    if not meta.is_file():
        raise InputError(
            "no metadata",
            source=meta,
            field="--data esc50",
            remedy="Give the folder that holds meta/esc50.csv and audio/.",
        )
    with meta.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if absent:
            raise InputError(
                "missing columns",
                source=meta,
                field=", ".join(absent),
                remedy=f"ESC-50 has {', '.join(_COLUMNS)}.",
            )
        rows = list(reader)
    if not rows:
        raise InputError("no clips are listed", source=meta, remedy="Give complete metadata.")
    return rows


def _clips(root: Path, rows: list[dict[str, str]]) -> tuple[list[_Clip], list[str]]:
    audio = root / "audio"
    by_stem = {path.stem: path for path in sorted(audio.glob("*")) if path.is_file()}
    clips, missing = [], []
    for number, row in enumerate(rows, start=2):
        path = audio / Path(row["filename"]).name
        if not path.is_file():
            path = by_stem.get(path.stem, path)
        if not path.is_file():
            missing.append(row["filename"])
            continue
        try:
            fold, target = int(row["fold"]), int(row["target"])
        except (TypeError, ValueError):
            raise InputError(
                "fold and target are whole numbers",
                source=root / "meta" / "esc50.csv",
                field=f"line {number}",
                value=(row["fold"], row["target"]),
                remedy="Mend the row.",
            ) from None
        clips.append(
            _Clip(path, fold, target, row["category"], row["src_file"], sampling_rate_of(path))
        )
    if len(missing) > _MOST_MISSING * len(rows):
        raise InputError(
            f"{len(missing)} of {len(rows)} files are missing, first {missing[0]}",
            source=audio,
            remedy=f"At most {100 * _MOST_MISSING:g} % may be.",
        )
    return sorted(clips, key=lambda clip: clip.path.stem), missing


def _fingerprint(
    spec: DataSpec,
    sampling_rate: int,
    clips: list[_Clip],
    expected: int,
    missing: list[str],
    names: dict[int, str],
) -> Fingerprint:
    hasher = hashlib.sha256(f"{spec.seconds} {sampling_rate} {RESAMPLER}\n".encode())
    for clip in clips:
        size = clip.path.stat().st_size
        hasher.update(
            f"{clip.path.name} {clip.fold} {clip.target} {clip.category} {clip.source} "
            f"{clip.rate} {size}\n".encode()
        )
    rates = Counter(str(clip.rate) for clip in clips)
    notes = (f"{len(missing)} files missing: {', '.join(missing[:5])}",) if missing else ()
    return Fingerprint(
        dataset="esc50",
        digest=hasher.hexdigest()[:16],
        expected=expected,
        found=len(clips),
        classes=tuple(names[target] for target in sorted(names)),
        multi_label=False,
        sampling_rates=dict(sorted(rates.items())),
        notes=notes,
    )
