"""Says in sentences what a study found: its answer, and one for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose, isfinite, nan
from shlex import join

from passt_bench.analysis.budgets import AT_EQUAL_TIME
from passt_bench.analysis.compare import Comparison, best_of
from passt_bench.analysis.noise import clip_sentence, is_share, share_interval
from passt_bench.records.run import RunRecord, cell_name
from passt_bench.report.text import (
    Span,
    counted,
    decimals,
    extent,
    fixed,
    interval,
    listed,
    quoted,
    seed_range,
    significant,
    times,
)
from passt_bench.report.view import (
    INSIDE,
    SPEED_MARGIN,
    TRAIN_STEP,
    Cost,
    StudyView,
    VariantView,
    finding,
    gap_of,
)
from passt_bench.spec.study import INTERVAL_FROM, PRIMARY, is_interaction, pair_of

# verdict: its words for 1 variant, for several
_VERDICTS = {
    "better": ("is better", "are better"),
    "worse": ("is worse", "are worse"),
    "same": ("is the same within ±{margin:g}", "are the same within ±{margin:g}"),
    "not worse": ("is not worse by more than {margin:g}", "are not worse by more than {margin:g}"),
    "undecided": ("is undecided", "are undecided"),
    "no verdict": ("has no verdict", "have no verdict"),
    "not estimable": ("cannot be estimated", "cannot be estimated"),
    "failed": ("has no result", "have no result"),
    "missing": ("has not been run yet", "have not been run yet"),
    # Of slopes and interactions, which have no margin:
    "above zero": ("is above zero", "are above zero"),
    "below zero": ("is below zero", "are below zero"),
    "unclear": ("is not shown to differ from zero", "are not shown to differ from zero"),
}
_KEPT = ("better", "same", "not worse")
_NAMED = 4  # most that are named of a verdict; of more only the number is given
_FAMILIES = 3  # most that the answer begins with, in the declared order
_WORDS = 75  # most of the answer, if it is about three
_GAINS = {"above zero": "larger", "below zero": "smaller"}


def findings(view: StudyView) -> list[str]:
    """What was found, a sentence each; the first answers the question.

    They are variants by verdict, without references, and what each declared family shows.
    """
    base = view.baseline
    name = quoted(base.name)
    value = f"{view.metric} {interval(base.value)}{_classes_scored(view)}"
    if not base.value.known:
        return [f"The baseline {name} has no result, so nothing can be compared with it."]
    if not view.others:
        share = f" with {base.kind} patchout ({fixed(100 * (base.rate or 0), 0)} % dropped)"
        return [f"In {quoted(view.study.name)}, {name}{share * bool(base.rate)} reaches {value}."]
    if not view.answers:
        return [f"{name} reaches {value}; nothing else is shown."]
    if (seeds := len(view.study.seeds)) < INTERVAL_FROM:
        least = f"an interval needs {INTERVAL_FROM} seeds, and this study has {seeds}"
        return [f"No verdict: {least} (add --seeds {INTERVAL_FROM}); {name} reaches {value}."]
    if view.results.look is None:
        return [f"{view.interim}; {name} reaches {value}."]
    scale = [quoted(v.name) for v in view.others if v.record.reference]
    are = "is" if len(scale) == 1 else "are"
    beside = f" ({listed(scale)} {are} shown for scale, not counted)" * bool(scale)
    again = (
        f"{quoted(v.name)} has the runs of {quoted(v.same_runs)}"
        for v in view.others
        if v.same_runs
    )
    beside += "".join(f", where {text} and is counted once" for text in again)
    against, last = f"against {name} ({value}), {_by_cost(view)}{beside}", contrasts_first(view)
    families = sorted(view.results.declared.items(), key=lambda item: PRIMARY not in item[0])
    texts = [_family(view, *item) for item in families if AT_EQUAL_TIME not in item[0]]
    later = [_family(view, *item) for item in families if AT_EQUAL_TIME in item[0]]
    first, later = texts[:_FAMILIES], [*texts[_FAMILIES:], *later]
    if last:
        later += [] if has_budgets(view) else [against]
    else:
        first.insert(sum(PRIMARY in family for family, _ in families), against)
    while first[2:] and len("; ".join(first).split()) > _WORDS:
        later.insert(0, first.pop())
    return [_sentence("; ".join(first)), *map(_sentence, later)]


def _sentence(text: str) -> str:
    return (text[0].upper() + text[1:] if text.split(" ")[0].islower() else text) + "."


def _family(view: StudyView, family: str, items: Sequence[Comparison]) -> str:
    """What a declared family shows: ``half dropped: better at 1x and 2x (+0.020 to +0.078)``."""
    parts, declared = list[str](), view.study.contrasts.get(family, {})
    if best := best_of(declared, items):
        name, gaps = best
        return f"{family}: {quoted(name)} is better than every other, by {extent(gaps)}"
    for verdict, words in _VERDICTS.items():
        own = [c for c in items if finding(c) == verdict]
        if not own:
            continue
        gaps = sorted(c.difference for c in own if isfinite(c.difference))
        ends = dict.fromkeys(fixed(gap, 3, sign=True) for gap in (*gaps[:1], *gaps[-1:]))
        size = " to ".join(ends) if own[1:] or not gaps else interval(gap_of(own[0]), sign=True)
        size = "; ".join(filter(None, (size, _inside(own))))
        names, said = [c.variant for c in own], words[len(own) > 1].format(margin=view.margin)
        plain = words[0].format(margin=view.margin).removeprefix("is ").removeprefix("has ")
        if view.better == "greater" and verdict in _GAINS:  # of a difference of differences
            gain = all(is_interaction(declared.get(name, {})) for name in names)
            plain += f", so the gain is {_GAINS[verdict]}" * gain
        pairs = [pair_of(declared.get(name, {})) for name in names]
        alike = len({pair_of(declared.get(c.variant, {}))[1:] for c in items}) == 1
        lone = len(own) == 1 and names[0] == " − ".join(pairs[0])
        if len(own) > _NAMED:
            text = f"{plain} for {len(own)} of {len(items)}"
        elif all(pairs) and (alike or lone):
            text = f"{listed(quoted(p[0]) for p in pairs)} {_than(verdict, said, pairs[0][1:])}"
        elif AT_EQUAL_TIME in family:
            text = _than(verdict, plain, [name.removeprefix("against ") for name in names])
        else:
            text = f"{plain} {_place(view, names)}"
        parts.append(f"{text} ({size})" if size else text)
    return f"{family}: {', '.join(parts)}"


def _than(verdict: str, words: str, others: Sequence[str]) -> str:
    """The words of a verdict with what it compares with: ``is the same as “none” within ±0.02``."""
    link = {"same": "as", "better": "than", "worse": "than", "not worse": "than"}
    head = {"same": "the same"}.get(verdict, verdict)
    return words.replace(
        head, f"{head} {link.get(verdict, 'against')} {listed(map(quoted, others))}"
    )


def _place(view: StudyView, names: Sequence[str]) -> str:
    """Contrasts in a sentence: ``at 1x and 2x``, ``for 50 clips``, or by their own preposition."""
    if all(name.split(" ")[0] in ("at", "with", "from", "in", "on", "for") for name in names):
        return listed(names)
    at = has_budgets(view) and not any(" − " in name for name in names)
    return f"{'at' if at else 'for'} {listed(short_names(names))}"


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the part before a comma that all share; quoted where a comma is left."""
    shared = {name.rpartition(", ")[0] for name in names}
    if len(names) > 1 and len(shared) == 1:
        return [name.rpartition(", ")[2] for name in names]
    return [quoted(name) if ", " in name else name for name in names]


def runs_sentence(view: StudyView) -> str | None:
    """What the seeds of a study of one variant reach over the clips of all their folds."""
    told, metric = dict[str, float](), view.metric
    for seed in view.study.seeds if not view.others else ():
        own = [run for run in view.baseline.ok_runs if run.seed == seed and metric in run.metrics]
        values, clips = [run.metrics[metric] for run in own], [_clips(run) for run in own]
        if not sum(clips):
            continue
        value = sum(v * n for v, n in zip(values, clips, strict=True)) / sum(clips)
        low, high = share_interval(value, sum(clips)) if is_share(metric) else (nan, nan)
        of = f"{metric} {interval(Span(value, low, high))} on {counted(sum(clips), 'test clip')}"
        of += " (interval over clips)" * isfinite(low)
        of += f" of {counted(len(own), 'fold')} ({extent(values)} in each)" * (len(own) > 1)
        first, last = (end(r.train.get("epoch", 0.0) for r in own) for end in (min, max))
        epoch = f"epochs {first:g} to {last:g}" if first < last else f"epoch {last:g}"
        by = f"{epoch}, the best in validation" if first else "the last epoch"
        where = cell_name(seed, None if own[1:] else own[0].fold).capitalize()
        told[f"{where}: {of}, with the weights of {by}."] = value
    if len(told) > _NAMED:
        return f"Its {len(told)} seeds reach {metric} {extent(told.values())}."
    return " ".join(told) or None


def _clips(run: RunRecord) -> int:
    return round(run.train.get("test_clips", 0))


def coarse(view: StudyView) -> str:
    """That one test clip counts for more than the margin, see `noise.clip_sentence`."""
    first = [run for run in view.baseline.ok_runs if run.seed == view.study.seeds[0]]
    return clip_sentence(view.study, sum(map(_clips, first)))


def _classes_scored(view: StudyView) -> str:
    """`` over 3 of 4 classes (no test clip of dog)``; empty if all of them have test clips."""
    scores = [by for run in view.baseline.ok_runs for by in run.per_class.values()]
    scored, known = {name for by in scores for name in by}, view.study.fingerprint.classes
    absent = [name for name in known if name not in scored]
    if not absent or not scored:
        return ""
    more = [f"{len(absent) - _NAMED} more"] if len(absent) > _NAMED else []
    names = listed([*absent[:_NAMED], *more])
    return f" over {len(scored)} of {len(known)} classes (no test clip of {names})"


def has_budgets(view: StudyView) -> bool:
    """Whether the baseline's model was trained with several budgets."""
    return any(view.results.reached.values())


def contrasts_first(view: StudyView) -> bool:
    """Whether declared contrasts answer the question, rather than differences to the baseline.

    Those mostly show what more clips or steps do, where they vary for one model and patchout. And
    one family that compares all others with each other asks which of them is best.
    """
    alike = any(v.subject == view.baseline.subject for v in view.answers)
    families = view.study.contrasts.values()
    compared = [{v for weights in family.values() for v in weights} for family in families]
    among = len(view.answers) > 2 and compared == [{v.name for v in view.answers}]
    return bool(view.results.declared) and (alike or among or has_budgets(view))


def _by_cost(view: StudyView) -> str:
    """What was found of the variants; apart for those with another budget than the baseline's."""
    unit, base = view.study.shared, view.baseline.record.spent
    equal = dict[str, list[VariantView]]()
    for v in view.answers if unit != "epochs" and unit in base else ():
        near = (u for u in (unit, "epochs") if isclose(v.record.spent[u], base[u], rel_tol=0.05))
        at = next(near, "")
        how = f"at equal {at}".replace("flops", "FLOPs") if at else "at another cost"
        equal.setdefault(how, []).append(v)
    if len(equal) < 2:
        return _found(view, view.answers)
    return "; ".join(f"{how}, {_found(view, own)}" for how, own in equal.items())


def _inside(items: Sequence[Comparison]) -> str:
    """``real, but inside the margin``, and of how many if not of all; empty if of none."""
    n = sum(c.verdict == "same" and c.real for c in items)
    return f"{n} of {len(items)} " * (n < len(items)) + INSIDE if n else ""


def _found(view: StudyView, found: Sequence[VariantView]) -> str:
    """What was found of variants by verdict; those that keep the quality are named."""
    parts = list[str]()
    for verdict, words in _VERDICTS.items():
        own = [v for v in found if v.verdict == verdict]
        names = [v.name for v in own]
        if not names:
            continue
        if len(found) == 1:
            who = quoted(names[0])
        elif len(names) == len(found):
            who = "both variants" if len(names) == 2 else f"all {len(names)} variants"
        else:
            who = str(len(names)) if parts else f"{len(names)} of {len(found)} variants"
        told = f"{who} {words[len(names) > 1].format(margin=view.margin)}"
        named = len(found) > 1 and len(names) <= _NAMED and (verdict in _KEPT or len(names) == 1)
        notes = [listed(map(quoted, names))] if named else []
        notes += filter(None, [_inside([v.comparison for v in own if v.comparison])])
        parts.append(f"{told} ({'; '.join(notes)})" if notes else told)
    return listed(parts)


def power_sentence(view: StudyView) -> str | None:
    """That these seeds would hardly have shown a variant to be the same; None where they might."""
    margins = [v.comparison.smallest_margin for v in view.answers if v.comparison]
    least = min(filter(isfinite, margins), default=0.0)
    declared = (c for family in view.results.declared.values() for c in family)
    verdicts = (*(v.verdict for v in view.answers), *(c.verdict for c in declared))
    might = contrasts_first(view) or "same" in verdicts or least <= view.margin
    if might or view.results.look is None:
        return None
    return (
        f"These seeds are too few to show that two variants are the same within ±{view.margin:g}: "
        f"they could for a margin of ±{significant(least, 2)} (with probability 0.8)."
    )


def weights_sentence(view: StudyView) -> str | None:
    """How to compare the very models of a study with too few seeds for intervals, else None."""
    study, others = view.study, [v.name for v in view.answers]
    if len(study.seeds) >= INTERVAL_FROM or not others or view.results.paired:
        return None
    place = ":".join(map(str, (study.seeds[0], *(study.folds or ())[:1])))
    data = study.fingerprint.dataset
    named = data + "=DIR" * (data != "synthetic")
    given = {"--data": [named, *(w for w in study.given("--data") if w.startswith(f"{data}="))]}
    given |= {"--fold": [*map(str, (study.folds or ())[:1])], "--runs": study.given("--runs")}
    words = (word for name, values in given.items() for own in values[-1:] for word in (name, own))
    first, second = (f"'{study.name}:{name}:{place}'" for name in (others[0], study.baseline))
    return (
        f"{counted(len(study.seeds), 'seed')} cannot tell how other trainings would end. This "
        f"compares the two models that are kept: `passt-bench evaluate "
        f"{join(words)} --checkpoint {first} --against {second}`"
    )


def answers(view: StudyView) -> list[tuple[str, str, str]]:
    """Verdict, name and sentence of every variant but the baseline, in the study's order.

    Contrasts come first where they answer the question, and with budgets they come alone.
    """
    first = [
        (finding(item), _label(view, family, item), f"{_quality_of(view, item)}.")
        for family, items in view.results.declared.items()
        for item in (items if contrasts_first(view) else ())
    ]
    if first and has_budgets(view):
        return first
    own = [(v.verdict, v.label, f"{_quality(view, v)}{_cost(view, v)}.") for v in view.others]
    return first + own


def _label(view: StudyView, family: str, item: Comparison) -> str:
    if AT_EQUAL_TIME in family:
        return f"{family}, {item.variant}"
    alone = len(view.results.declared[family]) == 1
    return family if alone else f"{family}, {_place(view, [item.variant])}"


def _quality(view: StudyView, v: VariantView) -> str:
    item = v.comparison
    if item is None or v.verdict == "missing":
        return "not run yet"
    if item.verdict == "failed":
        failures = (f"{n} × {name}" for name, n in v.statuses.items() if name != "ok")
        return f"no result ({listed(failures)})"
    return _quality_of(view, item)


def _quality_of(view: StudyView, item: Comparison) -> str:
    if item.verdict == "not estimable":
        return "the difference cannot be estimated: no seed has successful runs of both"
    gap = gap_of(item)
    if item.verdict == "no verdict":
        told = f"(difference {interval(gap, sign=True)}"
        if view.results.look is None and len(view.study.seeds) >= INTERVAL_FROM:
            return f"{view.interim} {told})"
        few = f"{counted(item.n, 'seed')}, an interval needs three"
        why = "these runs were judged before" if isfinite(item.low) else few
        return f"no verdict {told}; {why})"
    if (found := finding(item)) != item.verdict:
        return f"{_VERDICTS[found][0].removeprefix('is ')} ({interval(gap, sign=True)})"
    if item.verdict in ("better", "worse"):
        size = gap if gap.value >= 0 else Span(-gap.value, -gap.high, -gap.low)
        return f"{item.verdict} by {interval(size)}"
    shown = interval(gap, sign=True)
    if item.verdict == "same":
        real = f"; {INSIDE}" if item.real else ""
        return f"the same within ±{item.margin:g} (difference {shown}{real})"
    if item.verdict == "not worse":
        return f"not worse by more than {item.margin:g} (difference {shown})"
    return f"undecided (difference {shown}; {_outlook(item, decimals(gap))})"


def _outlook(item: Comparison, places: int) -> str:
    text = f"detectable with {counted(item.n, 'seed')}: {fixed(item.detectable, places)}"
    if needed := seed_range(item.blocks_needed):
        text += f"; a new study with fresh seeds probably takes {needed} of them for a verdict"
    return text


def _cost(view: StudyView, v: VariantView) -> str:
    parts, kept = list[str](), list[str]()
    if v.cost(TRAIN_STEP).ratio.known:
        parts.append(step_time(v.cost(TRAIN_STEP)) + _whole_training(view, v))
    elif v.cost_status not in ("ok", "missing"):
        parts.append(f"its step could not be timed ({v.cost_status})")
    memory, base = v.memory_per_clip, view.baseline.memory_per_clip
    if isfinite(memory) and isfinite(base) and base > 0:
        kept.append(f"{fixed(memory / base, 2)}× the {view.memory_name}")
    if v.record.tokens:
        kept.append(f"{v.record.tokens} of {v.record.tokens_full} tokens")
    parts += [f"with {listed(kept)}"] if kept else []
    return "; " + ", ".join(parts) if parts else ""


def _whole_training(view: StudyView, v: VariantView) -> str:
    """What follows the time of a variant's step where trainings differ in length, else empty."""
    whole = view.whole_training.get(v.name, nan)
    return f" and the whole training {times(whole)}" if isfinite(whole) else ""


def step_time(cost: Cost) -> str:
    """The time of a training step relative to the baseline's, with the verdict if it has none."""
    if cost.speed_verdict == "about as fast":
        within = f"within ±{100 * SPEED_MARGIN:g} % ({times(cost.ratio)})"
        return f"each training step takes as long, {within}"
    undecided = " (undecided)" * (cost.speed_verdict == "undecided")
    return f"each training step takes {times(cost.ratio)} as long{undecided}"
