"""Recordings in the ESC-50 layout: ``meta/esc50.csv`` and ``audio/`` (Piczak 2015).

Any subset of classes and clips, any audio format that soundfile reads, any sampling rate and number
of channels. Where a named file is not there but one that differs in its ending alone is, that one
is taken. A clip that is missing, cut off or holds no audio is counted and named in the fingerprint,
and is left out; of more than one in twenty the folder is refused.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data.dataset import Dataset, Incomplete
from passt_bench.data.decode import RESAMPLER, Header, read_header, read_waveform, read_whole
from passt_bench.data.described import some
from passt_bench.data.splits import limited
from passt_bench.data.survey import Lost, Survey
from passt_bench.errors import InputError
from passt_bench.record import Fingerprint
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

_COLUMNS = ("filename", "fold", "target", "category", "src_file")
_MOST_LOST = 0.05  # share of the rows whose file may be missing or broken


@dataclass(frozen=True)
class _Clip:
    path: Path
    fold: int
    target: int
    category: str
    source: str
    header: Header


@dataclass(frozen=True, eq=False)
class Esc50(Dataset):
    """A folder in the ESC-50 layout; each clip carries one class."""

    paths: tuple[Path, ...]
    fold_of: np.ndarray
    spec: DataSpec
    sampling_rate: int
    found: Survey

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """All other folds, and the fold held out; less of each where the spec says so."""
        if fold not in self.folds:
            raise InputError(
                "no such fold", field="fold", value=fold, remedy=f"There are {self.folds}."
            )
        held_out = self.fold_of == fold
        train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        return (
            limited(train, self.targets, self.spec.train_clips, "data.train_clips"),
            limited(test, self.targets, self.spec.test_clips, "data.test_clips"),
        )

    def survey(self) -> Survey:
        """What was found, clip by clip."""
        return self.found

    def sound(self, index: int) -> Path:
        """The audio file of a clip."""
        return self.paths[index]

    def waveform(self, index: int) -> np.ndarray:
        """Decoded, mixed down, resampled, cut or padded to the spec's length."""
        samples = round(self.spec.seconds * self.sampling_rate)
        return read_waveform(self.paths[index], self.sampling_rate, samples)

    def whole(self, index: int) -> np.ndarray:
        """All samples of a clip."""
        return read_whole(self.paths[index], self.sampling_rate)


@DATASETS.register("esc50", version=1, summary="recordings in the ESC-50 layout, five folds")
def open_esc50(spec: DataSpec, sampling_rate: int, root: Path | None) -> Esc50:
    """Reads metadata and headers of a folder in the ESC-50 layout.

    Args:
        spec: clip length; numbers of clips of each split (default all; else that many, in turn
            over the classes).
        sampling_rate: Hz, to which all files are resampled.
        root: the folder with ``meta/`` and ``audio/``.

    Raises:
        InputError: no folder, no metadata, a missing column, a broken row, too many files missing
            or broken, a single fold, or more clips asked for than there are.
    """
    if root is None:
        raise InputError(
            "needs the folder of the recordings",
            field="data.name",
            value="esc50",
            remedy="Give --data esc50=DIR with meta/esc50.csv and audio/ inside.",
        )
    rows = _rows(root)
    clips, gone = _clips(root, rows)
    lost = [f"{row['filename']} ({reason})" for row, reason in gone]
    labels = sorted({clip.target for clip in clips})
    targets = np.zeros((len(clips), len(labels)), dtype=np.float32)
    targets[np.arange(len(clips)), [labels.index(clip.target) for clip in clips]] = 1
    folds = tuple(sorted({clip.fold for clip in clips}))
    dataset = Esc50(
        fingerprint=_fingerprint(spec, sampling_rate, clips, len(rows), lost),
        ids=tuple(clip.path.stem for clip in clips),
        targets=targets,
        sources=tuple(clip.source for clip in clips),
        folds=folds,
        paths=tuple(clip.path for clip in clips),
        fold_of=np.array([clip.fold for clip in clips]),
        spec=spec,
        sampling_rate=sampling_rate,
        found=_survey(root, clips, rows, gone),
    )
    _check_lost(root, len(rows), lost, dataset)
    if len(folds) < 2:
        raise InputError(
            "one fold alone leaves nothing to train on",
            source=root,
            field="fold",
            value=folds,
            remedy="Give clips of at least two folds.",
        )
    for fold in folds:
        dataset.split(fold)  # refuses too few clips now rather than in the midst of a study
    return dataset


def _rows(root: Path) -> list[dict[str, str]]:
    meta = root / "meta" / "esc50.csv"
    for path, what in ((root, "no such folder"), (meta, "no metadata")):
        if not path.exists():
            raise InputError(
                what,
                source=path,
                field="--data esc50",
                remedy="Give the folder that holds meta/esc50.csv and audio/.",
            )
    try:
        with meta.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(
            f"not a CSV file in UTF-8 ({error})", source=meta, remedy="Give complete metadata."
        ) from None
    if absent:
        raise InputError(
            "missing columns",
            source=meta,
            field=", ".join(absent),
            remedy=f"ESC-50 has {', '.join(_COLUMNS)}.",
        )
    if not rows:
        raise InputError("no clips are listed", source=meta, remedy="Give complete metadata.")
    _check_rows(rows, meta)
    return rows


def _check_rows(rows: list[dict[str, str]], meta: Path) -> None:
    """Refuses rows from which labels or folds cannot be told beyond doubt."""
    stems: set[str] = set()
    categories: dict[int, str] = {}
    for line, row in enumerate(rows, start=2):
        field, problem = _problem(row, stems, categories)
        if problem:
            raise InputError(
                problem,
                source=f"{meta} line {line}",
                field=field,
                value=row[field],
                remedy="Mend or remove the row.",
            )
        stems.add(Path(row["filename"]).stem)
        categories[int(row["target"])] = row["category"]


def _problem(row: dict[str, str], stems: set[str], categories: dict[int, str]) -> tuple[str, str]:
    """The field and what is wrong with it; an empty problem where all is right."""
    for field in _COLUMNS:
        if not row[field]:
            return field, "empty"
    if None in row:  # where the reader puts what has no column
        return "src_file", "the row has more values than there are columns"
    for field in ("fold", "target"):
        if not row[field].isdecimal():
            return field, "not a whole number"
    if Path(row["filename"]).stem in stems:
        return "filename", "listed twice (endings do not count)"
    known = categories.get(int(row["target"]), row["category"])
    if known != row["category"]:
        return "category", f"target {row['target']} is called {known!r} above"
    return "filename", ""


def _clips(
    root: Path, rows: list[dict[str, str]]
) -> tuple[list[_Clip], list[tuple[dict[str, str], str]]]:
    """The clips that are there, sorted by name, and the rows of those that are not, with why."""
    audio = root / "audio"
    by_stem = {path.stem: path for path in sorted(audio.glob("*")) if path.is_file()}
    clips: list[_Clip] = []
    lost: list[tuple[dict[str, str], str]] = []
    for row in rows:
        path = audio / Path(row["filename"]).name
        path = path if path.is_file() else by_stem.get(path.stem, path)
        try:
            header = read_header(path)
        except InputError as error:
            lost.append((row, error.problem))
            continue
        fold, target = int(row["fold"]), int(row["target"])
        clips.append(_Clip(path, fold, target, row["category"], row["src_file"], header))
    return sorted(clips, key=lambda clip: clip.path.stem), lost


def _check_lost(root: Path, rows: int, lost: list[str], left: Esc50) -> None:
    """Refuses a folder of which too much is gone."""
    if len(lost) > _MOST_LOST * rows:
        refusal = Incomplete(
            f"{len(lost)} of {rows} files are missing or hold no audio",
            source=root / "audio",
            field="filename",
            value=some(lost, lost),
            remedy=f"At most {100 * _MOST_LOST:g} % may be; bring the files, or remove their rows "
            "from meta/esc50.csv.",
        )
        refusal.dataset = left
        raise refusal


def _survey(
    root: Path,
    clips: list[_Clip],
    rows: list[dict[str, str]],
    lost: list[tuple[dict[str, str], str]],
) -> Survey:
    listed = [int(row["fold"]) for row in rows]
    folds = sorted(set(listed))
    headers = [clip.header for clip in clips]
    return Survey(
        root=root / "audio",
        splits=tuple(f"fold {fold}" for fold in folds),
        expected=tuple(listed.count(fold) for fold in folds),
        names=[clip.path.stem for clip in clips],
        split=np.array([folds.index(clip.fold) for clip in clips], dtype=np.int8),
        sources=[clip.source for clip in clips],
        seconds=np.array([header.frames / header.rate for header in headers], dtype=np.float32),
        rates=np.array([header.rate for header in headers], dtype=np.int32),
        channels=np.array([header.channels for header in headers], dtype=np.int16),
        lost=Lost(
            [row["filename"] for row, _ in lost],
            np.array([folds.index(int(row["fold"])) for row, _ in lost], dtype=np.int8),
            [reason for _, reason in lost],
            [[row["category"]] for row, _ in lost],
        ),
        files=[clip.path.name for clip in clips],
        file=np.arange(len(clips), dtype=np.int32),
    )


def _fingerprint(
    spec: DataSpec, sampling_rate: int, clips: list[_Clip], expected: int, lost: list[str]
) -> Fingerprint:
    # What is found, not what is used of it: the numbers of clips stand in the recipe.
    hasher = hashlib.sha256(f"{spec.seconds} {sampling_rate} {RESAMPLER}\n".encode())
    for clip in clips:
        hasher.update(
            f"{clip.path.name} {clip.fold} {clip.target} {clip.category} {clip.source} "
            f"{clip.header.rate} {clip.path.stat().st_size}\n".encode()
        )
    rates = Counter(str(clip.header.rate) for clip in clips)
    others = sum(clip.header.rate != sampling_rate for clip in clips)
    mixed = sum(clip.header.channels > 1 for clip in clips)
    found = (
        (len(lost), f"{len(lost)} files missing or without audio, left out: {some(lost, lost)}"),
        (others, f"{others} clips resampled to {sampling_rate} Hz by {RESAMPLER}"),
        (mixed, f"{mixed} clips of several channels mixed to one"),
    )
    return Fingerprint(
        dataset="esc50",
        digest=hasher.hexdigest()[:16],
        expected=expected,
        found=len(clips),
        classes=tuple(name for _, name in sorted({(c.target, c.category) for c in clips})),
        multi_label=False,
        sampling_rates=dict(sorted(rates.items())),
        notes=tuple(note for count, note in found if count),
    )
