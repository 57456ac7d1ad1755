"""Builders of studies, quality records and cost sessions for the tests of the analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from passt_bench.analysis.frame import cells_of
from passt_bench.records.run import (
    CellRecord,
    Fingerprint,
    RunRecord,
    Status,
    StudyRecord,
    VariantRecord,
)
from passt_bench.records.session import ArmRecord, Interval, SessionRecord
from passt_bench.spec import Patchout, Recipe
from passt_bench.spec.key import digest

NAN = float("nan")
DATA = Fingerprint("synthetic", "a1b2", 1900, 1900, ("band", "clicks"), True, {"16000": 1900})


def recipe(index: int) -> Recipe:
    """The baseline's for 0; else with a patchout of its own."""
    if index == 0:
        return Recipe()
    return replace(Recipe(), patchout=Patchout("unstructured", rate=index / 100))


def key(variant: str, seed: int, fold: int | None) -> str:
    return digest([variant, seed, fold])


def arm_key(name: str) -> str:
    return digest(["arm", name])


def session_key(name: str) -> str:
    """Keys are in the order of their names."""
    return name.encode().hex().ljust(16, "0")


def study(
    names: Sequence[str] = ("none", "time", "frequency"),
    seeds: Sequence[int] = (0, 1, 2),
    folds: Sequence[int] | None = None,
    margin: float | None = None,
    recipes: Sequence[Recipe] | None = None,
) -> StudyRecord:
    """A study whose first variant is the baseline; its arms have the keys `arm_key`."""
    variants = tuple(
        VariantRecord(
            name=name,
            recipe=recipes[i] if recipes else recipe(i),
            arm=arm_key(name),
            cells=tuple(
                CellRecord(key(name, seed, fold), seed, fold)
                for seed in seeds
                for fold in (folds or (None,))
            ),
            tokens=66 - i,
            tokens_full=66,
            grid=(8, 8),
            patchout={"rate": i / 100},
        )
        for i, name in enumerate(names)
    )
    return StudyRecord(
        name="tiny", question="Does it matter?", metric="mAP", baseline=names[0],
        variants=variants, seeds=tuple(seeds), folds=tuple(folds) if folds else None,
        fingerprint=DATA, margin=margin,
    )  # fmt: skip


def run(
    of: StudyRecord,
    variant: str,
    seed: int,
    value: float,
    *,
    fold: int | None = None,
    status: Status = "ok",
) -> RunRecord:
    """The record of one cell; mAP is ``value``."""
    found = next(v for v in of.variants if v.name == variant)
    ok = status == "ok"
    return RunRecord(
        key=key(variant, seed, fold), status=status, recipe=found.recipe, seed=seed, fold=fold,
        fingerprint=DATA, metrics={"mAP": value, "loss": 1 - value} if ok else {},
        occlusions={"hide_time": {"mAP": value / 2}} if ok else {},
        tokens=found.tokens if ok else 0, tokens_full=66 if ok else 0, grid=(8, 8) if ok else None,
        patchout={"rate": 0.25} if ok else {}, parameters=76_000, flops=1e7 if ok else None,
        train={"step_seconds": 0.02}, clocks={"train": 5.0},
        message=None if ok else "killed", finished="2026-11-02T10:00:00Z",
    )  # fmt: skip


def cells_with(
    of: StudyRecord, values: Mapping[str, Sequence[float]], metric: str = "mAP"
) -> pd.DataFrame:
    """The cells of a study without folds: variant → value by seed, NaN for a diverged run."""
    records = {}
    for name, row in values.items():
        for seed, value in zip(of.seeds, row, strict=True):
            status: Status = "ok" if np.isfinite(value) else "diverged"
            record = run(of, name, seed, value if status == "ok" else 0.0, status=status)
            records[record.key] = record
    return cells_of(of, records).rename(columns={"mAP": metric})


def session(
    name: str,
    finished: str,
    seconds: Mapping[str, float],
    *,
    baseline: str = "none",
    failed: Sequence[str] = (),
) -> SessionRecord:
    reference = seconds[baseline]
    arms = []
    for arm, value in seconds.items():
        if arm in failed:
            arms.append(ArmRecord(arm_key(arm), "oom", Recipe(), message="out of memory"))
            continue
        ratio = value / reference
        arms.append(
            ArmRecord(
                arm_key(arm), "ok", Recipe(), tokens=50, tokens_full=66, parameters=76_000,
                batch_size=32,
                phases={"train_step": Interval(value, 0.9 * value, 1.1 * value, 45)},
                ratios={"train_step": Interval(ratio, 0.95 * ratio, 1.05 * ratio, 15)},
                memory={"train_peak": 3e8, "saved_for_backward": 1e8}, flops=1e7,
                flops_inference=4e6, mfu=0.2, attention="math",
            )
        )  # fmt: skip
    return SessionRecord(
        session_key(name), arm_key(baseline), tuple(arms), rounds=15, steps=3, finished=finished
    )
