"""The tables of the PaSST paper beside what ran here: published rows, and why a row did not run.

Koutini, Schlüter, Eghbal-zadeh, Widmer: Efficient Training of Audio Transformers with Patchout,
Interspeech 2022, arXiv 2110.05069. The published numbers stand as ``tableN.csv`` in the folder.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passt_bench.analysis.results import Results
from passt_bench.errors import InputError
from passt_bench.report.files import render_template, write_text
from passt_bench.report.tables import Column, Table, to_csv, to_latex, to_markdown
from passt_bench.report.text import Span, interval

IMAGENET = "deit_base_distilled_patch16_384"  # what every AST and PaSST of the paper starts from
AUDIOSET = "passt_s_ap476"  # PaSST-S after AudioSet, what Table 3 and the ensembles start from


@dataclass(frozen=True)
class Available:
    """What this machine has.

    Attributes:
        datasets: registered names of the data sets that were found, e.g. ``audioset``.
        weights: names of the pre-trained weights that were found.
        gpu: whether there is a CUDA device.
    """

    datasets: frozenset[str] = frozenset()
    weights: frozenset[str] = frozenset()
    gpu: bool = False


@dataclass(frozen=True)
class _Source:
    """A table of the paper: its columns, and what its rows need."""

    caption: str
    titles: Mapping[str, str]
    datasets: Mapping[str, str]  # registered name → as the paper writes it
    weights: str
    weighted: tuple[str, ...]  # rows whose name starts so need the weights


_TABLES = {
    "table1": _Source(
        "Table 1: single models on AudioSet. Speed is training throughput on one Titan RTX, memory "
        "that of training, the sequence that of training.",
        {
            "model": "model",
            "own_run": "run by the authors",
            "mAP": "mAP",
            "train_spectrograms_per_s": "clips/s",
            "speed_vs_ast": "speed to AST",
            "memory_gb_per_sample": "GB a clip",
            "train_sequence": "tokens",
        },
        {"audioset": "AudioSet"},
        IMAGENET,
        ("AST", "PaSST"),
    ),
    "table2": _Source(
        "Table 2: ensembles on AudioSet.",
        {"system": "system", "members": "members", "mAP": "mAP"},
        {"audioset": "AudioSet"},
        AUDIOSET,
        ("PaSST", "AST"),
    ),
    "table3": _Source(
        "Table 3: fine-tuned on other data sets, means of three runs; speed-up to PaSST-B, rounded "
        "up by the authors.",
        {
            "model": "model",
            "openmic_mAP": "OpenMIC mAP",
            "openmic_speedup": "speed-up",
            "esc50_accuracy": "ESC-50 accuracy (%)",
            "esc50_speedup": "speed-up",
            "dcase20_accuracy": "DCASE20 accuracy (%)",
            "dcase20_speedup": "speed-up",
            "fsd50k_mAP": "FSD50K mAP",
            "fsd50k_speedup": "speed-up",
        },
        {"openmic": "OpenMIC", "esc50": "ESC-50", "dcase20": "DCASE20", "fsd50k": "FSD50K"},
        AUDIOSET,
        ("PaSST",),
    ),
}


def render_paper(folder: Path, available: Available, results: Sequence[Results] = ()) -> Path:
    """Writes the paper's tables with a column that says what ran here.

    A row counts as run where a study on its data set has a variant of its name. Writes
    ``index.html``, and for each table ``tableN.md``, ``tableN.tex`` and ``tableN_here.csv``.

    Args:
        folder: holds ``table1.csv`` to ``table3.csv`` and takes what is written.
        available: what this machine has; decides which reasons stand in the tables.
        results: studies that may hold rows of the paper.

    Returns:
        The path of the page.

    Raises:
        InputError: a published table is missing or has other columns.
    """
    tables = []
    for name, source in _TABLES.items():
        made = _paper_table(name, source, _read(folder / f"{name}.csv", source), available, results)
        write_text(folder / f"{name}.md", to_markdown(made))
        write_text(folder / f"{name}.tex", to_latex(made, f"paper-{name}"))
        write_text(folder / f"{name}_here.csv", to_csv(made))
        tables.append(made)
    context = {"tables": tables, "available": available, "needed": _needed()}
    return write_text(folder / "index.html", render_template("paper.html", context))


def _read(path: Path, source: _Source) -> list[dict[str, str]]:
    if not path.is_file():
        raise InputError(
            "the published table is missing", source=path, remedy="Restore it: git checkout."
        )
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if list(reader.fieldnames or ()) != list(source.titles):
            raise InputError(
                "other columns than the published table has",
                source=path,
                value=reader.fieldnames,
                field="columns",
                remedy=f"They are {', '.join(source.titles)}.",
            )
        return list(reader)


def _paper_table(
    name: str,
    source: _Source,
    rows: list[dict[str, str]],
    available: Available,
    results: Sequence[Results],
) -> Table:
    first = next(iter(source.titles))
    words = (first, "own_run")
    columns = [
        Column(key, title, None if key in words else str) for key, title in source.titles.items()
    ]
    columns.append(Column("ran_here", "ran here"))
    cells: list[tuple[Any, ...]] = []
    for row in rows:
        published = [row[key] or None for key in source.titles]
        cells.append((*published, _ran(row[first], source, available, results)))
    return Table(name, source.caption, tuple(columns), tuple(cells))


def _ran(row: str, source: _Source, available: Available, results: Sequence[Results]) -> str:
    """What was run of a row, or why it was not, by data set where that differs."""
    told = {
        title: _result(row, dataset, results) or _reasons(row, dataset, source, available)
        for dataset, title in source.datasets.items()
    }
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    by_text: dict[str, list[str]] = {}
    for title, text in told.items():
        by_text.setdefault(text, []).append(title)
    return "; ".join(f"{', '.join(titles)}: {text}" for text, titles in by_text.items())


def _result(row: str, dataset: str, results: Sequence[Results]) -> str | None:
    for result in results:
        if result.study.fingerprint.dataset != dataset:
            continue
        for mean in result.means:
            if mean.variant == row and mean.n:
                shown = interval(Span(mean.value, mean.low, mean.high))
                return f"{mean.metric} {shown} (study {result.study.name})"
    return None


def _reasons(row: str, dataset: str, source: _Source, available: Available) -> str:
    missing = []
    if dataset not in available.datasets:
        missing.append("no data")
    if row.startswith(source.weighted) and source.weights not in available.weights:
        missing.append("no weights")
    if not available.gpu:
        missing.append("no GPU")
    return ", ".join(missing) or "not run yet"


def _needed() -> dict[str, tuple[str, ...]]:
    """All data sets and weights that the tables need, by name."""
    return {
        "datasets": tuple(dict.fromkeys(d for s in _TABLES.values() for d in s.datasets)),
        "weights": tuple(dict.fromkeys(s.weights for s in _TABLES.values())),
    }
