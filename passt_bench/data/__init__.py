"""Data sets: one file each, registered by name."""

from __future__ import annotations

from pathlib import Path

from passt_bench.data import esc50, synthetic
from passt_bench.data.dataset import Dataset
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

_MARKS = {"esc50": "meta/esc50.csv"}  # data set → a file that only its folder has

__all__ = ["Dataset", "esc50", "find_folders", "open_dataset", "synthetic"]


def open_dataset(spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
    """Opens a registered data set.

    Args:
        spec: name, clip length, how much of it.
        sampling_rate: Hz of the waveforms that it gives.
        root: its folder; None for procedural data.

    Raises:
        InputError: an unknown name, or data that are missing or broken.
    """
    dataset: Dataset = DATASETS.get(spec.name).build(spec, sampling_rate, root)
    return dataset


def find_folders(root: Path) -> dict[str, Path]:
    """Data sets among the folders directly below ``root``, the first by name of each."""
    found: dict[str, Path] = {}
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for name, mark in _MARKS.items():
            if (folder / mark).is_file():
                found.setdefault(name, folder)
    return found
