"""Collects what a report shows of each variant: quality, cost and failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any

from passt_bench.analysis.budgets import relative_seconds
from passt_bench.analysis.compare import LEVELS, Comparison, alone, metric_direction
from passt_bench.analysis.results import Results
from passt_bench.intervals import median_interval
from passt_bench.paper import find_pace
from passt_bench.records.run import RunRecord, StudyRecord, VariantRecord
from passt_bench.records.session import ArmRecord, Interval
from passt_bench.registry import Better
from passt_bench.report.text import NAN, Span, listed, quoted
from passt_bench.report.theme import NO_PATCHES
from passt_bench.spec.recipe import ModelSpec, Patchout
from passt_bench.spec.study import pair_of

TRAIN_STEP, DEVICE_STEP = "train_step", "train_step_device"
INSIDE = "real, but inside the margin"
SPEED_MARGIN = 0.05  # speeds that differ by less count as equal
NO_VALUE = Span(NAN)


def gap_of(item: Comparison) -> Span:
    """The difference that a comparison found."""
    return Span(item.difference, item.low, item.high)


def finding(item: Comparison) -> str:
    """The verdict; of what is not in the metric's unit, where it is from zero."""
    if item.margin or not isfinite(item.low) or item.verdict == "no verdict":
        return item.verdict
    return "unclear" if not item.real else "above zero" if item.low > 0 else "below zero"


@dataclass(frozen=True)
class Cost:
    """Seconds of one phase, and their ratio to the baseline in the same session."""

    seconds: Span
    ratio: Span

    @property
    def speedup(self) -> Span:
        """How many times as fast as the baseline."""
        return self.ratio.reciprocal() if self.ratio.value > 0 else NO_VALUE

    @property
    def speed_verdict(self) -> str:
        """``faster``, ``slower``, ``about as fast`` (by an equivalence test) or ``undecided``."""
        low, high = self.speedup.low, self.speedup.high
        if low >= 1 - SPEED_MARGIN and high <= 1 + SPEED_MARGIN:
            return "about as fast"
        if low > 1:
            return "faster"
        return "slower" if high < 1 else "undecided"


def _span(interval: Interval | None) -> Span:
    return Span(interval.median, interval.low, interval.high) if interval else NO_VALUE


@dataclass(frozen=True)
class VariantView:
    """What a report shows of one variant."""

    record: VariantRecord
    arm: ArmRecord | None = None  # its measurement in a cost session
    value: Span = NO_VALUE  # mean of the study's metric over its runs
    comparison: Comparison | None = None  # None for the baseline
    runs: tuple[RunRecord, ...] = ()  # of its cells, in the order of seeds and folds
    statuses: Mapping[str, int] = field(default_factory=dict)  # number of cells by status
    baseline_batch: float = NAN  # clips per step of the baseline in the session
    same_runs: str = ""  # the first variant with the same runs, if it is another one

    @property
    def kind(self) -> str:
        """The patchout kind, or ``no patches`` for a model without a grid."""
        return self.record.recipe.patchout.kind if self.record.grid else NO_PATCHES

    @property
    def rate(self) -> float | None:
        """Share of the patches that training drops; None without a grid."""
        if self.record.grid is None:
            return None
        patches = self.record.grid[0] * self.record.grid[1]
        return 1 - (self.record.tokens - (self.record.tokens_full - patches)) / patches

    @property
    def subject(self) -> tuple[ModelSpec, Patchout]:
        """What it computes, in whichever setting."""
        return self.record.recipe.model, self.record.recipe.patchout

    @property
    def name(self) -> str:
        """Its name in the study."""
        return self.record.name

    @property
    def label(self) -> str:
        """Its name, with a remark if headlines do not count it."""
        if self.same_runs:
            return f"{self.name} (the same runs as {quoted(self.same_runs)})"
        return f"{self.name} (for scale, not counted)" if self.record.reference else self.name

    @property
    def verdict(self) -> str:
        """The verdict; ``baseline`` for the baseline, ``missing`` if no cell has a record yet."""
        if self.comparison is None:
            return "baseline"
        return "missing" if set(self.statuses) == {"missing"} else self.comparison.verdict

    @property
    def ok_runs(self) -> tuple[RunRecord, ...]:
        """The runs that succeeded."""
        return tuple(run for run in self.runs if run.status == "ok")

    def mean_of(self, metric: str) -> float | None:
        """The mean of any metric over the runs that have it."""
        return mean(run.metrics.get(metric) for run in self.ok_runs)

    @property
    def cells(self) -> str:
        """Numbers of cells by status: ``2 ok, 1 diverged``."""
        first = sorted(self.statuses.items(), key=lambda item: (item[0] != "ok", item[0]))
        return ", ".join(f"{count} {name}" for name, count in first)

    @property
    def difference(self) -> Span:
        """The difference to the baseline."""
        return gap_of(self.comparison) if self.comparison else NO_VALUE

    @cached_property
    def costs(self) -> Mapping[str, Cost]:
        """Phase → seconds of a step, and ratio, which is per clip if batch sizes differ."""
        if self.arm is None:
            return {}
        other = isfinite(self.batch) and isfinite(self.baseline_batch)
        clips = self.baseline_batch / self.batch if other else 1.0
        found = {}
        for phase, seconds in self.arm.phases.items():
            scale, ratio = 1 if phase == "inference_1" else clips, _span(self.arm.ratios.get(phase))
            found[phase] = Cost(_span(seconds), Span(*(scale * x for x in ratio)))
        return found

    def cost(self, phase: str) -> Cost:
        """The cost of a phase; unknown if no session measured it."""
        return self.costs.get(phase, Cost(NO_VALUE, NO_VALUE))

    @property
    def waits(self) -> bool:
        """Whether its step is bound by launches: a tenth longer than the device computes for it."""
        step, device = (self.cost(phase).seconds.value for phase in (TRAIN_STEP, DEVICE_STEP))
        return device < 0.9 * step  # false if one is not known

    @property
    def cost_status(self) -> str:
        """Status of its measurement, ``missing`` if it has none."""
        return self.arm.status if self.arm else "missing"

    def measured(self, name: str) -> float:
        """A field of its measurement as a number, e.g. ``flops``; NaN if it was not measured."""
        return float(getattr(self.arm, name, None) or NAN)

    @property
    def parameters(self) -> float:
        """Number of parameters of the model, from a run or else from the session."""
        counts = (float(run.parameters) for run in self.runs if run.parameters)
        return next(counts, self.measured("parameters"))

    @property
    def memory(self) -> Mapping[str, float]:
        """Memory entry → bytes per step."""
        return self.arm.memory if self.arm else {}

    @property
    def batch(self) -> float:
        """Clips per step in the session."""
        return self.measured("batch_size")

    @property
    def speed(self) -> Span:
        """Clips per second in training, without front end and data loading."""
        return self.cost(TRAIN_STEP).seconds.reciprocal(self.batch)

    @property
    def memory_per_clip(self) -> float:
        """Bytes per clip of the one memory figure, see `ArmRecord.main_memory`."""
        return self.memory.get(self.arm.main_memory, NAN) / self.batch if self.arm else NAN

    @property
    def seconds_with_frontend(self) -> float:
        """A training step and making its log-mels, per clip: medians of both, added."""
        return sum(self.cost(p).seconds.value for p in (TRAIN_STEP, "frontend")) / self.batch

    @property
    def saved_per_clip(self) -> float:
        """Bytes saved for the backward pass, per clip."""
        return self.memory.get("saved_for_backward", NAN) / self.batch


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
        """The baseline variant."""
        return next(v for v in self.variants if v.name == self.study.baseline)

    @property
    def memory_name(self) -> str:
        """What `VariantView.memory_per_clip` is."""
        arm = self.baseline.arm
        return "peak memory" if arm and arm.main_memory == "train_peak" else "memory for backward"

    @property
    def others(self) -> tuple[VariantView, ...]:
        """All variants except the baseline."""
        return tuple(v for v in self.variants if v.name != self.study.baseline)

    @property
    def answers(self) -> tuple[VariantView, ...]:
        """The variants that answer the question: no baseline and references, no runs twice."""
        return tuple(v for v in self.others if not v.record.reference and not v.same_runs)

    @property
    def better(self) -> Better:
        """Whether a greater or a smaller metric is better."""
        return metric_direction(self.study)

    @property
    def margin(self) -> float:
        """Largest difference that counts as the same."""
        return self.study.tolerance

    @cached_property
    def whole_training(self) -> Mapping[str, float]:
        """Variant → time of its training / baseline's; empty if all have equally many epochs."""
        epochs = {round(v.record.spent.get("epochs", 0.0), 2) for v in self.variants}
        return relative_seconds(self.study, self.results.arms) if len(epochs) > 1 else {}

    @property
    def interim(self) -> str:
        """``3 of 5 seeds, no verdict yet``: all runs with those of the first look must end."""
        first, *more = self.study.judged_at
        of = f"{first} seeds{' of the first look' * bool(more)}"
        return f"{self.results.ended} of {of}, no verdict yet"

    @property
    def coverage(self) -> str:
        """How often the intervals of all differences, or of a family of contrasts, are right."""
        looks = len(self.study.judged_at)
        return f"{100 * (1 - LEVELS[looks - 1]):.3g} %" + " at each look" * (looks > 1)

    @property
    def together(self) -> str:
        """``together with 95 %``, and which differences are covered by themselves."""
        own = listed(map(quoted, alone(self.study)))
        which = f", but that of {own} by itself, as it is alone in its family" if own else ""
        return f"together with {self.coverage}{which}"

    @property
    def time_intervals(self) -> str:
        """What intervals of times are, for captions; older sessions had one process a variant."""
        if all(len(session.restarts) > 1 for session in self.results.sessions):
            return "95 % intervals that cover differences between processes"
        return "distribution-free 95 % intervals, without differences between processes"

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Class group → classes; empty if the data set has none."""
        return dict(self.study.fingerprint.groups)


@dataclass(frozen=True)
class Gain:
    """A variant against the one of equal setting that has the baseline's model and patchout.

    The setting is what the variants differ in: the engine, or else the length of clips or the
    batch. ``reference`` has the baseline's setting and else equals the variant, whose gain is
    divided by its gain in ``relative`` and ``relative_saved``.
    """

    variant: VariantView
    other: VariantView
    reference: VariantView
    speedup: Span  # taken round by round, like `relative`
    relative: Span
    saved: float  # ratio of bytes saved for backward, per clip
    relative_saved: float

    def published(self, value: str) -> float | None:
        """The ratio of a value of `paper.Pace`, if Table 1 of the paper has both models."""
        paces = [find_pace(v.record.recipe) for v in (self.variant, self.other)]
        return getattr(paces[0], value) / getattr(paces[1], value) if all(paces) else None


def declared_pairs(view: StudyView) -> dict[tuple[str, str], Comparison]:
    """(variant, other) → the declared contrast that is their difference."""
    found: dict[tuple[str, str], Comparison] = {}
    for family, items in view.results.declared.items():
        for item in items:
            if pair := pair_of(view.study.contrasts.get(family, {}).get(item.variant, {})):
                found.setdefault((pair[0], pair[1]), item)
    return found


def setting_of(view: StudyView) -> tuple[str, Callable[[VariantView], Any]]:
    """The first of engine, clip length and batch in which variants differ, and how to get it."""
    known: dict[str, Callable[[VariantView], Any]] = {
        "engine": lambda v: v.record.recipe.engine,
        "length of a clip in seconds": lambda v: v.record.recipe.data.seconds,
        "clips per step": lambda v: v.record.recipe.measurement.batch_size,
    }
    several = (item for item in known.items() if len({item[1](v) for v in view.variants}) > 1)
    return next(several, ("engine", known["engine"]))


def gains(view: StudyView) -> list[Gain]:
    """What model and patchout gain in each setting of a study of costs, in the study's order."""
    (_, setting), found = setting_of(view), []
    if len({*map(setting, view.variants)}) < 2:
        return []  # with one setting, gains are the ratios to the baseline
    cells = {(setting(v), v.subject): v for v in view.variants}
    base = view.baseline
    for (own, subject), v in cells.items():
        other, reference = cells.get((own, base.subject)), cells.get((setting(base), subject))
        if subject == base.subject or other is None or reference is None:
            continue
        speedup = _over_rounds(view, lambda a, b: b / a, v, other)
        if not speedup.known:
            continue
        saved = v.saved_per_clip / other.saved_per_clip
        four = (v, other, reference, base) if reference is not v else ()
        relative = _over_rounds(view, lambda a, b, c, d: (b / a) / (d / c), *four)
        of_reference = reference.saved_per_clip / base.saved_per_clip
        relative_saved = NAN if reference is v else saved / of_reference
        found.append(Gain(v, other, reference, speedup, relative, saved, relative_saved))
    return found


def _over_rounds(view: StudyView, ratio: Callable[..., float], *variants: VariantView) -> Span:
    """A ratio of the variants' seconds in each round of the first session that timed them all."""
    for restarts, rounds in view.results.rounds if variants else ():
        if all(v.name in rounds for v in variants):
            values = map(ratio, *(rounds[v.name] for v in variants))
            return _span(median_interval(values, restarts))
    return NO_VALUE


def study_view(results: Results) -> StudyView:
    """Collects a study's results by variant."""
    means = {mean.variant: Span(mean.value, mean.low, mean.high) for mean in results.means}
    comparisons = {item.variant: item for item in results.comparisons}
    base, variants = results.arms.get(results.study.baseline), []
    for record in results.study.variants:
        cells = [results.records.get(cell.key) for cell in record.cells]
        statuses = Counter(run.status if run else "missing" for run in cells)
        variants.append(
            VariantView(
                record=record,
                arm=results.arms.get(record.name),
                value=means.get(record.name, NO_VALUE),
                comparison=comparisons.get(record.name),
                runs=tuple(run for run in cells if run is not None),
                statuses=statuses,
                baseline_batch=float((base and base.batch_size) or NAN),
                same_runs=results.same.get(record.name, ""),
            )
        )
    return StudyView(results.study, results, tuple(variants))


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
