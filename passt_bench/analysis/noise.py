"""Measures the noise floor from an A/A study, and says what a planned study can show above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from passt_bench.analysis.compare import DEFAULT_MARGIN, LEVELS, block_table
from passt_bench.analysis.frame import cells_of, find_runs
from passt_bench.analysis.statistics import (
    INTERVAL_FROM,
    Contrast,
    detectable,
    fit_blocks,
    planned_contrast,
    smallest_margin,
)
from passt_bench.errors import InputError
from passt_bench.records.run import StudyRecord
from passt_bench.records.store import Store
from passt_bench.registry import METRICS

STUDY = "noise_floor"  # the suite's A/A study
_MOST = 40  # seeds that a plan looks ahead


@dataclass(frozen=True)
class NoiseFloor:
    """The noise of a comparison, from arms that differ only in their salt."""

    df: float  # residual degrees of freedom, over which the noise is pooled
    deviation: float  # standard deviation of one difference of two arms in one block

    def margin(self, blocks: int, variants: int, level: float = LEVELS[0]) -> float:
        """The smallest margin within which equal variants are *same* with probability 0.8.

        For a planned study with that many seeds, and variants including the baseline.
        """
        return smallest_margin(self._planned(blocks, variants, level))

    def detectable(self, blocks: int, variants: int, level: float = LEVELS[0]) -> float:
        """The smallest difference detected with probability 0.8; arguments as in `margin`."""
        return detectable(self._planned(blocks, variants, level))

    def _planned(self, blocks: int, variants: int, level: float) -> Contrast:
        return planned_contrast(variants, blocks, self.deviation / math.sqrt(2), level)


def noise_floor(study: StudyRecord, cells: pd.DataFrame) -> NoiseFloor:
    """Measures the noise floor from an A/A study, whose differences are all due to chance.

    Raises:
        InputError: two variants differ in more than their salt.
    """
    first = replace(study.variants[0].recipe, salt=0)
    for variant in study.variants:
        if replace(variant.recipe, salt=0) != first:
            raise InputError(
                "not an A/A study: a variant differs from the first in more than its salt",
                source=study.name,
                field=variant.name,
                remedy="Measure the noise floor on a study such as noise_floor.",
            )
    fit = fit_blocks(block_table(study, cells, study.metric).to_numpy(dtype=np.float64))
    return NoiseFloor(df=fit.df, deviation=math.sqrt(2 * fit.variance))


def known_floor(study: StudyRecord, stores: Sequence[Store]) -> NoiseFloor | None:
    """The noise floor of a study's data and metric, from the first store that has an A/A study.

    None if no store has one with results in this metric on these data.
    """
    for store in stores:
        if STUDY not in store.studies():
            continue
        known = store.study(STUDY)
        if (known.fingerprint.digest, known.metric) == (study.fingerprint.digest, study.metric):
            floor = noise_floor(known, cells_of(known, find_runs(known, [store])))
            if floor.df > 0:
                return floor
    return None


def is_share(metric: str) -> bool:
    """Whether a metric is the share of clips that are right, so that each counts the same."""
    known = {item.name: item.build for item in METRICS.all()}
    return metric in known and known[metric].correct(np.eye(2), np.eye(2)) is not None


def share_interval(share: float, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of independent clips."""
    found = stats.binomtest(round(share * of), of).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def clip_sentence(study: StudyRecord, clips: int) -> str:
    """That one of so many test clips counts for more than the margin; empty if it does not."""
    margin = DEFAULT_MARGIN if study.margin is None else study.margin
    if len(study.variants) < 2 or not is_share(study.metric) or not 0 < clips < 1 / margin:
        return ""
    text = (
        f"One of the {clips} test clips changes {study.metric} by {1 / clips:.2g}, "
        f"{1 / clips / margin:.2g} times the margin of ±{margin:g}. Use more clips"
    )
    if study.fingerprint.dataset != "manifest" or study.folds:
        return f"{text}, or folds."
    return f"{text}, or folds: `passt-bench data split manifest=DIR --into-folds 5 --again`"


def design_sentence(study: StudyRecord, floor: NoiseFloor | None) -> str:
    """What a planned study will be able to show, and with how many seeds it could show *same*."""
    seeds, arms = study.judged_at[-1], len(study.variants)
    level = LEVELS[len(study.judged_at) - 1]
    if seeds < INTERVAL_FROM:
        return f"A verdict needs {INTERVAL_FROM} seeds: --seeds {INTERVAL_FROM}."
    given = f"{seeds} seeds will probably (0.8) show a difference of"
    if floor is None:
        planned = planned_contrast(arms, seeds, level=level)
        return (
            f"{given} {detectable(planned):.1f} standard deviations of a run or more, and equal "
            f"variants to be the same within {smallest_margin(planned):.1f}."
        )
    margin = DEFAULT_MARGIN if study.margin is None else study.margin
    text = f"{given} {floor.detectable(seeds, arms, level):.2g} or more in {study.metric}"
    enough = next((n for n in range(seeds, _MOST) if floor.margin(n, arms, level) <= margin), None)
    if enough == seeds:
        text += f", and equal variants to be the same within {margin:g}"
    else:
        plan = f"plan {enough or f'over {_MOST}'} seeds"
        text += f"; to show two variants the same within {margin:g}, {plan}"
    return f"{text}. This holds if all variants are as quiet as those of {STUDY}."
