"""Reads the results of one study for its report, from one or several stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from passt_bench.analysis.compare import Comparison, VariantMean, compare, variant_means
from passt_bench.analysis.costs import costs_of, memory_of, sessions_used
from passt_bench.analysis.frame import cells_of, find_runs
from passt_bench.errors import InputError, choose_from
from passt_bench.records.run import RunRecord, StudyRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store


@dataclass(frozen=True)
class Results:
    """A study with its results.

    Attributes:
        study: the expansion.
        cells: see `frame.cells_frame`.
        means: the primary metric of every variant, the baseline among them, in the study's order.
        comparisons: every variant except the baseline, in the study's order.
        costs: see `costs.costs_of`.
        memory: see `costs.memory_of`.
        records: key → record, of the cells that have one.
        sessions: the cost sessions that the costs come from, oldest first.
    """

    study: StudyRecord
    cells: pd.DataFrame
    means: tuple[VariantMean, ...]
    comparisons: tuple[Comparison, ...]
    costs: pd.DataFrame
    memory: pd.DataFrame
    records: dict[str, RunRecord]
    sessions: tuple[SessionRecord, ...]


def load_results(name: str, stores: Sequence[Store]) -> Results:
    """Reads a study and its results.

    Args:
        name: name of a study that was run.
        stores: searched in this order; the study and each record come from the first that has it.

    Raises:
        InputError: no store has the study, or a record is broken or of other data.
    """
    store = next((store for store in stores if name in store.studies()), None)
    if store is None:
        known = {study for store in stores for study in store.studies()}
        raise InputError(
            "there is no study of this name",
            source=" or ".join(str(store.root) for store in stores),
            field="study",
            value=name,
            remedy=f"{choose_from(known, name)} Run it first: passt-bench run {name}",
        )
    study = store.study(name)
    sessions = {session.key: session for store in stores[::-1] for session in store.sessions()}
    return analyze(study, find_runs(study, stores), sessions.values())


def analyze(
    study: StudyRecord, records: Mapping[str, RunRecord], sessions: Iterable[SessionRecord]
) -> Results:
    """Computes the results of a study.

    Args:
        study: the expansion; only its variants are used.
        records: key → record, of its cells and possibly others.
        sessions: cost sessions, of its variants and possibly others.

    Raises:
        InputError: a record is of other data than the study's, or the metric has no direction.
    """
    keys = [cell.key for variant in study.variants for cell in variant.cells]
    cells, used = cells_of(study, records), sessions_used(study, sessions)
    return Results(
        study=study,
        cells=cells,
        means=tuple(variant_means(study, cells)),
        comparisons=tuple(compare(study, cells)),
        costs=costs_of(study, used),
        memory=memory_of(study, used),
        records={key: records[key] for key in keys if key in records},
        sessions=used,
    )
