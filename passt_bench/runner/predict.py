"""Predicts classes of audio files of any length, rate and number of channels.

A file is mixed down, resampled to the front end's rate, and padded with zeros at its end to the
length of a training clip, as in training. Audio that is longer than the input of the model is cut
into windows, the last of which ends with the file; a class's probability is the mean over them.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from passt_bench.console import Progress
from passt_bench.data.audio import read_whole
from passt_bench.data.opening import SUFFIXES
from passt_bench.data.scan import audio_below
from passt_bench.errors import InputError
from passt_bench.measure.memory import failure_status
from passt_bench.models.ensemble import Ensemble
from passt_bench.spec.study import patchout_text
from passt_bench.training.engine import CPU, Engine

_BATCH = 8  # windows


@dataclass(frozen=True)
class Prediction:
    """The prediction for one file, or why there is none."""

    file: str  # as given
    seconds: float = 0.0
    windows: int = 0  # that the probabilities are averaged over
    probabilities: tuple[tuple[str, float], ...] = ()  # of the classes, the most probable first
    patchout: str = ""  # the setting and the tokens of a window, if patches were dropped
    error: str = ""


def find_audio(paths: Iterable[Path]) -> tuple[list[Path], str]:
    """The given files, and all audio files in the given folders, each once; and what was skipped.

    Files in a folder are selected by their suffix; a file given by name is always included.

    Raises:
        InputError: a path does not exist, or a folder has no audio files.
    """
    files: dict[Path, None] = {}
    others = Counter[str]()
    for path in paths:
        if path.is_dir():
            inside = sorted(path / name for name in audio_below(path, "", others))
            if not inside:
                remedy = f"Looked for {', '.join(SUFFIXES)}."
                raise InputError("no audio files in the folder", source=path, remedy=remedy)
            files |= dict.fromkeys(inside)
        elif path.is_file():
            files[path] = None
        else:
            raise InputError("no such file or folder", source=path, remedy="Check the path.")
    return list(files), ", ".join(f"{n} {suffix or 'without'}" for suffix, n in others.items())


def cut_windows(wave: np.ndarray, clip: int, window: int, hop: int) -> Iterator[np.ndarray]:
    """Windows of mono samples, a few at a time, (at most 8, samples).

    Audio that is shorter than a clip is padded with zeros at its end; the last window ends with it.
    """
    if len(wave) < clip:
        wave = np.pad(wave, (0, clip - len(wave)))
    last = max(0, len(wave) - window)
    count = -(-last // hop) + 1
    for first in range(0, count, _BATCH):
        starts = (min(hop * n, last) for n in range(first, min(first + _BATCH, count)))
        yield np.stack([wave[start : start + window] for start in starts])


def predict_file(
    ensemble: Ensemble, path: Path, hop: float | None = None, engine: Engine = CPU
) -> Prediction:
    """Predicts one file; ``hop`` is in seconds, None is a whole window.

    Patches that the ensemble drops depend on a window's place in its file, not on other files.

    Raises:
        InputError: the file cannot be read as audio.
    """
    rate = ensemble.sampling_rate
    wave = read_whole(path, rate)
    window = round(ensemble.window * rate)
    step = window if hop is None else max(1, round(hop * rate))
    count, length, total = 0, 0, torch.zeros(len(ensemble.classes), dtype=torch.float64)
    for windows in cut_windows(wave, round(ensemble.clip * rate), window, step):
        logits = engine.infer(partial(ensemble, first=count), torch.from_numpy(windows))
        total += ensemble.probabilities(logits).double().cpu().sum(dim=0)
        count, length = count + len(windows), windows.shape[1]
    mean = total / count
    if not bool(torch.isfinite(mean).all()):
        raise InputError("the model gives no numbers for it", source=path, remedy="Listen to it.")
    order = torch.argsort(mean, descending=True, stable=True).tolist()
    named = tuple((ensemble.classes[index], float(mean[index])) for index in order)
    tokens = ensemble.tokens(length / rate)
    dropped = patchout_text(ensemble.patchout, tokens) if ensemble.patchout.kind != "none" else ""
    return Prediction(str(path), len(wave) / rate, count, named, dropped)


def predict_files(
    ensemble: Ensemble,
    paths: Sequence[Path],
    hop: float | None = None,
    engine: Engine = CPU,
    progress: Progress = lambda share, text: None,
) -> list[Prediction]:
    """Predicts files one by one; a file that cannot be read does not stop the others."""
    out = []
    for number, path in enumerate(paths, start=1):
        try:
            out.append(predict_file(ensemble, path, hop, engine))
        except InputError as error:
            out.append(Prediction(str(path), error=str(error)))
        except (MemoryError, RuntimeError) as error:
            if failure_status(error) != "oom":
                raise
            out.append(Prediction(str(path), error=f"{path}: not enough memory for it."))
        progress(number / len(paths), f"{number} of {len(paths)} files")
    return out


def as_text(results: Sequence[Prediction], top: int | None) -> str:
    """One block of lines per file, the most probable class first."""
    lines = []
    for result in results:
        if result.error:
            lines.append(f"{result.file}: no prediction")
        else:
            windows = f"{result.windows} window" + ("s" if result.windows != 1 else "")
            windows += f"; patchout {result.patchout}" if result.patchout else ""
            lines.append(f"{result.file} ({result.seconds:.2f} s, {windows})")
            lines += [f"  {p:.4f}  {name}" for name, p in result.probabilities[:top]]
    return "\n".join(lines) + "\n"


def as_csv(results: Sequence[Prediction], top: int | None) -> str:
    """One row per file and class: file, seconds, windows, rank, class, probability, patchout."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    more = ("patchout",) if any(result.patchout for result in results) else ()
    writer.writerow(("file", "seconds", "windows", "rank", "class", "probability", *more))
    for result in results:
        head = (result.file, f"{result.seconds:.6g}", result.windows)
        tail = (result.patchout,) if more else ()
        for rank, (name, p) in enumerate(result.probabilities[:top], start=1):
            writer.writerow((*head, rank, name, f"{p:.6g}", *tail))
    return out.getvalue()


def as_json(results: Sequence[Prediction], top: int | None) -> str:
    """A list with one object per file: its predictions, or the error."""
    plain: list[dict[str, object]] = []
    for result in results:
        if result.error:
            plain.append({"file": result.file, "error": result.error})
        else:
            named = [{"class": n, "probability": p} for n, p in result.probabilities[:top]]
            facts = {"file": result.file, "seconds": result.seconds, "windows": result.windows}
            facts |= {"patchout": result.patchout} if result.patchout else {}
            plain.append({**facts, "predictions": named})
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
