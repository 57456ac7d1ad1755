"""Measures the noise floor from an A/A study, and says what a planned study can show above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from passt_bench.analysis.compare import LEVELS, block_table
from passt_bench.analysis.frame import cells_of, find_runs
from passt_bench.analysis.statistics import (
    NAN,
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
from passt_bench.spec.study import INTERVAL_FROM

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
    from scipy.stats import binomtest  # slow

    found = binomtest(round(share * of), of).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def clip_sentence(study: StudyRecord, clips: int) -> str:
    """That one of so many test clips counts for more than the margin; empty if it does not."""
    margin = study.tolerance
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
    """What a planned study can show, within which margins, and the seeds that its own takes.

    Of an unknown noise ``floor`` it says so in standard deviations, and no numbers of seeds.
    """
    seeds, arms = study.judged_at[-1], len(study.variants)
    level = LEVELS[len(study.judged_at) - 1]
    if seeds < INTERVAL_FROM:
        return f"A verdict needs {INTERVAL_FROM} seeds: --seeds {INTERVAL_FROM}."
    own = floor or NoiseFloor(NAN, math.sqrt(2))
    least, same = own.detectable(seeds, arms, level), own.margin(seeds, arms, level)
    unit = f" or more in {study.metric}" if floor else " standard deviations of a run or more"
    text = (
        f"{seeds} seeds will probably (0.8) show a difference of {least:.2g}{unit}; the smallest "
        f"margin for “not worse” is then {least:.2g}, for “same” {same:.2g}."
    )
    if floor is None:
        return f"{text} How many seeds the study's margin takes is not known without an A/A study."
    margin = study.tolerance
    takes = [
        next((n for n in range(INTERVAL_FROM, _MOST) if least_of(n, arms, level) <= margin), None)
        for least_of in (floor.detectable, floor.margin)
    ]
    worse, equal = (f"{n or f'over {_MOST}'} seeds" for n in takes)
    return (
        f"{text} The margin of {margin:g} takes {worse} for “not worse”, {equal} for “same”. This "
        f"holds if all variants are as quiet as those of {STUDY}."
    )
