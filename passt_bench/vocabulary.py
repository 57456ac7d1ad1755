"""Class names of the published data sets, in the authors' order."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

_FOLDER = files("passt_bench") / "labels"


@lru_cache
def built_in(data: str) -> tuple[str, ...]:
    """The class names of a published data set; empty if they are not built in."""
    if data == "audioset":
        return tuple(row["display_name"] for row in _audioset())
    if data == "fsd50k":
        return tuple(name for _, name, _ in csv.reader(io.StringIO(_read("fsd50k_vocabulary.csv"))))
    if data == "esc50":
        return tuple(_read("esc50_categories.txt").split())
    if data == "openmic":
        order: dict[str, int] = json.loads(_read("openmic_class_map.json"))
        return tuple(sorted(order, key=lambda name: order[name]))
    if data == "dcase20":
        return tuple(_read("dcase20_scenes.txt").split())
    return ()


@lru_cache
def audioset_ids() -> tuple[str, ...]:
    """Machine ids of AudioSet's classes (``/m/09x0r``), in the order of their names."""
    return tuple(row["mid"] for row in _audioset())


def class_names(labels: str, count: int) -> tuple[str, ...]:
    """The class names of a data set, in the order of the logits; ``class 0``, … if unknown."""
    names = built_in(labels)
    return names if len(names) == count else _numbers(count)


def are_numbers(classes: Sequence[str]) -> bool:
    """Whether class names are only numbers, as `class_names` gives them for unknown classes."""
    return tuple(classes) == _numbers(len(classes))


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))


def _audioset() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_read("audioset_class_labels_indices.csv"))))


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
