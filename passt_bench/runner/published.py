"""What is published of a checkpoint or an ensemble on a data set, if anything is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from passt_bench.models.ensemble import ENSEMBLES
from passt_bench.models.weights import PUBLISHED, Published
from passt_bench.models.weights.table import by_file
from passt_bench.records.evaluation import EvaluationRecord, PublishedResult

# Each data set's metric as its authors compute it, and those that equal it where every class has a
# positive clip.
_METRICS: dict[str, tuple[str, ...]] = {
    "audioset": ("mAP_official", "mAP"),
    "fsd50k": ("mAP_official", "mAP"),
    "openmic": ("mAP_masked",),
    "esc50": ("accuracy",),
}
# Evaluation clips of the publications; of ESC-50 those of a fold.
_CLIPS = {"audioset": 18951, "fsd50k": 10231, "openmic": 5085, "esc50": 400}
_RELEASE = "released weights"
_TABLE = "paper, Table 2"
# Table 2 of the paper; the three models of stride 10 stand in config_updates.py of the reference
# code alone.
_ENSEMBLES: dict[str, tuple[float, str]] = {
    "ensemble_s16_14": (0.486, _TABLE),
    "ensemble_4": (0.493, _TABLE),
    "ensemble_5": (0.495, _TABLE),
    "ensemble_many": (0.496, _TABLE),
    "ensemble_s10": (0.4864, "config_updates.py of the reference code"),
}


def with_published(record: EvaluationRecord) -> EvaluationRecord:
    """A record of evaluation clips with what is published, and a note where clips are lacking."""
    dataset = record.fingerprint.dataset
    found = published_results([m.name for m in record.members], dataset, record.fold)
    theirs = _CLIPS.get(dataset, record.clips)
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
    return tuple(PublishedResult(metric, value, source) for metric in _METRICS.get(dataset, ()))


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
