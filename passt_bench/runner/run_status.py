"""Counts how many runs of a study are done, failed, running, interrupted or missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from passt_bench.errors import InputError
from passt_bench.records.run import CellRecord, Outcome, StudyRecord
from passt_bench.records.store import Store
from passt_bench.runner.locks import PROGRESS, is_running
from passt_bench.runner.request import StudyRequest, check_choice, choose, with_seeds
from passt_bench.spec.study import Study

State = Literal["done", "failed", "running", "interrupted", "missing"]
STATES: tuple[State, ...] = ("done", "failed", "running", "interrupted", "missing")


@dataclass(frozen=True)
class VariantStatus:
    """How many runs of a variant are in which state.

    Attributes:
        variant: name of the variant.
        cells: state → number of cells.
        retried: number of cells whose record is not from the first attempt.
        failures: a line for each cell that failed.
    """

    variant: str
    cells: dict[State, int]
    retried: int
    failures: tuple[str, ...]


def variant_statuses(study: StudyRecord, store: Store) -> list[VariantStatus]:
    """The status of each variant, in the study's order."""
    statuses = []
    for variant in study.variants:
        counts: Counter[State] = Counter()
        retried, failures = 0, []
        for cell in variant.cells:
            outcome = store.outcome(cell.key)
            state = _state(cell.key, outcome, store)
            counts[state] += 1
            retried += outcome is not None and outcome.attempt > 1
            if outcome is not None and state == "failed":
                failures.append(_failure(variant.name, cell, outcome, store))
        cells: dict[State, int] = {state: counts[state] for state in STATES}
        statuses.append(VariantStatus(variant.name, cells, retried, tuple(failures)))
    return statuses


def recorded_study(study: Study, request: StudyRequest, store: Store) -> StudyRecord | None:
    """The part of a study's record that a request is about; needs neither data nor PyTorch.

    Args:
        study: the study with the changes of the command line.
        request: seeds, folds and variants.
        store: where the study may be on record.

    Returns:
        The record with only these seeds, folds and variants. None if the study must be planned: it
        is not on record, or not with these recipes or this many seeds or folds.

    Raises:
        InputError: a variant is unknown, see `check_choice`.
    """
    known = [variant.name for variant in study.variants]
    check_choice(
        request.variants,
        request.baseline,
        known=known,
        baselines=[study.baseline],
        source=study.name,
    )
    try:
        record = store.study(request.name or study.name)
    except InputError:
        return None
    seeds = with_seeds(study, request.seeds).seeds
    folds = (study.folds or record.folds or ())[: request.folds]
    if (
        {variant.name: study.recipe(variant) for variant in study.variants}
        != {variant.name: variant.recipe for variant in record.variants}
        or study.baseline != record.baseline
        or not {*seeds} <= {*record.seeds}
        or not {*folds} <= {*(record.folds or ())}
        or len(folds) < (request.folds or 0)
    ):
        return None
    variants = tuple(
        replace(
            v, cells=tuple(c for c in v.cells if c.seed in seeds and c.fold in (folds or (None,)))
        )
        for v in record.variants
    )
    record = replace(record, variants=variants, seeds=seeds, folds=folds or None)
    return choose(record, request.variants, request.baseline)


def _state(key: str, outcome: Outcome | None, store: Store) -> State:
    if outcome is not None and outcome.status == "ok":
        return "done"
    begun = (store.folder(key) / PROGRESS).is_file()
    if (begun or outcome is None) and is_running(store.root, key):
        return "running"
    if outcome is not None:
        return "failed"
    return "interrupted" if begun else "missing"


def _failure(variant: str, cell: CellRecord, outcome: Outcome, store: Store) -> str:
    last = (outcome.message or "").strip().splitlines()[-1:]
    before = [record.status for record in store.attempts(cell.key)[:-1]]
    attempt = f" (attempt {outcome.attempt}, before: {', '.join(before)})" if before else ""
    where = f"seed {cell.seed}" + (f", fold {cell.fold}" if cell.fold is not None else "")
    return f"{variant}, {where}: {outcome.status}{attempt}: " + "".join(last)
