"""Compares the variants of a study with its baseline, and measures the noise floor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from passt_bench.analysis.statistics import (
    NAN,
    Contrast,
    blocks_needed,
    contrasts,
    detectable,
    mean_interval,
    smallest_margin,
)
from passt_bench.errors import InputError, check_known
from passt_bench.intervals import read_verdict
from passt_bench.records.run import StudyRecord, VariantRecord
from passt_bench.registry import METRICS, Better, metric_bounds
from passt_bench.spec.study import INTERVAL_FROM, Contrasts, direction

# The level of each look, by their number, at which 5 % of studies err at any (Pocock 1977).
LEVELS = (0.05, 0.0294, 0.0221, 0.0182, 0.0158)

Verdict = Literal[
    "better",
    "worse",
    "same",
    "not worse",
    "undecided",
    "no verdict",
    "not estimable",
    "failed",
]


@dataclass(frozen=True)
class VariantMean:
    """A variant's own mean of a metric over its blocks.

    ``low`` and ``high`` are the 95 % interval of the mean over further seeds, cut at the metric's
    bounds (NaN below three blocks).
    """

    variant: str
    metric: str
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline in one metric, or another contrast of variants.

    Attributes:
        variant: the variant, or the name of a declared contrast, which has no baseline.
        n: blocks that both have.
        difference: variant minus baseline, adjusted for blocks where cells are missing.
        low: lower end of the interval of the difference; the intervals of all variants of the study
            cover together with probability 0.95, at all looks (but see `alone`). Cut at what two
            values of the metric can differ by; NaN below three blocks.
        high: upper end of this interval.
        verdict: see `intervals.read_verdict`; ``no verdict`` without an interval, before the
            planned seeds have ended, or if another study judged these runs before otherwise;
            ``not estimable`` if the runs that succeeded do not determine the difference, ``failed``
            if no run of the variant succeeded.
        detectable: the true difference that these blocks detect with probability 0.8, and the
            smallest margin within which a variant without loss is ``not worse`` as often.
        smallest_margin: the smallest margin within which an equal variant is ``same`` as often.
        blocks_needed: if undecided, the fewest and most blocks that would decide it with
            probability 0.8 if the true difference is the observed one (the second is None beyond
            1000); None if decided, or beyond 1000.
        method: description of the interval.
    """

    variant: str
    baseline: str
    n: int
    difference: float
    low: float
    high: float
    verdict: Verdict
    margin: float
    detectable: float
    smallest_margin: float
    blocks_needed: tuple[int, int | None] | None
    method: str

    @property
    def real(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Judged:
    """The observations of a study that verdicts are read from, and these verdicts."""

    study: StudyRecord
    ended: int  # seeds that have a record of each variant on each fold, before the first without
    look: int | None  # see `Results.look`
    means: list[VariantMean]  # over the variants' blocks, in the study's order
    table: pd.DataFrame  # see `block_tables`
    folds: list[pd.DataFrame]

    @property
    def level(self) -> float:
        """The probability that an interval misses, at each look."""
        return LEVELS[len(self.study.judged_at) - 1]

    @cached_property
    def same(self) -> dict[str, str]:
        """Variant → the first one with the same runs, of all but that first one."""
        first, found = dict[object, str](), dict[str, str]()
        for v in self.study.variants:
            if np.isfinite(values := self.table.loc[v.name].to_numpy(dtype=np.float64)).any():
                name = first.setdefault((_setting(v), values.tobytes()), v.name)
                found |= {v.name: name} if name != v.name else {}
        return found

    @property
    def comparisons(self) -> list[Comparison]:
        """Comparisons with the baseline, in the study's order."""
        base, weights = self.study.baseline, self._against_baseline
        return [self._comparison(n, base, weights[n], *c) for n, c in self._baseline_family.items()]

    def declared(
        self, families: Mapping[str, Contrasts] | None = None
    ) -> dict[str, list[Comparison]]:
        """Family → comparisons, those that the study declares and others, if it has their variants.

        In the declared order. Of other families, what is declared as well is left out.

        The margin holds for differences of two means; of a slope or an interaction the verdict only
        says whether its interval excludes zero. One that is a comparison with the baseline has the
        interval of that comparison, so that a page has one verdict on it.
        """
        study, found = self.study, {}
        names = {variant.name for variant in study.variants}
        declared = {direction(w) for members in study.contrasts.values() for w in members.values()}
        for family, members in {**study.contrasts, **(families or {})}.items():
            own = study.contrasts.get(family, {})
            known = {
                name: weights
                for name, weights in members.items()
                if {*weights} <= names and (name in own or direction(weights) not in declared)
            }
            if not known:
                continue
            items = self._family(known)
            items |= {name: c for name, w in known.items() if (c := self._with_baseline(w))}
            found[family] = [self._comparison(n, "", known[n], *c) for n, c in items.items()]
        place = {pair: number for number, pair in enumerate(study.contrast_order)}
        every = [(family, item) for family, items in found.items() for item in items]
        every.sort(key=lambda own: place.get((own[0], own[1].variant), len(place)))
        return {family: [c for f, c in every if f == family] for family, _ in every}

    def _family(
        self, weights: Mapping[str, Mapping[str, float]]
    ) -> dict[str, tuple[Contrast, int]]:
        """Name → contrast, and how many cover together; variants with the same runs are one arm."""
        arms = [mean.variant for mean in self.means if mean.variant not in self.same]
        rows = {
            name: tuple(sum(x for v, x in w.items() if self.same.get(v, v) == arm) for arm in arms)
            for name, w in weights.items()
        }
        distinct = [row for row in dict.fromkeys(rows.values()) if any(row)]
        y, *folds = (t.loc[arms].to_numpy(dtype=np.float64) for t in (self.table, *self.folds))
        tested = contrasts(y, distinct, folds, level=self.level) if distinct else []
        found = dict(zip(distinct, tested, strict=True))
        together = sum(math.isfinite(c.low) for c in tested)
        nothing = Contrast(y.shape[1], 0.0, 0.0, 0.0, error=0.0, method="own")  # of the same runs
        return {name: (found.get(row, nothing), together) for name, row in rows.items()}

    @property
    def _against_baseline(self) -> dict[str, dict[str, float]]:
        base = self.study.baseline
        return {v.name: {v.name: 1.0, base: -1.0} for v in self.study.variants if v.name != base}

    @cached_property
    def _baseline_family(self) -> dict[str, tuple[Contrast, int]]:
        weights = self._against_baseline
        own = {name: self._family({name: weights[name]})[name] for name in alone(self.study)}
        return self._family(weights) | own

    def _with_baseline(self, weights: Mapping[str, float]) -> tuple[Contrast, int] | None:
        """A contrast as compared with the baseline; None if it is another one."""
        used = {name: weight for name, weight in weights.items() if weight}
        sign = -used.pop(self.study.baseline, 0.0)
        if len(used) != 1 or abs(sign) != 1.0:
            return None
        c, tested = self._baseline_family[next(iter(used))]
        turned = replace(c, estimate=-c.estimate, low=-c.high, high=-c.low)
        return (c if sign > 0 else turned), tested

    def _judged_before(self, weights: Mapping[str, float]) -> bool:
        """Whether another study judged runs of a contrast before, not as `looks_alike` wants."""
        used = {name for name, weight in weights.items() if weight}
        others = (e for e in self.study.earlier if not self.study.looks_alike(e))
        return any(len(used.intersection(other.variants)) > 1 for other in others)

    def _comparison(
        self, name: str, baseline: str, weights: Mapping[str, float], c: Contrast, tested: int
    ) -> Comparison:
        margin = self.study.tolerance
        if not math.isclose(sum(max(weight, 0.0) for weight in weights.values()), 1.0):
            margin = 0.0  # it is not in the metric's unit
        own = next((mean for mean in self.means if baseline and mean.variant == name), None)
        if own is not None and own.n == 0:
            verdict: Verdict = "failed"
        elif not math.isfinite(c.estimate):
            verdict = "not estimable"
        elif self.look is None or not math.isfinite(c.low) or self._judged_before(weights):
            verdict = "no verdict"
        else:
            verdict = read_verdict(c.low, c.high, margin, metric_direction(self.study))
        lowest, highest = metric_bounds(self.study.metric)
        widest = highest - lowest if margin else math.inf
        needed = None
        if verdict == "undecided":
            needed = blocks_needed(c, margin, len(self.means) - len(self.same), tested, self.level)
        return Comparison(
            variant=name,
            baseline=baseline,
            n=c.n,
            difference=c.estimate,
            low=float(np.clip(c.low, -widest, widest)),
            high=float(np.clip(c.high, -widest, widest)),
            verdict=verdict,
            margin=margin,
            detectable=detectable(c),
            smallest_margin=smallest_margin(c),
            blocks_needed=needed,
            method=_method(c, tested),
        )


def judge(study: StudyRecord, cells: pd.DataFrame) -> Judged:
    """Prepares the verdicts of a study from the cells of `frame.cells_of`.

    Of the seeds that have ended in all variants the first ones count, up to the last planned look;
    later ones are not judged.

    Raises:
        InputError: the study's metric is no numeric column.
    """
    ended, look, cells = judged_cells(study, cells)
    table, *folds = block_tables(study, cells, study.metric)
    return Judged(study, ended, look, _means(table, study), table, folds)


def _setting(v: VariantRecord) -> object:
    """What the runs of a variant depend on, with the patches it drops however they were given."""
    patchout = v.recipe.patchout
    if v.patchout:
        patchout = replace(patchout, rate=None, time=None, frequency=None, patches=None)
    return replace(v.recipe, patchout=patchout), str(sorted(v.patchout.items()))


def alone(study: StudyRecord) -> list[str]:
    """The variant whose comparison with the baseline is alone in its family: a primary question.

    Its interval covers by itself, not together with those of the other variants. Of several such
    families, or one that was declared after the first run, none is.
    """
    lone = [direction(*own.values()) for own in study.contrasts.values() if len(own) == 1]
    others = (v.name for v in study.variants if v.name != study.baseline)
    found = [name for name in others if direction({name: 1.0, study.baseline: -1.0}) in lone]
    return found if len(found) == 1 and not study.contrasts_changed else []


def judged_cells(study: StudyRecord, cells: pd.DataFrame) -> tuple[int, int | None, pd.DataFrame]:
    """The ended seeds, the look, None before the first, and the cells of the seeds judged at it."""
    ended = _ended_seeds(study, cells)
    look = max((look for look in study.judged_at if look <= ended), default=None)
    return ended, look, cells if look is None else cells[cells["seed"].isin(study.seeds[:look])]


def _ended_seeds(study: StudyRecord, cells: pd.DataFrame) -> int:
    """How many of the first seeds have a record of each variant on each fold."""
    ended = cells[cells["status"] != "missing"].groupby("seed").size()
    wanted = len(study.variants) * len(study.folds or (None,))
    short = (n for n, seed in enumerate(study.seeds) if ended.get(seed, 0) < wanted)
    return next(short, len(study.seeds))


def metric_direction(study: StudyRecord) -> Better:
    """Whether a higher or lower value is better, by the study's record or the registered metric.

    Raises:
        InputError: the direction is unknown.
    """
    if study.better is not None:
        return study.better
    known: dict[str, Better] = {item.name: item.build.better for item in METRICS.all()}
    if study.metric not in known:
        raise InputError(
            "it is unknown whether higher or lower is better, so there is no verdict",
            source=study.name,
            field="metric",
            value=study.metric,
            remedy=f"Compare by a registered metric: {', '.join(known)}.",
        )
    return known[study.metric]


def _means(table: pd.DataFrame, study: StudyRecord) -> list[VariantMean]:
    means, bounds = [], metric_bounds(study.metric)
    for name, row in table.iterrows():
        own = row.to_numpy(dtype=np.float64)
        own = own[np.isfinite(own)]
        value = float(own.mean()) if len(own) else NAN
        low, high = map(float, np.clip(mean_interval(own), *bounds))
        means.append(VariantMean(str(name), study.metric, len(own), value, low, high))
    return means


def block_table(study: StudyRecord, cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric of each variant (rows) with each seed (columns), see `block_tables`."""
    return block_tables(study, cells, metric)[0]


def block_tables(study: StudyRecord, cells: pd.DataFrame, metric: str) -> list[pd.DataFrame]:
    """One observation per variant (rows, in the study's order) and seed (columns).

    With folds, an observation is the mean over the folds in use, NaN if one is missing. In use is
    the set of folds that keeps the most cells, the same for all variants: a study that was run on
    two folds of five is compared on those two. The observations of each of these folds follow in a
    table of their own, for seeds that have all of them.

    Raises:
        InputError: no such column in ``cells``.
    """
    known = cells.select_dtypes("number").columns
    problem = "no such metric in the results of the study"
    check_known(metric, known, problem, field="metric", source=study.name)
    names = [variant.name for variant in study.variants]
    seeds = sorted(set(cells["seed"]))
    used = cells[cells["fold"].isna() | cells["fold"].isin(folds := _folds_in_use(cells))]

    def table(part: pd.DataFrame) -> pd.DataFrame:
        groups = part.groupby(["variant", "seed"])[metric]
        means = groups.mean().where(groups.count() == groups.size())
        return means.unstack("seed").reindex(index=names, columns=seeds).astype(float)

    whole = table(used)
    return [whole, *(table(used[used["fold"] == f]).where(whole.notna()) for f in folds)]


def _folds_in_use(cells: pd.DataFrame) -> list[int]:
    run = cells[(cells["status"] != "missing") & cells["fold"].notna()]
    sets = Counter(frozenset(own) for _, own in run.groupby(["variant", "seed"])["fold"])
    covered = {f: sum(n for own, n in sets.items() if f <= own) * len(f) for f in sets}
    best = max(covered, key=lambda folds: (covered[folds], len(folds), sorted(folds)), default=())
    return sorted(int(fold) for fold in best)


def _method(c: Contrast, tested: int) -> str:
    if not math.isfinite(c.estimate):
        return "not estimable: the runs that succeeded do not determine the difference"
    if c.method == "none":
        return f"no interval: {c.n} common blocks, but it needs {INTERVAL_FROM}"
    how = (
        "own variance of each variant (Welch and Satterthwaite)"
        if c.method == "own"
        else "hull of the interval with pooled variance and the paired one"
    )
    constant = "; the differences do not vary at all" if c.error == 0.0 else ""
    return f"randomized blocks, {how}, simultaneous over {tested}{constant}"


def best_of(
    contrasts: Mapping[str, Mapping[str, float]], items: Iterable[Comparison]
) -> tuple[str, list[float]] | None:
    """The variant that is better than every other of three or more, and by how much; None if none.

    ``contrasts`` is a declared family of all pairs, ``items`` what was found of each.
    """
    variants, ahead = {v for pair in contrasts.values() for v in pair}, dict[str, list[float]]()
    others = len(variants) - 1
    if others < 2 or 2 * len(contrasts) != others * len(variants):
        return None
    for item in items:
        won = {"better": 1, "worse": -1}.get(item.verdict, 0)
        for variant, weight in contrasts[item.variant].items():
            if weight * won > 0:
                ahead.setdefault(variant, []).append(abs(item.difference))
    return next(((v, sorted(gaps)) for v, gaps in ahead.items() if len(gaps) == others), None)
