"""Whether checkpoints, data, split and metrics go together, and what is published of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from passt_bench.data import Dataset, layouts
from passt_bench.errors import InputError
from passt_bench.models.ensemble import ENSEMBLES, Ensemble, Member
from passt_bench.published_weights import PUBLISHED, Published, by_file
from passt_bench.records.evaluation import SPLITS, EvaluationRecord, PublishedResult
from passt_bench.registry import METRICS
from passt_bench.spec.recipe import DataSpec
from passt_bench.training.metrics import DataKind, check_labels, default_metrics
from passt_bench.vocabulary import are_numbers

_RELEASE = "released weights"
_TABLE = "paper, Table 2"
# Table 2 of the paper; the three models of stride 10 are in config_updates.py of the reference
# code alone.
_ENSEMBLES: dict[str, tuple[float, str]] = {
    "ensemble_s16_14": (0.486, _TABLE),
    "ensemble_4": (0.493, _TABLE),
    "ensemble_5": (0.495, _TABLE),
    "ensemble_many": (0.496, _TABLE),
    "ensemble_s10": (0.4864, "config_updates.py of the reference code"),
}


def data_spec(ensemble: Ensemble, name: str) -> tuple[DataSpec, list[str]]:
    """Clips as long as the members were trained on; as many as they had, where it is their data."""
    recipes = {cast(Member, member).recipe.data for member in ensemble.members}
    spec = replace(recipes.pop(), seconds=ensemble.clip) if len(recipes) == 1 else None
    if spec is None or spec.name != name:
        return DataSpec(name, ensemble.clip), []
    chosen = {field: getattr(spec, field) for field in ("train_clips", "test_clips")}
    shown = ", ".join(f"{field}={count}" for field, count in chosen.items() if count is not None)
    return spec, [f"clips as in the checkpoint's recipe: {shown}"] if shown else []


def match_classes(ours: Sequence[str], theirs: Sequence[str]) -> tuple[np.ndarray, str]:
    """Brings logits into the order of a data set's classes.

    Args:
        ours: the checkpoint's classes.
        theirs: the data set's.

    Returns:
        The logits' columns in the data set's order, and a note where the checkpoint brings no
        names, so that its order is taken to be the data set's.

    Raises:
        InputError: they are not the same classes.
    """
    if len(ours) != len(theirs):
        raise InputError(
            f"the data have {len(theirs)}",
            source="checkpoint",
            field="number of classes",
            value=len(ours),
            remedy="Give a checkpoint of these data.",
        )
    if are_numbers(ours):
        return np.arange(len(ours)), (
            "the checkpoint brings no class names: its order is taken to be the data set's"
        )
    place = {name: index for index, name in enumerate(ours)}
    for name in theirs:
        if name not in place:
            stranger = next(own for own in ours if own not in theirs)
            raise InputError(
                "the checkpoint does not know it",
                source="data",
                field="class",
                value=name,
                remedy=f"It knows {stranger!r} instead. Give a checkpoint of these classes, or the "
                "names of its logits with --labels where they are other spellings.",
            )
    return np.array([place[name] for name in theirs]), ""


def clips_of(dataset: Dataset, split: str, fold: int | None) -> np.ndarray:
    """Indices of the clips to score."""
    if split not in SPLITS:
        raise InputError(
            "no such split", field="--split", value=split, remedy=f"Known: {', '.join(SPLITS)}."
        )
    if dataset.folds and fold is None:
        raise InputError(
            "these data have folds",
            field="--fold",
            remedy=f"Say which one is held out: {', '.join(map(str, dataset.folds))}.",
        )
    train, test = dataset.split(fold)
    chosen = {"train": train, "test": test, "valid": dataset.validation()}[split]
    if chosen is None or not len(chosen):
        raise InputError(
            "these data have no such clips",
            field="--split",
            value=split,
            remedy="Use --split test.",
        )
    return chosen


def metrics_of(asked: Sequence[str], dataset: Dataset, clips: np.ndarray) -> tuple[str, ...]:
    """The metrics that were asked for, or those of the data set; refused where they do not fit."""
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
                "a clip of these data may have several classes",
                field="--metrics",
                value=name,
                remedy=f"Use {default_metrics(kind)[0]}.",
            )
    return metrics


def with_published(record: EvaluationRecord) -> EvaluationRecord:
    """A record of evaluation clips with what is published, and a note where clips are lacking."""
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
    """The results that are published of checkpoints on the evaluation clips of a data set.

    Args:
        files: names of the checkpoints' files, in any order; released files are known by them.
        dataset: registered name.
        fold: that is held out.

    Returns:
        One a metric; none where the files, their ensemble or the data are not of the publication.
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
