"""Class names of the published data sets, in the order of their authors."""

from __future__ import annotations

import csv
import io
import json
from functools import lru_cache
from importlib.resources import files

_FOLDER = files("passt_bench.models.weights") / "labels"


@lru_cache
def class_names(labels: str, count: int) -> tuple[str, ...]:
    """The names of a data set's classes.

    Args:
        labels: ``audioset`` or ``openmic``; of any other the names are not built in.
        count: how many a checkpoint has.

    Returns:
        Names in the order of the logits; ``class 0``, ``class 1``, … where none are known.
    """
    if labels == "audioset":
        text = (_FOLDER / "audioset_class_labels_indices.csv").read_text(encoding="utf-8")
        names = tuple(row["display_name"] for row in csv.DictReader(io.StringIO(text)))
    elif labels == "openmic":
        text = (_FOLDER / "openmic_class_map.json").read_text(encoding="utf-8")
        order: dict[str, int] = json.loads(text)
        names = tuple(sorted(order, key=lambda name: order[name]))
    else:
        names = ()
    return names if len(names) == count else tuple(f"class {index}" for index in range(count))
