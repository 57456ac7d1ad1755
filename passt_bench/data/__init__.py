"""Opens data sets by their registered names; one module per data set."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from passt_bench.data.dataset import Dataset
from passt_bench.data.layout import DatasetLayout, layouts
from passt_bench.data.prepared import INDEX, open_prepared, read_index
from passt_bench.records.run import Fingerprint
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

__all__ = ["Dataset", "DatasetLayout", "Fingerprint", "find_folders", "layouts", "open_dataset"]

for _name in ("audioset", "dcase20", "esc50", "fsd50k", "manifest", "openmic", "synthetic"):
    import_module(f"passt_bench.data.{_name}")  # registers it


def open_dataset(spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
    """Opens a registered data set from its folder, or from a folder of its prepared clips.

    Raises:
        InputError: an unknown name, or data that are missing or broken.
    """
    component = DATASETS.get(spec.name)
    if root is not None and (root / INDEX).is_file():
        return open_prepared(spec, sampling_rate, root)
    dataset: Dataset = component.build(spec, sampling_rate, root)
    return dataset


def find_folders(root: Path) -> dict[str, Path]:
    """The folder of each data set directly below ``root``; of several, the first alphabetically.

    A folder of prepared clips counts if the data set itself is missing.
    """
    found: dict[str, Path] = {}
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for name, layout in layouts().items():
            if name not in found and layout.is_in(folder):
                found[name] = folder
    for path in sorted(root.glob(f"*/{INDEX}")):
        found.setdefault(read_index(path.parent).source.dataset, path.parent)
    return found
