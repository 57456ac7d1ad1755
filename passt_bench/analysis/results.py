"""Everything that a report of one study needs, read from one or several stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from passt_bench.analysis.compare import (
    DEFAULT_MARGIN,
    Comparison,
    VariantMean,
    compare,
    variant_means,
)
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
        comparisons: of every variant but the baseline, in the study's order.
        costs: see `costs.costs_of`.
        memory: see `costs.memory_of`.
        records: key → record of the cells that have one.
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


def load_results(
    study_name: str, stores: Sequence[Store], *, default_margin: float = DEFAULT_MARGIN
) -> Results:
    """Reads a study and all that its report needs.

    Args:
        study_name: name of a study that was run.
        stores: searched in this order; the study and each record come from the first that has it.
        default_margin: for a study that names none, see `compare.compare`.

    Raises:
        InputError: no store knows the study, or a record is broken or of other data.
    """
    study = _find_study(study_name, stores)
    records = find_runs(study, stores)
    by_key: dict[str, SessionRecord] = {}
    for store in stores:
        for session in store.sessions():
            by_key.setdefault(session.key, session)
    sessions = sessions_used(study, by_key.values())
    cells = cells_of(study, records)
    return Results(
        study=study,
        cells=cells,
        means=tuple(variant_means(study, cells)),
        comparisons=tuple(compare(study, cells, default_margin=default_margin)),
        costs=costs_of(study, sessions),
        memory=memory_of(study, sessions),
        records=records,
        sessions=sessions,
    )


def _find_study(name: str, stores: Sequence[Store]) -> StudyRecord:
    for store in stores:
        if name in store.studies():
            return store.study(name)
    raise InputError(
        "no such study was run here",
        source=", ".join(str(store.root) for store in stores),
        field="study",
        value=name,
        remedy=choose_from((known for store in stores for known in store.studies()), name),
    )
