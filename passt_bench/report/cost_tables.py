"""Builds the tables of costs, from speed to the published one, and sums up studies of costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter, methodcaller

from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import (
    NAN,
    Span,
    fixed,
    interval,
    quoted,
    significant,
    times,
    unit_for,
)
from passt_bench.report.view import (
    DEVICE_STEP,
    TRAIN_STEP,
    Gain,
    StudyView,
    VariantView,
    gains,
    setting_of,
)

PHASES = {
    TRAIN_STEP: "training step",
    DEVICE_STEP: "its device time",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "inference_1": "inference, one clip",
    "inference_batch": "inference, training batch size",
    "frontend": "front end",
}
MEMORY = {
    "train_peak": "peak in training",
    "train_rise": "rise per step",
    "saved_for_backward": "saved for backward",
    "inference_peak": "peak at inference",
    "reserved": "reserved",
    "resident": "parameters and buffers",
}
NAME = Column("variant", "variant", get=lambda v: v.name)
TOKENS = Column("tokens", "tokens", str, get=lambda v: v.record.tokens or None)  # in training
PARAMETERS = Column(  # digits in groups: 86 567 000
    "parameters", "parameters", lambda n: f"{int(n):,}".replace(",", " "),
    get=attrgetter("parameters"),
)  # fmt: skip


def scaled_column(
    arms: Sequence[VariantView],
    name: str,
    title: str,
    base: str,
    get: Callable[[VariantView], float | None],
) -> Column:
    """A column of numbers in the unit that suits these variants; they come in the base unit."""
    unit = unit_for(map(get, arms), base)
    return Column(name, title, unit.show, unit.name, get=get)


def seconds_column(arms: Sequence[VariantView], phase: str) -> Column:
    """Seconds of a phase, in the unit that suits these variants."""
    unit = unit_for((v.cost(phase).seconds.value for v in arms), "s")
    return Column(
        f"{phase}_seconds", PHASES[phase], unit.show, unit.name, span=True,
        get=lambda v: v.cost(phase).seconds,
    )  # fmt: skip


def ratio_column(phase: str, title: str) -> Column:
    """The time of a phase divided by that of the baseline."""
    return Column(f"{phase}_ratio", title, times, span=True, get=lambda v: v.cost(phase).ratio)


def frontend_column(view: StudyView, title: str) -> Column:
    """The time of training step and front end divided by that of the baseline; from medians."""
    base = view.baseline.seconds_with_frontend
    return Column("whole_ratio", title, times, get=lambda v: v.seconds_with_frontend / base)


def bytes_column(
    arms: Sequence[VariantView], entry: str, title: str = "", name: str = ""
) -> Column:
    """Bytes of a memory entry, in the unit that suits these variants."""
    name, title = name or f"{entry}_bytes", title or MEMORY[entry]
    return scaled_column(arms, name, title, "B", memory_of(entry))


def memory_of(entry: str) -> Callable[[VariantView], float | None]:
    """A function that gets a memory entry of a variant."""
    return lambda v: v.memory.get(entry)


def predicted_columns(
    arms: Sequence[VariantView], entry: str, measured: Callable[[VariantView], float]
) -> list[Column]:
    """What was predicted of a measured entry, and by how much that is off."""

    def get(v: VariantView) -> float | None:
        return v.arm.predicted.get(entry) if v.arm else None

    title, base = f"predicted {(PHASES | MEMORY)[entry]}", "s" if entry == TRAIN_STEP else "B"
    return [
        scaled_column(arms, f"{entry}_predicted", title, base, get),
        Column(f"{entry}_predicted_error", "error", lambda share: f"{100 * share:+.0f} %",
               get=lambda v: (get(v) or NAN) / measured(v) - 1),
    ]  # fmt: skip


def flops_columns(arms: Sequence[VariantView]) -> tuple[Column, Column]:
    """FLOPs per clip, in training and at inference, in one unit."""
    unit = unit_for((v.measured("flops") for v in arms), "FLOP")
    named = (("flops", "training FLOPs per clip"), ("flops_inference", "inference FLOPs per clip"))
    training, inference = (
        Column(name, title, unit.show, unit.name, get=methodcaller("measured", name))
        for name, title in named
    )
    return training, inference


_THROUGHPUT = (
    Column("clips_per_second", "training", interval, "clips/s", span=True,
           get=lambda v: v.speed if v.speed.known else v.cost_status),
    Column("clips_ratio", "relative", times, span=True, get=lambda v: v.cost(TRAIN_STEP).speedup),
)  # fmt: skip


def of_variants(view: StudyView, name: str, caption: str, columns: Sequence[Column]) -> Table:
    """A table with a row per variant; costs have rows only if something was measured."""
    of_quality = name in ("verdicts", "quality")
    shown = view.variants if of_quality or view.results.sessions else ()
    highlight = view.variants.index(view.baseline)
    return table(name, f"{view.study.name}: {caption}", columns, shown, highlight)


def speed(view: StudyView) -> Table:
    """The main table of a study of costs: throughput and memory, also relative to the baseline."""
    arms, base = view.variants, view.baseline
    columns = [
        NAME,
        TOKENS,
        Column("batch", "clips per step", "{:g}".format, get=attrgetter("batch")),
        *_THROUGHPUT,
        frontend_column(view, "step with front end / baseline"),
        bytes_column(arms, "train_peak", "peak memory"),
        scaled_column(arms, "saved_per_clip", "saved for backward, per clip", "B",
                      attrgetter("saved_per_clip")),
        Column("saved_ratio", "relative", times,
               get=lambda v: v.saved_per_clip / base.saved_per_clip),
    ]  # fmt: skip
    caption = (
        f"training speed, and memory, also against {quoted(base.name)}; {view.time_intervals}."
    )
    return of_variants(view, "speed", caption, columns)


def cost(view: StudyView) -> Table:
    """The time of every measured phase."""
    arms = view.variants
    columns = [
        NAME,
        TOKENS,
        Column("ratio", "training step / baseline", times, span=True,
               get=lambda v: v.cost(TRAIN_STEP).ratio),
        *(seconds_column(arms, phase) for phase in PHASES),
        *predicted_columns(arms, TRAIN_STEP, lambda v: v.cost(TRAIN_STEP).seconds.value),
        Column("status", "session", get=lambda v: v.cost_status),
    ]  # fmt: skip
    caption = f"time of one step, all measured together; medians with {view.time_intervals}."
    return of_variants(view, "cost", caption, columns)


def memory(view: StudyView) -> Table:
    """Every measured memory entry, and arithmetic."""
    arms = view.variants
    columns = [
        NAME,
        TOKENS,
        *(bytes_column(arms, entry) for entry in MEMORY if entry != "resident"),
        *predicted_columns(arms, "train_peak", lambda v: v.memory.get("train_peak", NAN)),
        *flops_columns(arms),
    ]
    return of_variants(view, "memory", "memory per step, and arithmetic per clip.", columns)


def gains_table(view: StudyView) -> Table:
    """What model and patchout gain in each setting, beside the gains in Table 1 of the paper."""
    columns = [
        Column("variant", "variant", get=lambda g: g.variant.name),
        Column("other", "against", get=lambda g: g.other.name),
        Column("speedup", "speed-up", times, span=True, get=attrgetter("speedup")),
        Column("saved", "memory for backward", times, get=attrgetter("saved")),
        Column("reference", "compared with",
               get=lambda g: None if g.variant is g.reference else g.reference.name),
        Column("relative", "speed-up / its speed-up", times, span=True, get=attrgetter("relative")),
        Column("relative_saved", "memory / its memory", times,
               get=attrgetter("relative_saved")),
        Column("paper_speedup", "speed-up in the paper", times,
               get=methodcaller("published", "clips_per_second")),
        Column("paper_memory", "memory in the paper", times,
               get=methodcaller("published", "gb_per_clip")),
    ]  # fmt: skip
    caption = f"{view.study.name}: the gain in each setting, and divided by that of the baseline's."
    found = gains(view)
    if any(gain.published("gb_per_clip") for gain in found):
        caption += " The paper's are of its Table 1: on one Titan RTX, all memory of training."
    return table("gains", caption, columns, found)


def _relative(
    name: str, title: str, get: Callable[[VariantView], float | None], first: VariantView
) -> Column:
    base = get(first) or NAN
    return Column(f"{name}_ratio", title, times, get=lambda v: (get(v) or NAN) / base)


def ratios(view: StudyView) -> Table:
    """Throughput, and every time and memory that was measured relative to the baseline."""
    base = view.baseline
    columns = [
        NAME,
        _relative("tokens", "tokens", lambda v: v.record.tokens or None, base),
        *_THROUGHPUT,
        *(ratio_column(phase, title) for phase, title in PHASES.items()),
        *(_relative(entry, title, memory_of(entry), base) for entry, title in MEMORY.items()),
        _relative("saved", "saved, per clip", attrgetter("saved_per_clip"), base),
        _relative("flops", "training FLOPs", methodcaller("measured", "flops"), base),
        _relative("flops_inference", "inference FLOPs",
                  methodcaller("measured", "flops_inference"), base),
    ]  # fmt: skip
    caption = (
        f"time, memory and arithmetic as ratios to {quoted(base.name)}; those of time are taken "
        "round by round, with 95 % intervals."
    )
    return of_variants(view, "ratios", caption, columns)


def arithmetic(view: StudyView) -> Table:
    """Tokens, parameters, FLOPs and model FLOPs utilization (MFU)."""
    arms = view.variants
    columns = [
        NAME,
        TOKENS,
        Column("tokens_full", "tokens at inference", str,
               get=lambda v: v.record.tokens_full or None),
        PARAMETERS,
        bytes_column(arms, "resident"),
        *flops_columns(arms),
        Column("mfu", "MFU", lambda share: f"{fixed(100 * share, 1)} %",
               get=methodcaller("measured", "mfu")),
        Column("compile_seconds", "compiling", partial(significant, digits=2), "s",
               get=methodcaller("measured", "compile_seconds")),
    ]  # fmt: skip
    caption = "arithmetic; MFU is relative to the peak of matmuls measured in the same session."
    return of_variants(view, "arithmetic", caption, columns)


def published(view: StudyView) -> Table:
    """Clips per second by this suite's protocol and by that of the reference code."""
    first, published = view.baseline, methodcaller("measured", "published")
    columns = [
        NAME,
        Column("clips_per_second", "this suite's protocol", interval, "clips/s", span=True,
               get=lambda v: v.speed),
        Column("published", "the published protocol", significant, "clips/s", get=published),
        Column("gap", "published / ours", times, get=lambda v: published(v) / v.speed.value),
        Column("ours_speedup", f"ours vs. {first.name}", times, span=True,
               get=lambda v: v.cost(TRAIN_STEP).speedup),
        Column("published_speedup", f"published vs. {first.name}", times,
               get=lambda v: published(v) / published(first)),
    ]  # fmt: skip
    return of_variants(view, "published", "training throughput by two protocols.", columns)


def costs_headline(view: StudyView) -> str:
    """The fastest and slowest variant of a study of costs against its baseline, in one sentence."""
    base, timed = view.baseline, [v for v in view.answers if v.cost(TRAIN_STEP).ratio.known]
    if not timed:
        return f"No variant's training step was timed together with that of {quoted(base.name)}."
    if found := gains(view):
        gain = next(gain for gain in found if gain.other == found[-1].other)
        own = next((g for g in found if g.variant == gain.reference), None)
        of_reference = f", while {_against(own)}" if own and own is not gain else ""
        return f"{crossings(view, found)}{_against(gain)}{of_reference}."
    timed.sort(key=lambda v: v.cost(TRAIN_STEP).speedup.value)
    slowest, fastest = (f"{quoted(v.name)} {_gain(view, v)}" for v in (timed[0], timed[-1]))
    if timed[1:] and timed[-1].cost(TRAIN_STEP).speed_verdict != "faster":
        fastest = "no variant is shown to train faster"
    text = f"Against {quoted(base.name)} ({significant(base.speed.value)} clips/s), {fastest}"
    return f"{text}{f', {slowest}' if timed[1:] else ''}."


def crossings(view: StudyView, found: Sequence[Gain]) -> str:
    """From which clip length on each other model trains faster than the baseline's, a sentence.

    Empty if lengths or models do not differ, and silent where intervals decide nothing.
    """
    name, length = setting_of(view)
    if not name.startswith("length"):
        return ""
    base, told = view.baseline.subject[0], list[str]()
    for model in dict.fromkeys(gain.variant.subject[0] for gain in found):
        own = [gain for gain in found if gain.variant.subject[0] == model != base]
        slower = [length(gain.variant) for gain in own if gain.speedup.high < 1]
        faster = [length(gain.variant) for gain in own if gain.speedup.low > 1]
        words = f"{model.name} trains faster than {base.name}"
        if own and len(faster) == len(own):
            told.append(f"{words} at every length")
        elif slower and faster and max(slower) < min(faster):
            told.append(f"{words} from {min(faster):g} s on, slower up to {max(slower):g} s")
    return f"{'; '.join(told)}. " if told else ""


def _against(gain: Gain) -> str:
    than = "as" if gain.speedup.value >= 1 else "than"
    return f"{quoted(gain.variant.name)} {_pace(gain.speedup)} {than} {quoted(gain.other.name)}"


def _pace(speedup: Span) -> str:
    """``trains 2.1× as fast`` or ``trains 1.6× slower``."""
    if speedup.value >= 1:
        return f"trains {times(speedup)} as fast"
    return f"trains {times(speedup.reciprocal())} slower"


def _gain(view: StudyView, v: VariantView) -> str:
    share = Span(v.memory_per_clip / view.baseline.memory_per_clip)
    memory = f" with {times(share)} the {view.memory_name}" if share.known else ""
    return f"{_pace(v.cost(TRAIN_STEP).speedup)}{memory}"
