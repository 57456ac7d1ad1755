"""A small folder in the ESC-50 layout, written anew for each test."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
NAMES = {0: "dog", 10: "rain", 11: "sea_waves"}
Row = dict[str, object]


def rows_of(folds: int = 5, each: int = 2) -> list[Row]:
    """``each`` clips of every class in every fold."""
    return [
        {
            "filename": f"{fold}-{100 * fold + target + copy}-A-{target}.wav",
            "fold": fold,
            "target": target,
            "category": name,
            "esc10": True,
            "src_file": 100 * fold + target + copy,
            "take": "A",
        }
        for fold in range(1, folds + 1)
        for target, name in NAMES.items()
        for copy in range(each)
    ]


def write_meta(root: Path, rows: list[Row], columns: tuple[str, ...] = COLUMNS) -> None:
    """Writes the metadata file."""
    (root / "meta").mkdir(parents=True, exist_ok=True)
    with (root / "meta" / "esc50.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def layout(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows with audio of 0.1 s at 8 kHz, and gives the folder."""

    def write(rows: list[Row] | None = None, ending: str = "wav", rate: int = 8000) -> Path:
        root = tmp_path / "esc"
        rows = rows_of() if rows is None else rows
        write_meta(root, rows)
        (root / "audio").mkdir(exist_ok=True)
        for number, row in enumerate(rows):
            noise = 0.1 * np.random.default_rng(number).standard_normal(rate // 10)
            path = (root / "audio" / str(row["filename"])).with_suffix(f".{ending}")
            soundfile.write(path, noise, rate)
        return root

    return write
