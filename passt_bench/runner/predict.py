"""Predicts classes of audio files of any length, rate and number of channels.

A file is mixed down, resampled to the front end's rate, and padded with zeros at its end to the
length of a training clip, as in training. Audio that is longer than the input of the model is cut
into windows, the last of which ends with the file; a class's probability is the mean over them.
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
    """The prediction for one file.

    Attributes:
        file: path of the file as given.
        seconds: length of the audio.
        windows: number of windows that the probabilities are averaged over.
        classes: names, the most probable first.
        probabilities: probabilities of the classes, in the same order.
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
    """The given files, and all audio files in the given folders, each once.

    Files in a folder are selected by their suffix; a file given by name is always included.

    Raises:
        InputError: a path does not exist, or a folder has no audio files.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(
                    "no audio files in the folder",
                    source=path,
                    remedy=f"Looked for {', '.join(SUFFIXES)}.",
                )
            files |= dict.fromkeys(inside)
        elif path.is_file():
            files[path] = None
        else:
            raise InputError("no such file or folder", source=path, remedy="Check the path.")
    return list(files)


def cut_windows(wave: np.ndarray, clip: int, window: int, hop: int) -> np.ndarray:
    """Windows of a waveform, (windows, samples).

    Args:
        wave: mono samples.
        clip: minimum number of samples; shorter audio is padded with zeros at its end.
        window: number of samples per window; longer audio is cut into windows.
        hop: samples between the starts of windows; the last window ends with the audio.
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
        hop: seconds between the starts of windows; None is a whole window, without overlap.
        device: device of the ensemble.

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
    """Predicts files one by one; a file that cannot be read does not stop the others."""
    out: list[Prediction | Failure] = []
    for number, path in enumerate(paths, start=1):
        try:
            out.append(predict_file(ensemble, path, hop, device))
        except InputError as error:
            out.append(Failure(str(path), str(error)))
        progress(number / len(paths), f"{number} of {len(paths)} files")
    return out


def as_text(results: Sequence[Prediction | Failure], top: int | None) -> str:
    """One block of lines per file, the most probable class first."""
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
    """One row per file and class: file, seconds, windows, rank, class, probability."""
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
    """A list with one object per file: its predictions, or the error."""
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
