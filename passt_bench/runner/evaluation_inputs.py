"""Checks whether models, data, split and metrics fit together; looks up published results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from passt_bench.data import Dataset, layouts
from passt_bench.errors import InputError, check_known
from passt_bench.published_weights import ENSEMBLES, PUBLISHED, by_file
from passt_bench.records.evaluation import SEEN, SPLITS, PublishedResult
from passt_bench.records.run import RunRecord
from passt_bench.spec.recipe import DataSpec
from passt_bench.training.metrics import DataKind, check_labels, default_metrics
from passt_bench.vocabulary import are_numbers

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


def data_spec(recipes: Sequence[DataSpec], name: str, clip: float) -> tuple[DataSpec, list[str]]:
    """The models' clip length, and their numbers of clips if trained on this data set."""
    first = recipes[0]
    if len(set(recipes)) > 1 or first.name != name:
        return DataSpec(name, clip), []
    chosen = {field: getattr(first, field) for field in ("train_clips", "test_clips")}
    shown = ", ".join(f"{field}={count}" for field, count in chosen.items() if count is not None)
    notes = [f"numbers of clips as in the model's recipe: {shown}"] if shown else []
    return replace(first, seconds=clip), notes


def match_classes(ours: Sequence[str], theirs: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The model's columns in the order of the data's classes, and a note if that is assumed.

    Classes that differ are refused (raises `InputError`).
    """
    if (number := len(ours)) != len(theirs):
        problem, remedy = f"the data have {len(theirs)}", "Give a model of these classes."
        if set(theirs) < set(ours):
            remedy = "They are some of the model's classes: put all of its classes into a file "
            remedy += "classes.txt beside the manifest, one per line, in any order."
        raise InputError(problem, field="number of classes", value=number, remedy=remedy)
    if are_numbers(ours):
        note = "the model file has no class names: the order of the data set is assumed"
        return np.arange(len(ours)), [note]
    for name in theirs:
        if name not in ours:
            other = next((own for own in ours if own not in theirs), "one of them twice")
            problem = "the model does not have this class"
            remedy = f"It has {other!r}, which the data do not have. Give a model of these "
            remedy += "classes, or their names with --labels if only the spelling differs."
            raise InputError(problem, field="class", value=name, remedy=remedy)
    place = {name: index for index, name in enumerate(ours)}
    return np.array([place[name] for name in theirs]), []


def fold_of(runs: Sequence[RunRecord | None], dataset: Dataset) -> int | None:
    """The fold of these data that the runs of kept models held out; None if there are several."""
    name = dataset.fingerprint.dataset
    held = {run.fold for run in runs if run is not None and run.fingerprint.dataset == name}
    return held.pop() if len(held) == 1 and held <= {*dataset.folds} else None


def seen_before(
    names: Sequence[str], runs: Sequence[RunRecord | None], dataset: Dataset, fold: int | None
) -> list[str]:
    """Notes on kept models that were, or may have been, trained on the clips to score."""
    notes, data = [], dataset.fingerprint
    ours = data.folder or ""
    for name, run in zip(names, runs, strict=True):
        if run is None or run.fingerprint.dataset != data.dataset:
            continue
        theirs = run.fingerprint.folder or ""
        # Lists beside each other are of one folder, and begin with its name; others are unknown.
        if not (ours.startswith(theirs) or theirs.startswith(ours)):
            continue
        model = "this model" if len(runs) == 1 else name
        if run.fingerprint.digest != data.digest:
            text = f"{model} was trained on other data of this name, or another division of these"
            notes.append(f"{text}: its scores on clips that it has seen {SEEN}")
        elif run.fold != fold:
            how = "chosen" if fold == run.recipe.training.validation_fold else "trained"
            notes.append(f"{model} was {how} on clips of fold {fold}: its scores {SEEN}")
    return notes


def clips_of(dataset: Dataset, split: str, fold: int | None) -> np.ndarray:
    """Indices of the clips to score."""
    check_known(split, SPLITS, "unknown split", field="--split")
    if dataset.folds and fold is None:
        remedy = f"Give the held-out fold: {', '.join(map(str, dataset.folds))}."
        raise InputError("needed, because these data have folds", field="--fold", remedy=remedy)
    train, test = dataset.split(fold)
    chosen = {"train": train, "test": test, "valid": dataset.validation()}[split]
    if chosen is None or not len(chosen):
        problem, remedy = "these data have no clips in this split", "Use --split test."
        raise InputError(problem, field="--split", value=split, remedy=remedy)
    return chosen


def metrics_of(asked: Sequence[str], dataset: Dataset, clips: np.ndarray) -> Sequence[str]:
    """The requested metrics, or those of the data set; refuses metrics that do not fit."""
    fingerprint, targets = dataset.fingerprint, dataset.targets[clips]
    kind: DataKind = "multi_label" if fingerprint.multi_label else "one_class"
    layout = layouts().get(fingerprint.dataset)
    metrics = tuple(dict.fromkeys(asked)) or (layout.default_metrics if layout else ())
    metrics = metrics or default_metrics("partly_labelled" if np.isnan(targets).any() else kind)
    for name in metrics:
        check_labels(name, targets)
    return metrics


def published_results(
    files: Sequence[str], dataset: str, fold: int | None
) -> tuple[PublishedResult, ...]:
    """Published results of model files, known by their names, on the test clips of a data set."""
    known = [entry for entry in map(by_file, files) if entry and entry.labels == dataset]
    if not known or len(known) < len(files):
        return ()
    first, found = known[0], None
    if len(known) > 1:
        found = _ENSEMBLES.get(published_set(files) or "")
    elif first.claimed is not None and (dataset != "esc50" or first.name == f"esc50_fold{fold}"):
        found = first.claimed, "released weights"
    layout = layouts().get(dataset)
    if found is None or layout is None:
        return ()
    return tuple(PublishedResult(metric, *found) for metric in layout.published_metrics)


def published_set(files: Sequence[str]) -> str | None:
    """The name of the published ensemble that these files are, in any order."""
    for name, members in ENSEMBLES.items():
        if sorted(PUBLISHED[member].file for member in members) == sorted(files):
            return name
    return None
