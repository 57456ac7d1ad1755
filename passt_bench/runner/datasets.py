"""Opens the data sets of a command, each once."""

from __future__ import annotations

import numpy as np

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.data.splits import validation_split
from passt_bench.errors import located
from passt_bench.runner.request import Paths
from passt_bench.spec.key import digest, key_fields
from passt_bench.spec.recipe import Recipe
from passt_bench.training.loop import check_labels
from passt_bench.training.metrics import check_labels as check_scorable


class Datasets:
    """Opens each data set once."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._open: dict[str, Dataset] = {}
        self._checked: set[str] = set()

    def get(self, recipe: Recipe) -> Dataset:
        """The recipe's data set at its front end's sampling rate."""
        rate = recipe.frontend.sampling_rate
        name = digest([key_fields(recipe.data), rate])
        if name not in self._open:
            root = self.paths.data.get(recipe.data.name)
            self._open[name] = open_dataset(recipe.data, rate, root)
        return self._open[name]

    def check(self, recipe: Recipe, fold: int | None) -> None:
        """Refuses labels that the recipe or its metrics cannot use, once per combination."""
        fields = key_fields(recipe.data), recipe.data.storage, key_fields(recipe.training)
        key = digest([*fields, recipe.metrics, fold])
        if key not in self._checked:
            dataset = self.get(recipe)
            check_labels(recipe, dataset.targets, dataset.split(fold)[0])
            _, validation, test = hold_out(recipe, fold, dataset)
            alone = recipe.training.checkpoint_selection == "validation"
            scored = [] if alone else [("test", test, recipe.metrics)]
            if validation is not None:
                metrics = recipe.metrics if alone else recipe.metrics[:1]
                scored.append(("validation", validation, metrics))
            for split, clips, metrics in scored:
                with located(f"{split} split of {recipe.data.name}"):
                    for metric in metrics:
                        check_scorable(metric, dataset.targets[clips])
            self._checked.add(key)


def hold_out(
    recipe: Recipe, fold: int | None, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Indices of the clips to train on, to choose the epoch on (or None), and to test on.

    The epoch is chosen on the authors' validation split; without one, it is cut from the training
    clips, whatever the seed at the same place: trials of a search are compared on the same clips.
    """
    train, test = dataset.split(fold)
    if recipe.training.checkpoint_selection == "last":
        return train, None, test
    validation = dataset.validation()
    if recipe.training.validation_fold is not None:
        validation = dataset.split(recipe.training.validation_fold)[1]
        train = np.setdiff1d(train, validation)
    elif validation is None:
        given = train, dataset.sources, dataset.targets, recipe.training.validation_share
        train, validation = validation_split(*given, seed=0)
    return train, validation, test
