"""Measures the noise floor from an A/A study, whose differences are all due to chance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from passt_bench.analysis.blocks import NAN, fit_blocks
from passt_bench.analysis.compare import block_table, compare
from passt_bench.analysis.power import detectable, smallest_margin
from passt_bench.errors import InputError
from passt_bench.records.run import StudyRecord


@dataclass(frozen=True)
class NoiseFloor:
    """The noise of a comparison, from arms that differ only in their salt.

    Attributes:
        metric: column of the cells' frame.
        arms: arms with at least one block.
        n: blocks with at least two arms.
        df: residual degrees of freedom, over which the noise is pooled.
        deviation: standard deviation of one difference of two arms in one block; NaN without
            degrees of freedom.
        largest: largest absolute difference of an arm's mean to the baseline's.
        false_positives: arms with the verdict ``better`` or ``worse``, which is always wrong here.
    """

    metric: str
    arms: int
    n: int
    df: int
    deviation: float
    largest: float
    false_positives: tuple[str, ...]

    def margin(self, blocks: int, variants: int) -> float:
        """The smallest margin that an equivalence test can confirm with probability 0.8.

        Args:
            blocks: seeds of the planned study.
            variants: variants of the planned study, the baseline included.
        """
        return smallest_margin(self._error(blocks), (variants - 1) * (blocks - 1))

    def detectable(self, blocks: int, variants: int) -> float:
        """The smallest difference detected with probability 0.8; arguments as in `margin`."""
        df = (variants - 1) * (blocks - 1)
        return detectable(self._error(blocks), df, comparisons=max(variants - 1, 1))

    def _error(self, blocks: int) -> float:
        return self.deviation / float(np.sqrt(blocks)) if blocks > 0 else NAN


def noise_floor(study: StudyRecord, cells: pd.DataFrame, metric: str | None = None) -> NoiseFloor:
    """Measures the noise floor from an A/A study.

    Args:
        study: study whose variants differ only in ``salt``.
        cells: see `frame.cells_frame`.
        metric: another column of ``cells`` than the study's primary metric.

    Raises:
        InputError: two variants differ in more than their salt, or there is no such column.
    """
    first = replace(study.variants[0].recipe, salt=0)
    for variant in study.variants:
        if replace(variant.recipe, salt=0) != first:
            raise InputError(
                "not an A/A study: a variant differs from the first in more than its salt",
                source=study.name,
                field=variant.name,
                remedy="Measure the noise floor on a study such as ablations/noise_floor.py.",
            )
    metric = metric or study.metric
    y = block_table(study, cells, metric).to_numpy(dtype=np.float64)
    fit = fit_blocks(y)
    comparisons = compare(study, cells, metric)
    present = np.isfinite(y)
    differences = [abs(c.difference) for c in comparisons if np.isfinite(c.difference)]
    return NoiseFloor(
        metric=metric,
        arms=int(present.any(axis=1).sum()),
        n=int((present.sum(axis=0) > 1).sum()),
        df=fit.df,
        deviation=float(np.sqrt(2 * fit.variance)),
        largest=max(differences, default=NAN),
        false_positives=tuple(c.variant for c in comparisons if c.verdict in ("better", "worse")),
    )
