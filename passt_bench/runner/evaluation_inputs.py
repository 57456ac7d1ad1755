"""Checks whether models, data, split and metrics fit together; looks up published results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from passt_bench.data import Dataset, layouts
from passt_bench.errors import InputError
from passt_bench.models.ensemble import Ensemble, Member
from passt_bench.published_weights import ENSEMBLES, PUBLISHED, Published, by_file
from passt_bench.records.evaluation import SPLITS, EvaluationRecord, PublishedResult
from passt_bench.registry import METRICS
from passt_bench.spec.recipe import DataSpec
from passt_bench.training.metrics import DataKind, check_labels, default_metrics
from passt_bench.vocabulary import are_numbers

_RELEASE = "released weights"
_TABLE = "paper, Table 2"
# Table 2 of the paper; the three models of stride 10 are only in config_updates.py of the reference
# code.
_ENSEMBLES: dict[str, tuple[float, str]] = {
    "ensemble_s16_14": (0.486, _TABLE),
    "ensemble_4": (0.493, _TABLE),
    "ensemble_5": (0.495, _TABLE),
    "ensemble_many": (0.496, _TABLE),
    "ensemble_s10": (0.4864, "config_updates.py of the reference code"),
}


def data_spec(ensemble: Ensemble, name: str) -> tuple[DataSpec, list[str]]:
    """The members' clip length, and their numbers of clips if trained on this data set."""
    recipes = {cast(Member, member).recipe.data for member in ensemble.members}
    spec = replace(recipes.pop(), seconds=ensemble.clip) if len(recipes) == 1 else None
    if spec is None or spec.name != name:
        return DataSpec(name, ensemble.clip), []
    chosen = {field: getattr(spec, field) for field in ("train_clips", "test_clips")}
    shown = ", ".join(f"{field}={count}" for field, count in chosen.items() if count is not None)
    return spec, [f"numbers of clips as in the model's recipe: {shown}"] if shown else []


def match_classes(ours: Sequence[str], theirs: Sequence[str]) -> tuple[np.ndarray, str]:
    """Maps logits to the order of a data set's classes.

    Args:
        ours: classes of the model.
        theirs: classes of the data set.

    Returns:
        The logits' columns in the data set's order, and a note if the model file has no class names
        and the data set's order is assumed.

    Raises:
        InputError: the classes differ.
    """
    if len(ours) != len(theirs):
        raise InputError(
            f"the data have {len(theirs)}",
            source="model",
            field="number of classes",
            value=len(ours),
            remedy="Give a model that was trained on these classes.",
        )
    if are_numbers(ours):
        return np.arange(len(ours)), (
            "the model file has no class names: the order of the data set is assumed"
        )
    place = {name: index for index, name in enumerate(ours)}
    for name in theirs:
        if name not in place:
            other = next(own for own in ours if own not in theirs)
            raise InputError(
                "the model does not have this class",
                source="data",
                field="class",
                value=name,
                remedy=f"It has {other!r}, which the data do not have. Give a model of these "
                "classes, or their names with --labels if only the spelling differs.",
            )
    return np.array([place[name] for name in theirs]), ""


def clips_of(dataset: Dataset, split: str, fold: int | None) -> np.ndarray:
    """Indices of the clips to score."""
    if split not in SPLITS:
        raise InputError(
            "unknown split", field="--split", value=split, remedy=f"Known: {', '.join(SPLITS)}."
        )
    if dataset.folds and fold is None:
        raise InputError(
            "needed, because these data have folds",
            field="--fold",
            remedy=f"Give the held-out fold: {', '.join(map(str, dataset.folds))}.",
        )
    train, test = dataset.split(fold)
    chosen = {"train": train, "test": test, "valid": dataset.validation()}[split]
    if chosen is None or not len(chosen):
        raise InputError(
            "these data have no clips in this split",
            field="--split",
            value=split,
            remedy="Use --split test.",
        )
    return chosen


def metrics_of(asked: Sequence[str], dataset: Dataset, clips: np.ndarray) -> tuple[str, ...]:
    """The requested metrics, or those of the data set; refuses metrics that do not fit."""
    fingerprint, targets = dataset.fingerprint, dataset.targets[clips]
    kind: DataKind = "multi_label" if fingerprint.multi_label else "one_class"
    usual = default_metrics("partly_labelled" if np.isnan(targets).any() else kind)
    layout = layouts().get(fingerprint.dataset)
    usual = (layout.default_metrics if layout else ()) or usual
    metrics = tuple(dict.fromkeys(asked)) or usual
    for name in metrics:
        check_labels(name, targets)
        if METRICS.get(name).build.one_class_a_clip and fingerprint.multi_label:
            raise InputError(
                "needs one class per clip, but clips of these data may have several",
                field="--metrics",
                value=name,
                remedy=f"Use {default_metrics(kind)[0]}.",
            )
    return metrics


def with_published(record: EvaluationRecord) -> EvaluationRecord:
    """A record of test clips with published results, and a note if the numbers of clips differ."""
    dataset = record.fingerprint.dataset
    found = published_results([m.name for m in record.members], dataset, record.fold)
    layout = layouts().get(dataset)
    theirs = (layout and layout.published_test_clips) or record.clips
    notes = record.notes
    if found and theirs != record.clips:
        notes = (*notes, f"published on {theirs} clips, {record.clips} here")
    return replace(record, published=found, notes=notes)


def published_results(
    files: Sequence[str], dataset: str, fold: int | None
) -> tuple[PublishedResult, ...]:
    """Published results of model files on the test clips of a data set.

    Args:
        files: names of the model files, in any order; published files are recognized by them.
        dataset: registered name.
        fold: held-out fold.

    Returns:
        One result per metric; empty if the files, their ensemble or the data are not published.
    """
    entries = [by_file(name) for name in files]
    known = [entry for entry in entries if entry is not None and entry.labels == dataset]
    if not known or len(known) < len(files):
        return ()
    found = _of_one(known[0], fold)
    if len(known) > 1:
        found = _ENSEMBLES.get(published_set(files) or "")
    if found is None:
        return ()
    value, source = found
    layout = layouts().get(dataset)
    metrics = layout.published_metrics if layout else ()
    return tuple(PublishedResult(metric, value, source) for metric in metrics)


def _of_one(entry: Published, fold: int | None) -> tuple[float, str] | None:
    if entry.claimed is None or (entry.labels == "esc50" and entry.name != f"esc50_fold{fold}"):
        return None
    return entry.claimed, _RELEASE


def published_set(files: Sequence[str]) -> str | None:
    """The name of the published ensemble that these files are, in any order."""
    for name, members in ENSEMBLES.items():
        if sorted(PUBLISHED[member].file for member in members) == sorted(files):
            return name
    return None
