"""What a cell trains on and is evaluated on: which clips, and their features."""

from __future__ import annotations

from functools import partial

import numpy as np

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.data.splits import inner_split
from passt_bench.runner.plan import Context, PlannedCell
from passt_bench.training.features import Features, features_path, open_features
from passt_bench.training.sources import Streamed


def cell_features(cell: PlannedCell, context: Context, dataset: Dataset) -> Features:
    """Features as they were prepared, or made of the data set."""
    recipe, rate = cell.recipe, cell.recipe.frontend.sampling_rate
    opens = partial(open_dataset, recipe.data, rate, cell.data_root)
    digest = dataset.fingerprint.digest
    stream = Streamed(opens, digest, round(recipe.data.seconds * rate), dataset)
    return open_features(features_path(context.cache, recipe, digest), recipe, stream)


def split_clips(
    cell: PlannedCell, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Clips to train on, to choose the epoch by (or None), and to evaluate.

    Chosen is by the authors' validation split; where there is none, one is cut from the training
    clips. With ``select: inner`` the test fold stays closed.
    """
    train_clips, test_clips = dataset.split(cell.fold)
    training = cell.recipe.training
    if training.select == "last":
        return train_clips, None, test_clips
    official = dataset.validation()
    if official is not None:
        best = training.select == "best_on_inner"
        return train_clips, official if best else None, test_clips if best else official
    # One inner split, whatever the seed: trials of a search are compared on the same clips.
    learn, inner = inner_split(
        train_clips, dataset.sources, dataset.targets, training.inner_share, 0
    )
    if training.select == "best_on_inner":
        return learn, inner, test_clips
    return learn, None, inner
