"""Chooses which trained models a study keeps, and finds them by study, variant, seed and fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from passt_bench.errors import InputError, check_known
from passt_bench.records.run import CellRecord, StudyRecord, count_of
from passt_bench.records.store import Store
from passt_bench.runner.planned_cell import MODEL, PlannedCell

MODEL_BYTES = 10**9  # that the models of one run of each variant may take together


def with_kept_models(cells: Sequence[PlannedCell], keep: bool | None) -> list[PlannedCell]:
    """Decides which trained models are kept.

    All, none, or (None) that of one run of each variant, the first ones that together take at most
    `MODEL_BYTES`.
    """
    kept, taken = [], 0
    for cell in cells:
        fits = cell.pictured and taken + cell.model_bytes <= MODEL_BYTES
        keeps = fits if keep is None else keep
        taken += cell.model_bytes * keeps
        kept.append(replace(cell, keeps_model=keeps))
    return kept


def describe_models(todo: Sequence[PlannedCell]) -> str:
    """A sentence on the trained models that will be kept."""
    kept = [cell for cell in todo if cell.keeps_model]
    size = f"{sum(cell.model_bytes for cell in kept) / 1e6:.1f} MB"
    text = f"Trained models: {len(kept)} of {count_of(len(todo), 'run')} will be kept ({size})"
    if len(kept) == len(todo):
        return f"{text}."
    if len(kept) < sum(cell.pictured for cell in todo) and kept:
        text += f", because one of each variant would take more than {MODEL_BYTES / 1e9:g} GB"
    return f"{text}; --keep-models keeps all, also those of runs that are finished."


def kept_models(study: StudyRecord, store: Store) -> list[str]:
    """The names of the models that were kept, as `find_model` takes them."""
    return [
        ":".join((study.name, variant.name, *_place(cell)))
        for variant in study.variants
        for cell in variant.cells
        if (store.folder(cell.key) / MODEL).is_file()
    ]


def _place(cell: CellRecord) -> tuple[str, ...]:
    return (str(cell.seed), *([] if cell.fold is None else [str(cell.fold)]))


def find_model(name: str, runs: Path) -> str:
    """The path of a model file: of a record's folder, or of ``STUDY:VARIANT[:SEED[:FOLD]]``.

    Without a seed or fold, the first that was kept. Any other text is returned as it is.

    Raises:
        InputError: a study on record has no such variant or run, or did not keep its model.
    """
    if (Path(name) / MODEL).is_file():
        return str(Path(name) / MODEL)
    study, _, rest = name.partition(":")
    if Path(name).exists() or not rest or study not in Store(runs).studies():
        return name
    store = Store(runs)
    record = store.study(study)
    cells = {
        (variant.name, *_place(cell)): cell.key
        for variant in record.variants
        for cell in variant.cells
    }
    variants = [variant.name for variant in record.variants]
    # A variant's name may have colons, so the longest that fits is meant.
    fitting = [name for name in variants if f"{rest}:".startswith(f"{name}:")]
    variant = max(fitting, key=len, default=rest)
    check_known(variant, variants, "no such variant", field="--checkpoint", source=study)
    wanted = tuple(rest[len(variant) + 1 :].split(":")) if len(rest) > len(variant) else ()
    runs_of = [
        key for place, key in cells.items() if place[: 1 + len(wanted)] == (variant, *wanted)
    ]
    paths = [store.folder(key) / MODEL for key in runs_of]
    if found := [path for path in paths if path.is_file()]:
        return str(found[0])
    kept = [each for each in kept_models(record, store) if each.startswith(f"{study}:{variant}:")]
    remedy = f"Kept: {', '.join(kept)}. " if kept else ""
    if runs_of:
        again = record.command + " --keep-models" * ("--keep-models" not in record.command)
        remedy += f"It can be trained again, with the same result: {again}"
    raise InputError(
        "the model of this run was not kept" if runs_of else "the study has no such run",
        field="--checkpoint",
        value=name,
        remedy=remedy or f"Known seeds: {', '.join(map(str, record.seeds))}.",
    )
