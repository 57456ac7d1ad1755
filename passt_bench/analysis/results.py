"""Reads the results of one study, from one or several stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import pandas as pd

from passt_bench.analysis import budgets
from passt_bench.analysis.compare import (
    Comparison,
    VariantMean,
    judge,
    metric_direction,
)
from passt_bench.analysis.frame import age, cells_of, find_runs, measured_arms
from passt_bench.intervals import Rounds, round_medians
from passt_bench.records.evaluation import Against, EvaluationRecord
from passt_bench.records.files import unpack_json
from passt_bench.records.run import RunRecord, StudyRecord
from passt_bench.records.session import ArmRecord, SessionRecord
from passt_bench.records.store import Store
from passt_bench.spec.codec import validate
from passt_bench.spec.study import INTERVAL_FROM

_STEP = "train_step"


@dataclass(frozen=True)
class Results:
    """A study with its results; variants are in the study's order."""

    study: StudyRecord
    cells: pd.DataFrame  # see `frame.cells_of`
    means: tuple[VariantMean, ...]  # of the primary metric, that of the baseline too
    comparisons: tuple[Comparison, ...]  # every variant except the baseline
    records: dict[str, RunRecord]  # by key, of the cells that have one
    arms: dict[str, ArmRecord]  # variant → its measurement, failed ones included
    sessions: tuple[SessionRecord, ...]  # that the costs come from, oldest first
    declared: Mapping[str, Sequence[Comparison]] = field(default_factory=dict)  # by family
    # FLOPs or time → what each model needs to be as good as the baseline's with one of its budgets.
    reached: Mapping[str, Sequence[budgets.Reached]] = field(default_factory=dict)
    look: int | None = None  # number of seeds that verdicts are read at; None before the first
    ended: int = 0  # seeds with which all runs have ended, before the first with which not
    same: Mapping[str, str] = field(default_factory=dict)  # see `Judged.same`
    # Of a study of costs, by session: rounds of each restart, and variant → seconds per clip of a
    # training step in each round.
    rounds: Sequence[tuple[Sequence[int], Mapping[str, Sequence[float]]]] = ()
    # Of a study with too few seeds for intervals: its kept models, compared on the same clips.
    paired: Sequence[EvaluationRecord] = ()
    whole: StudyRecord | None = None  # the study on record, if not all of it has begun

    @property
    def not_run(self) -> list[str]:
        """The variants of the study on record that have not begun, and are not in these results."""
        shown = {variant.name for variant in self.study.variants}
        return [v.name for v in (self.whole or self.study).variants if v.name not in shown]


def load_results(name: str, stores: Sequence[Store]) -> Results:
    """Reads a study and its records, each from the first of the stores that has it.

    Raises:
        InputError: no store has the study, or a record is broken or of other data.
    """
    study = next((s for s in stores if name in s.studies()), stores[0]).study(name)
    sessions = {session.key: session for store in stores[::-1] for session in store.sessions()}
    results = analyze(study, find_runs(study, stores), sessions.values())
    if not study.seeds:
        return replace(results, rounds=_rounds(results, stores))
    return replace(results, paired=_paired(study, stores))


def _paired(study: StudyRecord, stores: Sequence[Store]) -> list[EvaluationRecord]:
    """The evaluations that compare two models of the study, named as in it."""
    if len(study.seeds) >= INTERVAL_FROM:
        return []
    found = {record.key: record for store in stores[::-1] for record in store.evaluations()}
    runs, paired = study.run_names, []
    names = {key: name for name, key in runs.items()}

    def name_here(model: EvaluationRecord | Against) -> str:
        keys = [member.run or runs.get(member.name, "") for member in model.members]
        return ", ".join(names[key] for key in keys) if {*keys} <= names.keys() else ""

    for record in found.values():
        if record.against and record.fingerprint.digest == study.fingerprint.digest:
            own, other = name_here(record), name_here(record.against)
            if own and other:
                against = replace(record.against, name=other)
                paired.append(replace(record, name=own, against=against))
    return paired


def _rounds(
    results: Results, stores: Sequence[Store]
) -> list[tuple[Sequence[int], dict[str, list[float]]]]:
    found: list[tuple[Sequence[int], dict[str, list[float]]]] = []
    for session, store in product(results.sessions, stores):
        path = store.folder(session.key) / "samples.json.gz"
        if not path.is_file():
            continue
        samples = validate(dict[str, dict[str, Rounds]], unpack_json(path), source=path)
        timed = {
            name: [s / arm.batch_size for s in round_medians(samples[arm.key][_STEP])]
            for name, arm in results.arms.items()
            if _STEP in samples.get(arm.key, {})
        }
        found.append((session.restarts, timed))
    return found


def analyze(
    study: StudyRecord,
    records: Mapping[str, RunRecord],
    sessions: Iterable[SessionRecord],
) -> Results:
    """Computes the results of a study from records of its cells and sessions, and possibly others.

    Raises:
        InputError: a record is of other data than the study's, or the metric has no direction.
    """
    keys = [cell.key for variant in study.variants for cell in variant.cells]
    cells, measured = cells_of(study, records), measured_arms(study, sessions)
    arms = {name: arm for name, (_, arm) in measured.items()}
    judged = judge(study, cells) if keys else None
    declared, reached = {}, {}
    if judged is not None:
        better, seconds = metric_direction(study), budgets.relative_seconds(study, arms)
        declared = judged.declared(budgets.at_equal_time(study, seconds))
        costs = {"FLOPs": budgets.relative_flops(study), "time": seconds}
        reached = {u: budgets.reach(study, judged.table, better, c) for u, c in costs.items()}
    used = {session.key: session for session, _ in measured.values()}
    return Results(
        study=study,
        cells=cells,
        means=tuple(judged.means if judged else ()),
        comparisons=tuple(judged.comparisons if judged else ()),
        records={key: records[key] for key in keys if key in records},
        arms=arms,
        sessions=tuple(sorted(used.values(), key=age)),
        declared=declared,
        reached=reached,
        look=judged.look if judged else None,
        ended=judged.ended if judged else 0,
        same=judged.same if judged else {},
    )


def begun(results: Results) -> Results:
    """The results of the variants that were asked for, judged as the study that was run.

    In records of earlier versions, and in studies of costs, they are those that have begun.
    """
    study = results.study
    asked = {name for names in study.asked for name in names}
    # Costs do not make a variant begun: variants of equal cost share one measurement.
    variants = tuple(
        variant
        for variant in study.variants
        if variant.name in {study.baseline, *asked}
        or (not asked and any(cell.key in results.records for cell in variant.cells))
        or (not variant.cells and variant.name in results.arms)
    )
    if variants == study.variants:
        return results
    part = analyze(replace(study, variants=variants), results.records, results.sessions)
    return replace(part, rounds=results.rounds, paired=results.paired, whole=study)
