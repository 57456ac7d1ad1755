"""Metadata of a small folder in the ESC-50 layout."""

from __future__ import annotations

import csv
from pathlib import Path

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
