"""Predictions for audio files of any length, rate and number of channels.

A file is mixed down, resampled to the front end's rate, and padded with zeros at its end to the
length of a training clip, as in training. What is longer than the model takes at once is cut into
windows, the last of which ends with the file; a class's probability is the mean over them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from passt_bench.console import Progress
from passt_bench.data.audio import SUFFIXES, read_whole
from passt_bench.errors import InputError
from passt_bench.models.ensemble import Ensemble

_BATCH = 8  # windows


@dataclass(frozen=True)
class Prediction:
    """Of one file.

    Attributes:
        file: as it was given.
        seconds: of audio.
        windows: that the probabilities are a mean over.
        classes: names, the most probable first.
        probabilities: of the classes, in the same order.
    """

    file: str
    seconds: float
    windows: int
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """A file without a prediction."""

    file: str
    message: str


def find_audio(paths: Iterable[Path]) -> list[Path]:
    """The files among the paths, and below those that are folders, each once.

    In a folder, what has the ending of an audio file counts; a file given by name always does.

    Raises:
        InputError: a path that is not there, or a folder without audio files.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(
                    "no audio files in the folder",
                    source=path,
                    remedy=f"Looked for {', '.join(SUFFIXES)}.",
                )
            found |= dict.fromkeys(inside)
        elif path.is_file():
            found[path] = None
        else:
            raise InputError("no such file or folder", source=path, remedy="Check the path.")
    return list(found)


def cut_windows(wave: np.ndarray, clip: int, window: int, hop: int) -> np.ndarray:
    """Windows of a waveform, (windows, samples).

    Args:
        wave: mono samples.
        clip: shorter audio is padded with zeros at its end to that many samples.
        window: longer audio is cut into windows of that many.
        hop: from the start of one window to that of the next; the last ends with the audio.
    """
    if len(wave) < clip:
        wave = np.pad(wave, (0, clip - len(wave)))
    if len(wave) <= window:
        return wave[None]
    last = len(wave) - window
    starts = [*range(0, last, hop), last]
    return np.stack([wave[start : start + window] for start in starts])


@torch.no_grad()
def predict_file(
    ensemble: Ensemble, path: Path, hop: float | None = None, device: str = "cpu"
) -> Prediction:
    """Predicts one file.

    Args:
        ensemble: one model or several.
        path: an audio file.
        hop: seconds from one window to the next; None is a whole window, so that none overlap.
        device: where the ensemble is.

    Raises:
        InputError: the file cannot be read as audio.
    """
    rate = ensemble.sampling_rate
    wave = read_whole(path, rate)
    window = round(ensemble.window * rate)
    step = window if hop is None else max(1, round(hop * rate))
    windows = cut_windows(wave, round(ensemble.clip * rate), window, step)
    parts = []
    for start in range(0, len(windows), _BATCH):
        x = torch.from_numpy(np.ascontiguousarray(windows[start : start + _BATCH])).to(device)
        parts.append(ensemble.probabilities(ensemble(x)).double().cpu())
    mean = torch.cat(parts).mean(dim=0)
    order = torch.argsort(mean, descending=True, stable=True).tolist()
    return Prediction(
        file=str(path),
        seconds=len(wave) / rate,
        windows=len(windows),
        classes=tuple(ensemble.classes[index] for index in order),
        probabilities=tuple(float(mean[index]) for index in order),
    )


def predict_files(
    ensemble: Ensemble,
    paths: Sequence[Path],
    hop: float | None = None,
    device: str = "cpu",
    progress: Progress = lambda share, text: None,
) -> list[Prediction | Failure]:
    """Predicts file after file; one that cannot be read does not stop the others."""
    out: list[Prediction | Failure] = []
    for number, path in enumerate(paths, start=1):
        try:
            out.append(predict_file(ensemble, path, hop, device))
        except InputError as error:
            out.append(Failure(str(path), str(error)))
        progress(number / len(paths), f"{number} of {len(paths)} files")
    return out


def as_text(results: Sequence[Prediction | Failure], top: int | None) -> str:
    """A block of lines a file, the most probable class first."""
    lines = []
    for result in results:
        if isinstance(result, Failure):
            lines.append(f"{result.file}: no prediction")
        else:
            windows = f"{result.windows} window" + ("s" if result.windows != 1 else "")
            lines.append(f"{result.file} ({result.seconds:.2f} s, {windows})")
            lines += [f"  {p:.4f}  {name}" for name, p in _top(result, top)]
    return "\n".join(lines) + "\n"


def as_csv(results: Sequence[Prediction | Failure], top: int | None) -> str:
    """A row a file and class: file, seconds, windows, rank, class, probability."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("file", "seconds", "windows", "rank", "class", "probability"))
    for result in results:
        if isinstance(result, Prediction):
            head = (result.file, f"{result.seconds:.6g}", result.windows)
            for rank, (name, p) in enumerate(_top(result, top), start=1):
                writer.writerow((*head, rank, name, f"{p:.6g}"))
    return out.getvalue()


def as_json(results: Sequence[Prediction | Failure], top: int | None) -> str:
    """A list with an object a file: its predictions, or the error."""
    plain: list[dict[str, object]] = []
    for result in results:
        if isinstance(result, Failure):
            plain.append({"file": result.file, "error": result.message})
        else:
            named = [{"class": name, "probability": p} for name, p in _top(result, top)]
            facts = {"file": result.file, "seconds": result.seconds, "windows": result.windows}
            plain.append({**facts, "predictions": named})
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _top(result: Prediction, top: int | None) -> list[tuple[str, float]]:
    return list(zip(result.classes, result.probabilities, strict=True))[:top]
