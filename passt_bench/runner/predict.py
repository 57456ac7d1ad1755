"""Predicts classes of audio files of any length, rate and number of channels.

A file is mixed down, resampled to the front end's rate, and padded with zeros at its end to the
length of a training clip, as in training. Audio that is longer than the input of the model is cut
into windows, the last of which ends with the file, unless it would add less than 1 % of a window; a
class's probability is their mean or maximum.
Windows are read, predicted and written a few at a time: memory does not grow with their number.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, Literal, NamedTuple, cast
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import torch

from passt_bench.console import Progress, csv_text, one_line
from passt_bench.data.audio import length_at, read_header, read_waveform
from passt_bench.data.contents import cancelled
from passt_bench.data.opening import SUFFIXES, opened
from passt_bench.data.scan import audio_below
from passt_bench.errors import InputError, failure_status
from passt_bench.models.base import capture_features
from passt_bench.models.ensemble import Ensemble, Member
from passt_bench.records.files import writing
from passt_bench.records.run import count_of
from passt_bench.spec.study import patchout_text
from passt_bench.training.engine import CPU, Engine

CANCELLED = "its channels cancel"
_BATCH = 8  # windows
_ROWS = 1024  # windows whose embeddings are written at a time

Probabilities = tuple[tuple[str, float], ...]  # of the classes, the most probable first
Pool = Literal["mean", "max"]


class Window(NamedTuple):
    """A part of a file that the model heard at once; start and end in seconds."""

    start: float
    end: float
    probabilities: Probabilities


@dataclass(frozen=True)
class Windows:
    """The windows of one file, read one by one from a file of rows; without that only counted."""

    number: int
    # float64: start, end, the probabilities, and the embedding (D,), see `AudioModel.embedding`; of
    # an ensemble, one by one.
    rows: BinaryIO | None = None
    first: int = 0  # the place of the first in it, in bytes
    width: int = 0  # numbers in a row
    name: Callable[[np.ndarray], Probabilities] = lambda values: ()
    classes: int = 0

    def __len__(self) -> int:
        return self.number

    def blocks(self, size: int = 1) -> Iterator[np.ndarray]:
        """Rows (at most ``size``, width), in order."""
        for at in range(0, self.number if self.rows else 0, size):
            assert self.rows is not None
            self.rows.seek(self.first + 8 * self.width * at)
            wanted = 8 * self.width * min(size, self.number - at)
            yield np.frombuffer(self.rows.read(wanted)).reshape(-1, self.width)

    def __iter__(self) -> Iterator[Window]:
        for (row,) in self.blocks():
            yield Window(float(row[0]), float(row[1]), self.name(row[2 : 2 + self.classes]))


@dataclass(frozen=True)
class Prediction:
    """The prediction for one file, or why there is none."""

    file: str  # as given
    seconds: float = 0.0
    windows: Windows = Windows(0)
    probabilities: Probabilities = ()  # pooled over the windows
    patchout: str = ""  # the setting and the tokens of a window, if patches were dropped
    notes: tuple[str, ...] = ()  # on the model, see `Ensemble`
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


def place_windows(total: int, clip: int, window: int, hop: int) -> tuple[int, int, int]:
    """The length of the windows of audio, where the last begins, and their number; in samples.

    Audio that is shorter than a clip has one of that length; else the last ends with the audio, but
    is dropped if it would add less than 1 % of a window: many a clip of 5 s has some samples more.
    """
    length = max(clip, min(window, total))
    last = max(0, total - length)
    count = -(-last // hop) + 1
    return length, last, count - (count > 1 and last - hop * (count - 2) < length / 100)


def cut_windows(
    read: Callable[[int, int], np.ndarray], length: int, last: int, count: int, hop: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Where windows begin, and their samples, a few at a time, (at most 8, length).

    ``read(start, samples)`` gives a part of the audio, with zeros behind its end.
    """
    for first in range(0, count, _BATCH):
        starts = [min(hop * n, last) for n in range(first, min(first + _BATCH, count))]
        if hop > length:
            yield starts, np.stack([read(start, length) for start in starts])
        else:  # overlapping ones are read together
            wave = read(starts[0], starts[-1] - starts[0] + length)
            yield starts, np.stack([wave[start - starts[0] :][:length] for start in starts])


def predict_file(
    ensemble: Ensemble,
    path: Path,
    hop: float | None = None,
    engine: Engine = CPU,
    pool: Pool = "mean",
    *,
    decide: bool = False,
    rows: BinaryIO | None = None,
) -> Prediction:
    """Predicts one file; ``hop`` is in seconds, None is a whole window.

    The probabilities of the file are the mean or the maximum over its windows (``pool``). With
    ``decide`` there are only those of the classes that `Ensemble.decide` chooses. Patches that the
    ensemble drops depend on a window's place in its file, not on other files. Windows are appended
    to the file of ``rows``, if there is one.

    Raises:
        InputError: the file cannot be read as audio.
    """

    def named(values: np.ndarray) -> Probabilities:
        order = np.argsort(-values, kind="stable")
        chosen = order[ensemble.decide(values)[order]] if decide else order
        return tuple((ensemble.classes[index], float(values[index])) for index in chosen.tolist())

    rate, members = ensemble.sampling_rate, cast(list[Member], list(ensemble.members))
    step = round((ensemble.window if hop is None else hop) * rate) or 1
    place, done, pooled = rows.seek(0, 2) if rows else 0, 0, np.zeros(len(ensemble.classes))
    header = read_header(path, thorough=True)
    total = length_at(header, rate)
    sizes = round(ensemble.clip * rate), round(ensemble.window * rate)
    length, last, count = place_windows(total, *sizes, step)

    def parts() -> Iterator[tuple[list[int], np.ndarray]]:
        with opened(path) as file:  # one that cannot seek is opened again for each part
            read = partial(read_waveform, path, rate, file=file if file.seekable() else None)
            yield from cut_windows(lambda at, n: read(n, at), length, last, count, step)

    with capture_features(*(member.net for member in members)) as features:
        for starts, windows in parts():
            logits = engine.infer(partial(ensemble, first=done), torch.from_numpy(windows))
            values = ensemble.probabilities(logits).double().cpu().numpy()
            done += len(values)
            most = np.maximum(pooled, values.max(axis=0))
            pooled = pooled + values.sum(axis=0) if pool == "mean" else most
            spans = np.column_stack([starts, np.minimum(np.add(starts, length), total)]) / rate
            table = np.hstack([spans, values, torch.cat(features, dim=1).double().cpu().numpy()])
            features.clear()
            if rows is not None:
                rows.write(table.tobytes())
    pooled = pooled / count if pool == "mean" else pooled
    if not np.isfinite(pooled).all():
        raise InputError("the model gives no numbers for it", source=path, remedy="Listen to it.")
    tokens = ensemble.tokens(length / rate)
    dropped = patchout_text(ensemble.patchout, tokens) if ensemble.patchout.kind != "none" else ""
    found = Windows(count, rows, place, table.shape[1], named, len(pooled))
    notes = ensemble.notes
    if header.channels > 1:  # of overlapping windows, few are judged
        judged = [*range(0, count - 1, max(1, length // step)), count - 1]
        begins = [min(step * each, last) / rate for each in judged]
        mute = cancelled(path, [(at, min(at + length / rate, total / rate)) for at in begins])
        partly = "" if all(mute) else " in a part of it"
        left = "mixed to one, hardly anything is left"
        notes += (f"{CANCELLED}{partly}: {left}",) if any(mute) else ()
    return Prediction(str(path), total / rate, found, named(pooled), dropped, notes=notes)


def predict_files(
    ensemble: Ensemble,
    paths: Sequence[Path],
    *settings: Any,
    progress: Progress = lambda share, text: None,
    **more: Any,
) -> Iterator[Prediction]:
    """Predicts files one by one, see `predict_file`; one that cannot be read stops no others."""
    for number, path in enumerate(paths, start=1):
        try:
            yield predict_file(ensemble, path, *settings, **more)
        except InputError as error:
            yield Prediction(str(path), error=str(error))
        except (MemoryError, RuntimeError) as error:
            if failure_status(error) != "oom":
                raise
            yield Prediction(str(path), error=f"{path}: not enough memory for it.")
        progress(number / len(paths), f"{number} of {len(paths)} files")


def as_text(
    results: Iterable[Prediction], top: int | None, by_window: bool = False
) -> Iterator[str]:
    """One block of lines per file, or per window, the most probable class first."""
    for result in results:
        file = one_line(result.file)
        if result.error:
            yield f"{file}: no prediction\n"
            continue
        windows = count_of(len(result.windows), "window")
        windows += f"; patchout {result.patchout}" if result.patchout else ""
        windows += "".join(f"; {note}" for note in result.notes if note.startswith(CANCELLED))
        yield f"{file} ({result.seconds:.2f} s, {windows})\n"
        for part in result.windows if by_window else (result,):
            if isinstance(part, Window):
                yield f" {part.start:.2f} to {part.end:.2f} s\n"
            lines = [f"  {p:.4f}  {name}\n" for name, p in part.probabilities[:top]]
            yield "".join(lines) or "  no class\n"


def as_csv(
    results: Iterable[Prediction], top: int | None, by_window: bool = False, dropped: bool = False
) -> Iterator[str]:
    """One row per file and class: file, seconds, windows, rank, class, probability.

    By window the columns start and end (seconds) replace seconds and windows; if patches were
    ``dropped``, there is a column patchout. Where no class was decided, rank and class are empty.
    File and class follow a quote where a spreadsheet would read a formula.
    """
    # A writer returns what the ``write`` that it is given returns.
    row: Any = csv.writer(SimpleNamespace(write=str), lineterminator="\n").writerow
    span = ("start", "end") if by_window else ("seconds", "windows")
    yield row(["file", *span, "rank", "class", "probability", *["patchout"] * dropped])
    for result in results:
        for part in result.windows if by_window else () if result.error else (result,):
            head = [csv_text(result.file), f"{result.seconds:.6g}", str(len(result.windows))]
            if isinstance(part, Window):
                head[1:] = f"{part.start:.6g}", f"{part.end:.6g}"
            found = [(csv_text(name), f"{p:.6g}") for name, p in part.probabilities[:top]]
            ranked = [(str(n), *each) for n, each in enumerate(found, 1)] or [("", "", "")]
            more = [result.patchout] * dropped
            yield "".join(row([*head, *each, *more]) for each in ranked)


def as_json(
    results: Iterable[Prediction], top: int | None, by_window: bool = False
) -> Iterator[str]:
    """A list with one object per file: its predictions, also by window, or the error."""

    def plain(facts: dict[str, object]) -> str:
        return json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)

    def named(part: Window | Prediction) -> list[dict[str, object]]:
        return [{"class": n, "probability": p} for n, p in part.probabilities[:top]]

    before = "["
    for result in results:
        facts: dict[str, object] = {"file": result.file, "error": result.error}
        if not result.error:
            facts = {"file": result.file, "seconds": result.seconds, "windows": len(result.windows)}
            facts |= {"patchout": result.patchout} if result.patchout else {}
            facts |= {"notes": result.notes} if result.notes else {}
            facts |= {"predictions": named(result)}
        yield f"{before}\n{plain(facts)[:-2]}"
        if by_window and not result.error:
            for number, part in enumerate(result.windows):
                span: dict[str, object] = {"start": part.start, "end": part.end}
                yield ",\n" if number else ',\n "by_window": [\n'
                yield plain(span | {"predictions": named(part)})
            yield "]"
        yield "\n}"
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def write_npz(path: Path, found: Sequence[tuple[str, Windows]]) -> None:
    """Embeddings of all windows as ``embedding`` (rows, D), ``file``, ``start`` and ``end``."""
    rows = sum(len(windows) for _, windows in found)
    classes, width = (found[0][1].classes, found[0][1].width) if found else (0, 2)

    def columns(part: int | slice) -> Iterator[np.ndarray]:
        return (block[:, part] for _, windows in found for block in windows.blocks(_ROWS))

    files = (np.full(len(block), name) for name, own in found for block in own.blocks(_ROWS))
    arrays = {
        "embedding": ("<f4", (rows, width - classes - 2), columns(slice(2 + classes, None))),
        "file": (np.array([name for name, _ in found]).dtype.str, (rows,), files),
        "start": ("<f8", (rows,), columns(0)),
        "end": ("<f8", (rows,), columns(1)),
    }
    # Not by np.savez, which has a parameter of its own called file, and takes arrays whole.
    with writing(path) as out, ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for name, (stored, shape, blocks) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                head = {"descr": stored, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, head)
                for block in blocks:
                    member.write(block.astype(stored).tobytes())
