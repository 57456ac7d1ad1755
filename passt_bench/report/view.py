"""One study as a report sees it: a variant's quality, cost and failures side by side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal

import pandas as pd

from passt_bench.analysis.compare import DEFAULT_MARGIN, Comparison, better_way
from passt_bench.analysis.costs import ARM_COLUMNS
from passt_bench.analysis.results import Results
from passt_bench.records.run import RunRecord, StudyRecord, VariantRecord
from passt_bench.registry import Better
from passt_bench.report.text import NAN, Span
from passt_bench.report.theme import NO_PATCHES

TRAIN_STEP = "train_step"
SPEED_MARGIN = 0.05  # speeds that differ by less count as equal

SpeedVerdict = Literal["faster", "slower", "about as fast", "undecided"]


@dataclass(frozen=True)
class Cost:
    """Seconds of one phase, and their ratio to the baseline's in the same session."""

    seconds: Span
    ratio: Span

    @property
    def speedup(self) -> Span:
        """How many times as fast as the baseline."""
        ratio = self.ratio
        if not ratio.known or ratio.value <= 0:
            return Span(NAN)
        return Span(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)

    @property
    def speed_verdict(self) -> SpeedVerdict:
        """What the interval of `speedup` shows; equality by an equivalence test."""
        low, high = self.speedup.low, self.speedup.high
        if low >= 1 - SPEED_MARGIN and high <= 1 + SPEED_MARGIN:
            return "about as fast"
        if low > 1:
            return "faster"
        return "slower" if high < 1 else "undecided"


UNKNOWN = Cost(Span(NAN), Span(NAN))


@dataclass(frozen=True)
class VariantView:
    """What a report shows of one variant.

    Attributes:
        record: as the study was expanded.
        kind: patchout kind, or ``no patches`` for a model without a grid.
        rate: share of the patches that training drops; None without a grid.
        value: mean of the study's metric.
        comparison: None for the baseline.
        runs: records of its cells, by seed and fold.
        statuses: status → number of cells, ``missing`` where there is no record.
        costs: phase → seconds and ratio, from a cost session.
        memory: entry → bytes a step, from the session.
        batch: clips of a step in the session.
        cost_status: of its arm in the session, ``missing`` where there is none.
        cost_message: why the arm failed; empty where it did not.
        flops: of a training step, a clip.
        flops_inference: of a forward pass without patchout, a clip.
        parameters: of the model.
        mfu: share of the matrix-product peak that the training step reached.
        compile_seconds: what compiling took.
        published: clips a second by the published speed test.
    """

    record: VariantRecord
    kind: str
    rate: float | None
    value: Span = UNKNOWN.seconds
    comparison: Comparison | None = None
    runs: tuple[RunRecord, ...] = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    batch: float = NAN
    cost_status: str = "missing"
    cost_message: str = ""
    flops: float = NAN
    flops_inference: float = NAN
    parameters: float = NAN
    mfu: float = NAN
    compile_seconds: float = NAN
    published: float = NAN

    @property
    def name(self) -> str:
        """Its name in the study."""
        return self.record.name

    @property
    def label(self) -> str:
        """Its name, with a mark where it is a reference."""
        return f"{self.name} (reference)" if self.record.reference else self.name

    @property
    def verdict(self) -> str:
        """The verdict; ``baseline`` of the baseline, ``missing`` where no cell was run yet."""
        if self.comparison is None:
            return "baseline"
        return "missing" if set(self.statuses) == {"missing"} else self.comparison.verdict

    @property
    def ok_runs(self) -> tuple[RunRecord, ...]:
        """The cells that succeeded."""
        return tuple(run for run in self.runs if run.status == "ok")

    @property
    def failures(self) -> dict[str, int]:
        """Status → number of cells, of those that did not succeed."""
        return {name: count for name, count in self.statuses.items() if name != "ok"}

    @property
    def cells(self) -> str:
        """``2 ok 1 diverged``."""
        return " ".join(f"{count} {name}" for name, count in self.statuses.items())

    @property
    def difference(self) -> Span:
        """To the baseline."""
        if self.comparison is None:
            return Span(NAN)
        return Span(self.comparison.difference, self.comparison.low, self.comparison.high)

    def cost(self, phase: str) -> Cost:
        """Of a phase; not known where the session did not measure it."""
        return self.costs.get(phase, UNKNOWN)

    @property
    def speed(self) -> Span:
        """Clips a second in training, front end and loading apart."""
        seconds = self.cost(TRAIN_STEP).seconds
        return Span(*(self.batch / s for s in (seconds.value, seconds.high, seconds.low)))

    @property
    def saved(self) -> float:
        """Bytes kept for the backward pass of a step."""
        return self.memory.get("saved_for_backward", NAN)

    @property
    def saved_per_clip(self) -> float:
        """Bytes kept for the backward pass, a clip."""
        return self.saved / self.batch


@dataclass(frozen=True)
class StudyView:
    """A study with all of its variants in the study's order."""

    study: StudyRecord
    results: Results
    variants: tuple[VariantView, ...]

    @property
    def metric(self) -> str:
        """Name of the study's metric."""
        return self.study.metric

    @property
    def baseline(self) -> VariantView:
        """The baseline."""
        return next(v for v in self.variants if v.name == self.study.baseline)

    @property
    def others(self) -> tuple[VariantView, ...]:
        """All but the baseline."""
        return tuple(v for v in self.variants if v.name != self.study.baseline)

    @property
    def answers(self) -> tuple[VariantView, ...]:
        """Those that answer the question: neither the baseline nor a reference."""
        return tuple(v for v in self.others if not v.record.reference)

    @property
    def better(self) -> Better:
        """Which way the metric is better."""
        return better_way(self.study)

    @property
    def margin(self) -> float:
        """Largest difference that counts as the same."""
        return DEFAULT_MARGIN if self.study.margin is None else self.study.margin

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Class group → classes; empty where the data set has none."""
        return dict(self.study.fingerprint.groups)


def view(results: Results) -> StudyView:
    """Gathers a study's results by variant."""
    means = {mean.variant: Span(mean.value, mean.low, mean.high) for mean in results.means}
    comparisons = {item.variant: item for item in results.comparisons}
    variants = []
    for found in measured(results.study.variants, results.costs, results.memory):
        cells = [results.records.get(cell.key) for cell in found.record.cells]
        runs = tuple(run for run in cells if run is not None)
        statuses = Counter(run.status if run else "missing" for run in cells)
        variants.append(
            replace(
                found,
                value=means.get(found.name, Span(NAN)),
                comparison=comparisons.get(found.name),
                runs=runs,
                statuses=dict(sorted(statuses.items())),
                parameters=next((float(run.parameters) for run in runs if run.parameters), NAN),
            )
        )
    return StudyView(results.study, results, tuple(variants))


def measured(
    records: Iterable[VariantRecord], costs: pd.DataFrame, memory: pd.DataFrame
) -> list[VariantView]:
    """What variants cost, without their quality.

    Args:
        records: the variants.
        costs: see `analysis.costs.costs_of`.
        memory: see `analysis.costs.memory_of`.
    """
    phases: defaultdict[str, dict[str, Cost]] = defaultdict(dict)
    for row in costs.to_dict("records"):
        seconds = Span(row["median"], row["low"], row["high"])
        ratio = Span(row["ratio"], row["ratio_low"], row["ratio_high"])
        phases[row["variant"]][row["phase"]] = Cost(seconds, ratio)
    arms: dict[str, dict[Any, Any]] = {row["variant"]: row for row in memory.to_dict("records")}
    entries = sorted(set(memory.columns) - set(ARM_COLUMNS))
    return [
        VariantView(
            record=record,
            kind=record.recipe.patchout.kind if record.grid else NO_PATCHES,
            rate=_rate(record),
            costs=phases[record.name],
            memory={entry: arm[entry] for entry in entries if isfinite(arm[entry])},
            batch=float(arm["batch_size"]) or NAN,
            cost_status=arm["status"],
            cost_message=arm["message"],
            flops=arm["flops"],
            flops_inference=arm["flops_inference"],
            parameters=float(arm["parameters"]),
            mfu=arm["mfu"],
            compile_seconds=arm["compile_seconds"],
            published=arm["published"],
        )
        for record in records
        for arm in [arms[record.name]]
    ]


def _rate(record: VariantRecord) -> float | None:
    if record.grid is None:
        return None
    patches = record.grid[0] * record.grid[1]
    return 1 - (record.tokens - (record.tokens_full - patches)) / patches


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is there; None of nothing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
