"""Predicts classes of audio files of any length, rate and number of channels.

A file is mixed down, resampled to the front end's rate, and padded with zeros at its end to the
length of a training clip, as in training. Audio that is longer than the input of the model is cut
into windows, the last of which ends with the file; a class's probability is their mean or maximum.
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
from typing import Literal, cast
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import torch

from passt_bench.console import Progress, csv_text
from passt_bench.data.audio import read_waveform
from passt_bench.data.opening import SUFFIXES
from passt_bench.data.scan import audio_below
from passt_bench.errors import InputError
from passt_bench.measure.memory import failure_status
from passt_bench.models.base import capture_features
from passt_bench.models.ensemble import Ensemble, Member
from passt_bench.records.run import count_of
from passt_bench.spec.study import patchout_text
from passt_bench.training.engine import CPU, Engine

_BATCH = 8  # windows


Probabilities = tuple[tuple[str, float], ...]  # of the classes, the most probable first
Pool = Literal["mean", "max"]


@dataclass(frozen=True)
class Window:
    """A part of a file that the model heard at once."""

    start: float  # seconds
    end: float
    probabilities: Probabilities
    embedding: np.ndarray  # (D,) float32, see `AudioModel.embedding`; of an ensemble, one by one


@dataclass(frozen=True)
class Prediction:
    """The prediction for one file, or why there is none."""

    file: str  # as given
    seconds: float = 0.0
    windows: tuple[Window, ...] = ()
    probabilities: Probabilities = ()  # pooled over the windows
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
    ensemble: Ensemble,
    path: Path,
    hop: float | None = None,
    engine: Engine = CPU,
    pool: Pool = "mean",
) -> Prediction:
    """Predicts one file; ``hop`` is in seconds, None is a whole window.

    The probabilities of the file are the mean or the maximum over its windows (``pool``). Patches
    that the ensemble drops depend on a window's place in its file, not on other files.

    Raises:
        InputError: the file cannot be read as audio.
    """
    rate = ensemble.sampling_rate
    wave = read_waveform(path, rate)
    window = round(ensemble.window * rate)
    step = window if hop is None else max(1, round(hop * rate))
    length = max(round(ensemble.clip * rate), min(window, len(wave)))
    last = max(0, len(wave) - length)
    found: list[np.ndarray] = []
    embeddings: list[np.ndarray] = []
    count = 0
    members = cast(list[Member], list(ensemble.members))
    with capture_features(*(member.net for member in members)) as features:
        for windows in cut_windows(wave, round(ensemble.clip * rate), window, step):
            logits = engine.infer(partial(ensemble, first=count), torch.from_numpy(windows))
            found.append(ensemble.probabilities(logits).double().cpu().numpy())
            embeddings.append(torch.cat(features, dim=1).float().cpu().numpy())
            features.clear()
            count += len(windows)
    each, embedded = np.concatenate(found), np.concatenate(embeddings)
    pooled = each.mean(axis=0) if pool == "mean" else each.max(axis=0)
    if not np.isfinite(pooled).all():
        raise InputError("the model gives no numbers for it", source=path, remedy="Listen to it.")

    def named(values: np.ndarray) -> Probabilities:
        order = np.argsort(-values, kind="stable").tolist()
        return tuple((ensemble.classes[index], float(values[index])) for index in order)

    spans = []
    for number in range(count):
        start = min(step * number, last) / rate
        spans.append((start, min(start + length / rate, len(wave) / rate)))
    parts = tuple(
        Window(*span, named(values), own)
        for span, values, own in zip(spans, each, embedded, strict=True)
    )
    tokens = ensemble.tokens(length / rate)
    dropped = patchout_text(ensemble.patchout, tokens) if ensemble.patchout.kind != "none" else ""
    return Prediction(str(path), len(wave) / rate, parts, named(pooled), dropped)


def predict_files(
    ensemble: Ensemble,
    paths: Sequence[Path],
    hop: float | None = None,
    engine: Engine = CPU,
    pool: Pool = "mean",
    progress: Progress = lambda share, text: None,
) -> list[Prediction]:
    """Predicts files one by one; a file that cannot be read does not stop the others."""
    out = []
    for number, path in enumerate(paths, start=1):
        try:
            out.append(predict_file(ensemble, path, hop, engine, pool))
        except InputError as error:
            out.append(Prediction(str(path), error=str(error)))
        except (MemoryError, RuntimeError) as error:
            if failure_status(error) != "oom":
                raise
            out.append(Prediction(str(path), error=f"{path}: not enough memory for it."))
        progress(number / len(paths), f"{number} of {len(paths)} files")
    return out


def as_text(results: Sequence[Prediction], top: int | None, by_window: bool = False) -> str:
    """One block of lines per file, or per window, the most probable class first."""
    lines = []
    for result in results:
        if result.error:
            lines.append(f"{result.file}: no prediction")
            continue
        windows = count_of(len(result.windows), "window")
        windows += f"; patchout {result.patchout}" if result.patchout else ""
        lines.append(f"{result.file} ({result.seconds:.2f} s, {windows})")
        for part in result.windows if by_window else (result,):
            if isinstance(part, Window):
                lines.append(f" {part.start:.2f} to {part.end:.2f} s")
            lines += [f"  {p:.4f}  {name}" for name, p in part.probabilities[:top]]
    return "\n".join(lines) + "\n"


def as_csv(results: Sequence[Prediction], top: int | None, by_window: bool = False) -> str:
    """One row per file and class: file, seconds, windows, rank, class, probability, patchout.

    By window the columns start and end (seconds) replace seconds and windows. File and class follow
    a quote where a spreadsheet would read a formula.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    more = ("patchout",) if any(result.patchout for result in results) else ()
    span = ("start", "end") if by_window else ("seconds", "windows")
    writer.writerow(("file", *span, "rank", "class", "probability", *more))
    for result in results:
        tail, file = (result.patchout,) if more else (), csv_text(result.file)
        for part in result.windows if by_window else (result,):
            if isinstance(part, Window):
                head = (file, f"{part.start:.6g}", f"{part.end:.6g}")
            else:
                head = (file, f"{result.seconds:.6g}", str(len(result.windows)))
            for rank, (name, p) in enumerate(part.probabilities[:top], start=1):
                writer.writerow((*head, rank, csv_text(name), f"{p:.6g}", *tail))
    return out.getvalue()


def as_json(results: Sequence[Prediction], top: int | None, by_window: bool = False) -> str:
    """A list with one object per file: its predictions, also by window, or the error."""

    def named(part: Window | Prediction) -> list[dict[str, object]]:
        return [{"class": n, "probability": p} for n, p in part.probabilities[:top]]

    plain: list[dict[str, object]] = []
    for result in results:
        if result.error:
            plain.append({"file": result.file, "error": result.error})
            continue
        facts: dict[str, object] = {"file": result.file, "seconds": result.seconds}
        facts["windows"] = len(result.windows)
        facts |= {"patchout": result.patchout} if result.patchout else {}
        facts["predictions"] = named(result)
        if by_window:
            facts["by_window"] = [
                {"start": part.start, "end": part.end, "predictions": named(part)}
                for part in result.windows
            ]
        plain.append(facts)
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_npz(results: Sequence[Prediction]) -> bytes:
    """Embeddings of all windows as ``embedding`` (rows, D), ``file``, ``start`` and ``end``."""
    rows = [(result.file, part) for result in results for part in result.windows]
    arrays = {
        "embedding": np.stack([part.embedding for _, part in rows]) if rows else np.zeros((0, 0)),
        "file": np.array([file for file, _ in rows]),
        "start": np.array([part.start for _, part in rows]),
        "end": np.array([part.end for _, part in rows]),
    }
    out = io.BytesIO()
    # Not by np.savez, which has a parameter of its own called file.
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return out.getvalue()
