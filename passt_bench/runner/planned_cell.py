"""A quality cell with all that a process needs to run it: data, key, sizes and FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from passt_bench.data.dataset import Dataset
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.estimates import ModelSummary, run_flops, summarize_model
from passt_bench.runner.initial_weights import resolve_init
from passt_bench.runner.prediction import Predictor
from passt_bench.spec.key import component_versions, quality_key
from passt_bench.spec.recipe import Recipe
from passt_bench.training.loop import check_settings


@dataclass(frozen=True)
class PlannedCell:
    """One cell with everything that a new process needs to run it."""

    key: str
    variant: str
    recipe: Recipe
    seed: int
    fold: int | None
    fingerprint: Fingerprint
    components: Mapping[str, int]
    summary: ModelSummary
    data: Dataset
    flops: float  # of training and evaluation, about
    attempt: int = 1
    checkpoint: Path | None = None  # initial weights; None from scratch
    # One run of each variant: its record gets a picture, which is large, and its model is kept.
    pictured: bool = False
    keeps_model: bool = False
    watched: bool = False  # is evaluated on its validation split after each epoch as well
    again: bool = False  # a run on record without its model, which is trained again for it

    @property
    def model_bytes(self) -> int:
        """About the size of its trained model's file."""
        return 4 * self.summary.parameters

    def with_seed(self, seed: int) -> PlannedCell:
        """The cell that differs in nothing but its seed, and so in its key."""
        key = quality_key(self.recipe, seed, self.fold, self.fingerprint.digest, self.components)
        return replace(self, seed=seed, key=key)

    def seconds(self, predictor: Predictor) -> float:
        """Expected seconds; nan on a GPU without a data sheet."""
        each = predictor.seconds_per_flop(self.recipe, len(self.fingerprint.classes))
        return self.flops * each + 1.0


def plan_cell(
    variant: str, recipe: Recipe, seed: int, fold: int | None, datasets: Datasets
) -> PlannedCell:
    """Plans a cell: its key, the sizes of its model and its FLOPs."""
    dataset = datasets.get(recipe)
    fingerprint = dataset.fingerprint
    recipe, checkpoint = resolve_init(recipe, fingerprint.classes, datasets.paths.runs)
    components = component_versions(recipe)
    summary = summarize_model(recipe, len(fingerprint.classes))
    train, test = dataset.split(fold)
    held = recipe.training.validation_fold
    if held is not None and (held == fold or held not in dataset.folds):
        field, remedy = "training.validation_fold", "Name another fold."
        raise InputError("not a fold to train on", field=field, value=held, remedy=remedy)
    datasets.check(recipe, fold)
    check_settings(recipe, len(train))
    return PlannedCell(
        key=quality_key(recipe, seed, fold, fingerprint.digest, components),
        variant=variant,
        recipe=recipe,
        seed=seed,
        fold=fold,
        fingerprint=fingerprint,
        components=components,
        summary=summary,
        data=datasets.get(recipe),
        flops=run_flops(recipe, summary, len(train), len(test)),
        checkpoint=checkpoint,
    )
