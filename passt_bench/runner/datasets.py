"""Opens the data sets of a command, each once."""

from __future__ import annotations

from itertools import product

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.data.shared import SharedDataset
from passt_bench.runner.request import Paths
from passt_bench.spec.key import digest, key_fields
from passt_bench.spec.recipe import Recipe
from passt_bench.training.loop import check_labels
from passt_bench.training.metrics import check_labels as check_scorable


class Datasets:
    """Opens each data set once."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._open: dict[str, SharedDataset] = {}
        self._checked: set[str] = set()

    def get(self, recipe: Recipe) -> Dataset:
        """The recipe's data set at its front end's sampling rate."""
        return self.shared(recipe).dataset

    def shared(self, recipe: Recipe) -> SharedDataset:
        """The recipe's data set in a form for other processes."""
        rate = recipe.frontend.sampling_rate
        name = digest([key_fields(recipe.data), rate])
        if name not in self._open:
            root = self.paths.data.get(recipe.data.name)
            self._open[name] = SharedDataset(
                open_dataset(recipe.data, rate, root), self.paths.cache
            )
        return self._open[name]

    def check(self, recipe: Recipe, fold: int | None) -> None:
        """Refuses labels that the recipe or its metrics cannot use, once per combination."""
        fields = key_fields(recipe.data), recipe.data.storage, key_fields(recipe.training)
        key = digest([*fields, recipe.metrics, fold])
        if key not in self._checked:
            dataset = self.get(recipe)
            train, test = dataset.split(fold)
            check_labels(recipe, dataset.targets, train)
            scored, validation = [test], dataset.validation()
            if validation is not None and recipe.training.checkpoint_selection != "last":
                scored.append(validation)
            for metric, clips in product(recipe.metrics, scored):
                check_scorable(metric, dataset.targets[clips])
            self._checked.add(key)
