"""Makes the study of one model that `passt-bench train` runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from passt_bench.data import layouts
from passt_bench.data.dataset import Dataset
from passt_bench.data.splits import FEW, is_small
from passt_bench.data.targets import class_counts
from passt_bench.errors import InputError
from passt_bench.models import read_model
from passt_bench.published_weights import locate
from passt_bench.runner.compare import typed_recipe
from passt_bench.runner.datasets import Datasets, hold_out
from passt_bench.spec.key import plain_name
from passt_bench.spec.recipe import DataSpec, InitSpec, Patchout, Recipe, TrainingSpec
from passt_bench.spec.study import Study, Variant, override
from passt_bench.training.metrics import DataKind, default_metrics

_CLIPS = 1 << 16  # whose labels are looked at together
FINE_TUNING_RATE = 1e-4  # by default; from scratch it is the recipe's


def train_study(
    name: str | None,
    model: str | None,
    data: str,
    datasets: Datasets,
    *,
    checkpoint: str | None = None,
    patchout: Patchout | None = None,
    overrides: Mapping[str, object] | None = None,
    seconds: float,
    epochs: int,
    seeds: int = 1,
) -> Study:
    """A study with one variant: a model on a data set, with the loss and metrics of its labels.

    The epoch is chosen on the data's validation split, unless there is none or a small one
    (`splits.is_small`). The model is typed as in `compare.subjects`; None is that of the
    ``checkpoint`` (path or published name of the weights to start from), or passt_micro.
    Without a ``name`` it is made of the model's and the data's. ``overrides`` (``a.b`` → value)
    change what is chosen by the data. ``seconds`` is the clip length, ``seeds`` the number of runs.

    Raises:
        InputError: the model, the file or the data are not valid, or there are no test clips.
    """
    start = Recipe(
        data=DataSpec(data, seconds=seconds), training=TrainingSpec(epochs=epochs, batch_size=16)
    )
    recipe = typed_recipe(model or "passt_micro", start, {})
    if checkpoint is not None:
        training = replace(recipe.training, learning_rate=FINE_TUNING_RATE)
        recipe = replace(recipe, init=InitSpec("checkpoint", checkpoint), training=training)
    if checkpoint is not None and model is None:
        theirs = read_model(locate(checkpoint)).recipe
        recipe = replace(recipe, model=theirs.model, frontend=theirs.frontend)
    recipe = override(replace(recipe, patchout=patchout or Patchout()), overrides or {})
    # What is given is not guessed.
    dataset = datasets.get(recipe)
    recipe = override(_fit(recipe, dataset), overrides or {})
    title = dataset.fingerprint.title
    if name is None:
        named = model or ("passt_micro" if checkpoint is None else "checkpoint")
        name = re.sub(r"[^\w-]+", "-", f"train-{named.partition(':')[0]}-{title}")
    label, how = recipe.model.name, " when fine-tuned" if checkpoint is not None else ""
    kind, metric = recipe.patchout.kind, recipe.metrics[0]
    how = f" with {kind} patchout{how}" if kind != "none" else how
    question = f"What does {label}{how} reach on {title}?"
    given = plain_name(name, field="--name"), question, recipe, (Variant(label),), label
    return Study(*given, metric=metric, seeds=tuple(range(seeds)))


def _fit(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe with the loss, the metrics and the choice of the epoch that suit the data."""
    data = dataset.fingerprint
    kind: DataKind = "multi_label" if data.multi_label else "one_class"
    blocks = np.array_split(np.arange(len(dataset.ids)), len(dataset.ids) // _CLIPS + 1)
    if any(np.isnan(dataset.targets[block]).any() for block in blocks):
        kind = "partly_labelled"
    layout = layouts().get(data.dataset)
    metrics = (layout.default_metrics if layout else ()) or default_metrics(kind)
    loss = {"multi_label": "bce", "one_class": "ce", "partly_labelled": "masked_bce"}[kind]
    held = dataset.validation()
    small = held is None or is_small(class_counts(dataset.targets, held))
    select = "last" if small else "best_on_validation"
    changes = {"training.loss": loss, "training.checkpoint_selection": select, "metrics": metrics}
    if not dataset.folds and not len(dataset.split(None)[1]):
        problem = "there are no test clips to evaluate the model on"
        remedy = "Give some clips the split test in the manifest."
        raise InputError(problem, source=data.dataset, field="split", remedy=remedy)
    return override(recipe, changes)


def note_on_epoch(recipe: Recipe, datasets: Datasets) -> str:
    """A sentence if the validation split is too small to choose by; else empty."""
    dataset, best = datasets.get(recipe), recipe.training.checkpoint_selection != "last"
    fold = dataset.folds[0] if dataset.folds else None
    clips = hold_out(recipe, fold, dataset)[1] if best else dataset.validation()
    if clips is None or not is_small(class_counts(dataset.targets, clips)):
        return ""
    kept, other = "the last one", "best_on_validation"
    if best:
        kept, other = "chosen largely by chance", "last"
    kept += ", and each class is decided from 0.5 on" * dataset.fingerprint.multi_label
    return (
        f"The epoch is {kept}: fewer than {FEW} validation clips of most classes. For another "
        f"epoch: --set training.checkpoint_selection={other}"
    )
