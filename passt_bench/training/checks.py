"""What of a training cannot be done with a recipe and its data, told before anything runs."""

from __future__ import annotations

import numpy as np

from passt_bench.data.targets import Targets
from passt_bench.errors import InputError
from passt_bench.spec.recipe import Recipe
from passt_bench.training.averaging import check_averaging
from passt_bench.training.engine import check_engine
from passt_bench.training.sampling import check_sampling, clip_weights

_ROWS = 1 << 16  # clips whose labels are looked at at a time


def check_training(recipe: Recipe, targets: Targets, train: np.ndarray) -> None:
    """Refuses averaging, sampling, storage or a loss that recipe and data do not allow, or no data.

    Args:
        recipe: of a run.
        targets: of all clips.
        train: indices of the training clips.

    Raises:
        InputError: names the field.
    """
    training = recipe.training
    if not len(train):
        raise InputError(
            "no clip to train on",
            field="data.name",
            value=recipe.data.name,
            remedy="Bring its training part; `passt-bench evaluate` needs none.",
        )
    if training.loss == "ce" and not _one_class(targets, train):
        raise InputError(
            "some clips have several classes, or none",
            field="training.loss",
            value="ce",
            remedy="Use 'bce'.",
        )
    check_engine(recipe.engine)
    check_averaging(training)
    check_sampling(training, len(train))
    if training.sampling == "weighted":
        clip_weights(targets, train)
    if recipe.data.crop == "random" and recipe.data.storage == "prepared":
        raise InputError(
            "random parts of longer clips cannot be prepared",
            field="data.storage",
            value="prepared",
            remedy="Use 'auto' or 'streamed'; `passt-bench data prepare` makes reading fast.",
        )
    unknown = isinstance(targets, np.ndarray) and bool(np.isnan(targets[train]).any())
    if unknown and training.loss != "masked_bce":
        raise InputError(
            "some labels of the data are unknown",
            field="training.loss",
            value=training.loss,
            remedy="Use 'masked_bce', which leaves them out.",
        )


def _one_class(targets: Targets, clips: np.ndarray) -> bool:
    blocks = (clips[at : at + _ROWS] for at in range(0, len(clips), _ROWS))
    return all(bool((targets[block].sum(axis=1) == 1).all()) for block in blocks)
