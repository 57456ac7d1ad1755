"""Opens data sets by their registered names; one module per data set."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from passt_bench.data.dataset import Dataset, Incomplete
from passt_bench.data.layout import DatasetLayout, layouts
from passt_bench.data.prepared import INDEX, find_prepared, open_prepared, read_index
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

__all__ = ["Dataset", "DatasetLayout", "Fingerprint", "find_folders", "layouts", "open_dataset"]

for _name in ("audioset", "dcase20", "esc50", "fsd50k", "manifest", "openmic", "synthetic"):
    import_module(f"passt_bench.data.{_name}")  # registers it


def open_dataset(spec: DataSpec, sampling_rate: int, root: Path | None) -> Dataset:
    """Opens a registered data set, or its prepared clips if the folder holds some at that rate.

    Raises:
        InputError: an unknown name, or data that are missing or broken.
    """
    folder = None if root is None else find_prepared(root, sampling_rate)
    if folder is not None:
        DATASETS.get(spec.name)
        if folder != root and root is not None:
            _check_fresh(spec, sampling_rate, root, folder)
        return open_prepared(spec, sampling_rate, folder)
    dataset: Dataset = DATASETS.get(spec.name).build(spec, sampling_rate, root)
    return dataset


def _check_fresh(spec: DataSpec, sampling_rate: int, root: Path, folder: Path) -> None:
    """Refuses prepared clips if the data they were made from have changed (removed is allowed)."""
    index = read_index(folder)
    whole = DataSpec(name=spec.name, seconds=index.seconds or 1.0)
    problem = ""
    try:
        if DATASETS.get(spec.name).build(whole, sampling_rate, root).fingerprint.digest == (
            index.source.digest
        ):
            return
    except InputError as error:
        lists = root.is_file() or (spec.name in layouts() and layouts()[spec.name].is_in(root))
        if not (len(error.dataset.ids) if isinstance(error, Incomplete) else lists):
            return  # the recordings, or their lists, were removed
        problem = f", and can no longer be read: {error}"
    raise InputError(
        f"the data have changed since these clips were prepared{problem}",
        source=folder,
        field=f"--data {spec.name}",
        value=root.name,
        remedy="Remove the folder and prepare again, or give the folder itself to use it anyway.",
    )


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
