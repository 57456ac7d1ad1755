"""Where things lie, and the data sets that lie there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.spec.key import decisive, digest
from passt_bench.spec.recipe import Recipe
from passt_bench.training.checks import check_training
from passt_bench.training.state import CHECKPOINT_SECONDS


@dataclass(frozen=True)
class Context:
    """Where things lie and how cells are kept; none of it decides a result.

    Attributes:
        out: the store's folder.
        data: data set name → folder.
        checkpoint_seconds: between two checkpoints of a cell.
        keep_checkpoints: whether they stay when the record is written.
        memory: bytes that the process of a cell may allocate; None is no limit.
        keep_models: whether the trained model is written beside the record.
    """

    out: Path
    data: Mapping[str, Path]
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    keep_checkpoints: bool = False
    memory: int | None = None
    keep_models: bool = False

    @property
    def cache(self) -> Path:
        """Where features are kept."""
        return self.out / "cache"


class Datasets:
    """Opens each data set once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: dict[str, Dataset] = {}
        self._checked: set[str] = set()

    def root(self, recipe: Recipe) -> Path | None:
        """The folder given for the recipe's data set."""
        return self._context.data.get(recipe.data.name)

    def get(self, recipe: Recipe) -> Dataset:
        """The recipe's data set at its front end's sampling rate."""
        name = digest([decisive(recipe.data), recipe.frontend.sampling_rate])
        if name not in self._open:
            self._open[name] = open_dataset(
                recipe.data, recipe.frontend.sampling_rate, self.root(recipe)
            )
        return self._open[name]

    def check(self, recipe: Recipe, fold: int | None) -> None:
        """Refuses a training that the recipe's data do not allow; looks at the labels once.

        Raises:
            InputError: see `check_training`.
        """
        key = digest([decisive(recipe.data), recipe.data.storage, decisive(recipe.training), fold])
        if key not in self._checked:
            dataset = self.get(recipe)
            check_training(recipe, dataset.targets, dataset.split(fold)[0])
            self._checked.add(key)
