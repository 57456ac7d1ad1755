"""Turns cost sessions into pandas tables: seconds by phase, memory and arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from passt_bench.analysis.frame import NAN, number
from passt_bench.records.run import StudyRecord, VariantRecord
from passt_bench.records.session import ArmRecord, ComparisonRecord, Interval, SessionRecord

HasArms = StudyRecord | ComparisonRecord  # both have variants with arms, and a baseline


_PHASE_COLUMNS = (
    *("variant", "phase", "median", "low", "high", "n", "ratio", "ratio_low", "ratio_high"),
    *("baseline_median", "session"),
)
_COUNTED = ("flops", "flops_inference", "mfu", "compile_seconds", "published")
_ARM_COLUMNS = (
    *("variant", "status", "message", "session", "attention", "batch_size", "tokens"),
    *("tokens_full", "parameters", *_COUNTED),
)


def costs_of(study: HasArms, sessions: Iterable[SessionRecord]) -> pd.DataFrame:
    """Time costs of the variants of a study, one row per variant and phase.

    Columns: ``variant``, ``phase``, ``median``, ``low``, ``high`` (seconds per step, n samples),
    ``n``, ``ratio``, ``ratio_low``, ``ratio_high`` (to the baseline of the same session),
    ``baseline_median`` (seconds, same session), ``session`` (key). Ratios may be compared across
    sessions; seconds may not. Variants that were not measured have no row.
    """
    missing = Interval(NAN, NAN, NAN, 0)
    rows = []
    for variant, session, arm in _measured_arms(study, sessions):
        base = next(other for other in session.arms if other.key == session.baseline)
        for phase, seconds in arm.phases.items():
            ratio, baseline = arm.ratios.get(phase, missing), base.phases.get(phase, missing)
            quantities = (seconds.median, seconds.low, seconds.high, seconds.n)
            ratios = (ratio.median, ratio.low, ratio.high, baseline.median)
            rows.append((variant.name, phase, *quantities, *ratios, session.key))
    return pd.DataFrame(rows, columns=list(_PHASE_COLUMNS))


def memory_of(study: HasArms, sessions: Iterable[SessionRecord]) -> pd.DataFrame:
    """Memory and operations of the variants of a study, one row per variant.

    Columns: ``variant``, ``status`` (``missing`` if it was not measured), ``message``,
    ``session`` (key), ``attention``, ``batch_size``, ``tokens``, ``tokens_full``, ``parameters``,
    ``flops``, ``flops_inference``, ``mfu``, ``compile_seconds``, ``published``, and one column per
    memory entry of `ArmRecord` (bytes).
    """
    measured = {v.name: (session, arm) for v, session, arm in _measured_arms(study, sessions)}
    rows: list[dict[str, Any]] = []
    for variant in study.variants:
        if variant.name not in measured:
            text = {"message": "", "session": "", "attention": ""}
            rows.append({"variant": variant.name, "status": "missing", **text})
            continue
        session, arm = measured[variant.name]
        rows.append(
            {
                "variant": variant.name,
                "status": arm.status,
                "message": arm.message or "",
                "session": session.key,
                "attention": arm.attention,
                "batch_size": arm.batch_size,
                # An arm that failed early has not counted these.
                "tokens": arm.tokens or variant.tokens,
                "tokens_full": arm.tokens_full or variant.tokens_full,
                "parameters": arm.parameters or NAN,
                **{name: number(getattr(arm, name)) for name in _COUNTED},
                **arm.memory,
            }
        )
    entries = sorted({name for row in rows for name in row} - set(_ARM_COLUMNS))
    return pd.DataFrame(rows, columns=[*_ARM_COLUMNS, *entries])


def sessions_used(study: HasArms, sessions: Iterable[SessionRecord]) -> tuple[SessionRecord, ...]:
    """The sessions that a study's costs come from, oldest first."""
    used = {session.key: session for _, session, _ in _measured_arms(study, sessions)}
    return tuple(sorted(used.values(), key=_age))


def last_arms(study: HasArms, sessions: Iterable[SessionRecord]) -> dict[str, ArmRecord]:
    """Variant → its arm in the session that its costs come from, failed ones included."""
    return {variant.name: arm for variant, _, arm in _measured_arms(study, sessions)}


def _measured_arms(
    study: HasArms, sessions: Iterable[SessionRecord]
) -> list[tuple[VariantRecord, SessionRecord, ArmRecord]]:
    """Each variant with its arm in the newest session that measured it against the baseline.

    Every session has the baseline; its seconds are taken from the session that most variants come
    from, so that they are of the same session.
    """
    base = next(v.arm for v in study.variants if v.name == study.baseline)
    newest: dict[str, tuple[SessionRecord, ArmRecord]] = {}
    for session in sorted(sessions, key=_age):
        if session.baseline == base:
            newest.update({arm.key: (session, arm) for arm in session.arms})
    others = [v.arm for v in study.variants if v.arm != base and v.arm in newest]
    if others:
        serving = Counter(newest[arm][0].key for arm in others)
        chosen = max((newest[arm][0] for arm in others), key=lambda s: (serving[s.key], *_age(s)))
        newest[base] = (chosen, next(arm for arm in chosen.arms if arm.key == base))
    return [(v, *newest[v.arm]) for v in study.variants if v.arm in newest]


def _age(session: SessionRecord) -> tuple[str, str]:
    return session.finished, session.key
