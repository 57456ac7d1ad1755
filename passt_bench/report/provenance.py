"""Facts about how results were measured: design, data, machines, versions and times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from operator import itemgetter
from typing import Any

from passt_bench.records.run import RunRecord, StudyRecord, VariantRecord
from passt_bench.records.session import SessionRecord
from passt_bench.report.cost_tables import costs_headline
from passt_bench.report.sentences import findings
from passt_bench.report.text import counted, fixed, listed, quoted, significant
from passt_bench.report.view import StudyView, declared_pairs, finding
from passt_bench.spec import EngineSpec
from passt_bench.spec.study import PRIMARY

Fact = tuple[str, str]
_PHASES = ("data", "build", "train", "select", "evaluate")  # of a run, in order of time


def fact(name: str, values: Iterable[str], separator: str = "; ") -> list[Fact]:
    """The fact as a list of one, or an empty list if all values are empty."""
    text = separator.join(value for value in values if value)
    return [(name, text)] if text else []


def study_facts(view: StudyView) -> list[Fact]:
    """(name, value) pairs for the page of a study, as far as records have them."""
    runs = [run for v in view.variants for run in v.runs]
    sessions = view.results.sessions
    records: list[RunRecord | SessionRecord] = [*runs, *sessions]
    engines = (v.record.recipe.engine for v in view.variants)
    rounds = [
        f"{session.rounds} interleaved rounds of {counted(session.steps, 'step')}, "
        f"{counted(max(1, len(session.restarts)), 'process', 'processes')} per variant, "
        f"{significant(session.seconds, 2)} s"
        for session in sessions
    ]
    versions = (", ".join(f"{n} {v}" for n, v in sorted(r.versions.items())) for r in records)
    kernels = (arm.attention for session in sessions for arm in session.arms)
    peaks = (s.matmul_flops for s in sessions if s.matmul_flops)
    stated = (
        f"{significant(session.stated_flops / 1e12)} TFLOP/s ({session.stated_source})"
        for session in sessions
        if session.stated_flops
    )
    return [
        *_design(view),
        *_data(view),
        *fact("Machine", distinct(machine_text(r.machine) for r in records if r.machine)),
        *fact("Engine", distinct(map(engine_text, engines))),
        *fact("Versions", distinct(versions)),
        *fact("Commit", distinct(record.commit or "" for record in records), ", "),
        *fact("Cost session", rounds),
        *fact("Attention kernel", distinct(kernels), ", "),
        *fact("Measured matmul peak", [f"{significant(p / 1e9)} GFLOP/s" for p in peaks], ", "),
        *fact("Vendor's peak", distinct(stated)),
        *_clocks(runs),
    ]


def finished(view: StudyView) -> str:
    """Date of the newest record, ``2026-11-20``; empty without records."""
    times = [run.finished for v in view.variants for run in v.runs]
    times += [session.finished for session in view.results.sessions]
    return max(times, default="")[:10]


def _design(view: StudyView) -> Iterable[Fact]:
    study = view.study
    if not study.seeds:
        yield "Design", f"{counted(len(view.variants), 'variant')}, only costs; nothing is trained"
        return
    blocks = counted(len(study.seeds), "seed") + f" ({', '.join(map(str, study.seeds))})"
    if study.folds:
        blocks += f", {counted(len(study.folds), 'fold')} each ({', '.join(map(str, study.folds))})"
    if view.others:
        blocks += "; all variants use the same seeds" + " and folds" * bool(study.folds)
    yield "Design", f"{counted(len(view.variants), 'variant')}, {blocks}"
    if study.shared != "epochs":
        unit = study.shared.replace("flops", "FLOPs")
        yield "Equal cost", f"trainings share {unit}, in whole steps, times their budget"
        ratios = (f"{quoted(name)} {ratio:.3f}" for name, ratio in study.step_ratios.items())
        yield from fact("Seconds of a clip / baseline's", ratios, ", ")
    starts = [v for v in study.variants if v.recipe.init.checkpoint]
    hashes = (f"{_start(view, v)} (SHA-256 {(v.recipe.init.sha256 or '')[:12]}…)" for v in starts)
    yield from fact("Start weights", distinct(hashes))
    yield from fact("Of these weights", loaded_weights(view), "; ")
    yield from fact("Tuned", _tuned(study))
    words = {"best_on_validation": "the epoch that is best on a validation split"}
    chosen = (v.recipe.training.checkpoint_selection for v in study.variants)
    epochs = distinct(words.get(selection, "the last epoch") for selection in chosen)
    yield "Metric", f"{view.metric} on the test split of {' or '.join(epochs)}"
    tested = [item.method for item in view.results.comparisons if item.verdict != "failed"]
    yield from fact("Test", dict.fromkeys(tested), "; or ")
    if view.results.look != len(study.seeds) or len(study.judged_at) > 1:
        at = listed(map(str, study.judged_at))
        now = "not yet" if view.results.look is None else f"now with the first {view.results.look}"
        yield "Verdicts", f"planned with {at} seeds, {now}; intervals cover with {view.coverage}"
    if study.contrasts_changed:
        yield "Contrasts", f"changed on {study.contrasts_changed}, when runs were on record already"
    if view.others:
        yield "Margin", f"±{view.margin:g}: a difference within it counts as the same"


def _tuned(study: StudyRecord) -> Iterator[str]:
    """What was tried before the study, with the values on the validation split."""
    for names in dict.fromkeys(item.variants for item in study.tried):
        own = [item for item in study.tried if item.variants == names]
        values = (
            f"{listed(f'{name} {value:g}' for name, value in item.changes.items())} "
            + ("failed" if item.value is None else fixed(item.value, 3))
            + " (chosen)" * item.chosen
            for item in own
        )
        runs = counted(len(own[0].cells), "run")
        yield f"{listed(map(quoted, names))}: {', '.join(values)}, {runs} each"
    if study.tried:
        apart = "; its clips are tests of other folds" if study.folds else ""
        yield f"{study.metric} on a split cut from training clips{apart}"


def _data(view: StudyView) -> Iterable[Fact]:
    data = view.study.fingerprint
    classes = counted(len(data.classes), "class", "classes")
    if not data.digest:
        seconds = distinct(f"{v.record.recipe.data.seconds:g} s" for v in view.variants)
        yield "Data", f"random input, clips of {listed(seconds)}, {classes}"
        return
    of = f" of {data.expected} expected" if data.expected is not None else ""
    kind = "several labels per clip" if data.multi_label else "one label per clip"
    found = f"{data.title}: {data.found} clips{of}, {classes}, {kind}"
    yield "Data", f"{found}; digest {data.digest}"
    rates = [f"{count} at {rate} Hz" for rate, count in sorted(data.sampling_rates.items())]
    clips = (
        f"{run.train['training_clips']:g} to train on and {run.train['test_clips']:g} to test"
        for v in view.variants
        for run in v.ok_runs
        if "test_clips" in run.train
    )
    yield from fact("Clips of a run", distinct(clips))
    yield from fact("Sampling rates", [listed(rates)])
    yield from fact("Notes on the data", data.notes, " ")


def machine_text(machine: Mapping[str, Any]) -> str:
    """Describes a machine on one line."""
    parts = [str(machine.get("cpu", "unknown processor"))]
    if "cores" in machine:
        parts.append(counted(int(machine["cores"]), "core"))
    if "memory_gib" in machine:
        parts.append(f"{machine['memory_gib']} GiB")
    parts += [str(name) for name in machine.get("gpus", ())]
    parts += [str(machine[name]) for name in ("system", "architecture") if name in machine]
    if "python" in machine:
        parts.append(f"Python {machine['python']}")
    return ", ".join(parts)


def engine_text(engine: EngineSpec) -> str:
    """Describes an engine on one line."""
    threads = counted(engine.threads, "thread")
    half = engine.precision != "float32"
    parts = {
        f"{engine.device}, {threads}, {engine.precision}": True,
        "materialized attention": engine.attention == "materialised",
        "attention by heads": engine.attention == "by_heads",
        f"residual stream in {engine.precision}": half and engine.residual == "compute",
        f"{engine.recompute} recomputed": engine.recompute != "none",
        "compiled": engine.compile == "default",
        "compiled: max-autotune": engine.compile == "max-autotune",
        f"batches in {engine.accumulate} chunks": engine.accumulate > 1,
        "one CUDA graph per step": engine.graph,
        "log-mels on the device": engine.frontend == "device",
        f"evaluated in {engine.evaluate_precision}": engine.evaluate_precision != "float32",
    }
    return ", ".join(words for words, holds in parts.items() if holds)


def _on_hardware(view: StudyView) -> str:
    """``, on`` the processors or GPUs that a study ran on, as far as records name them."""
    cuda = view.baseline.record.recipe.engine.device == "cuda"
    machines = [run.machine for v in view.variants for run in v.runs]
    names = []
    for machine in filter(None, [*machines, *(s.machine for s in view.results.sessions)]):
        cores = counted(int(machine.get("cores", 1)), "core")
        cpu = f"{cores} of {machine.get('cpu', 'an unknown processor')}"
        names.append(next(iter(machine.get("gpus", ()) if cuda else ()), cpu))
    return f", on {listed(distinct(names))}" if names else ""


def models_text(view: StudyView) -> str:
    """The models of an answer, each with its size as first trained or measured."""
    sizes: dict[str, float] = {}
    for v in (view.baseline, *view.answers):
        sizes.setdefault(v.record.recipe.model.name, v.parameters)
    return listed(
        f"{name} ({significant(n / 1e6, 2)} M parameters)" if isfinite(n) else name
        for name, n in sizes.items()
    )


def conditions(view: StudyView) -> str:
    """What an answer holds for, in one sentence: models, epochs, data, seeds and hardware."""
    records = [v.record for v in (view.baseline, *view.answers)]
    numbers = [r.spent.get("epochs") or r.recipe.training.epochs for r in records]
    low, high = (f"{round(number, 1):g}" for number in (min(numbers), max(numbers)))
    epochs = f"{low} epoch{'s' * (low != '1')}" if low == high else f"{low} to {high} epochs"
    unit = view.study.shared.replace("flops", "FLOPs")
    equal = "" if unit == "epochs" else f", with budgets in {unit}"
    look, most = view.results.look, max((mean.n for mean in view.results.means), default=0)
    seeds = "up to " * (look is None) + counted(look or most, "seed")
    data = quoted(view.study.fingerprint.title)
    where = _on_hardware(view) + _changed(view)
    if starts := [_start(view, record) for record in records if record.recipe.init.checkpoint]:
        how = "fine-tuned" if len(starts) == len(records) else "trained or fine-tuned"
        how += f" for {epochs} from {listed(distinct(starts))}"
    else:
        how = f"trained for {epochs}"
    return f"This is {models_text(view)} {how} on {data}{equal}, {seeds}{where}."


def loaded_weights(view: StudyView) -> list[str]:
    """What runs loaded of their start weights, adapted, drew anew and dropped."""
    tuned = (run for v in view.variants for run in v.ok_runs if run.recipe.init.checkpoint)
    return list(dict.fromkeys(note for run in tuned for note in run.notes))


def _start(view: StudyView, variant: VariantRecord) -> str:
    """The weights that training starts from: the kept model in the command, else the file's name.

    A record has only the latter, which is the same for all kept models.
    """
    sets, mark = view.study.given("--set"), "init.checkpoint="
    given = [word.removeprefix(mark) for word in sets if word.startswith(mark)]
    named = [word for word in (*view.study.given("--from"), *given) if ":" in word]
    return "".join(named[-1:]) or variant.recipe.init.checkpoint or ""


def _changed(view: StudyView) -> str:
    """What ``--set`` changed in the study, by the command on record; its variants keep names."""
    given = listed(view.study.given("--set"))
    of = "the study file's settings, except " if view.others else ""
    return f", with {of}{given}" if given else ""


def answer(view: StudyView) -> str:
    """What the study found, and for which conditions, in two sentences at most."""
    if view.study.seeds:
        return f"{findings(view)[0]} {conditions(view)}"
    return f"{costs_headline(view).removesuffix('.')}{_on_hardware(view)}."


def compared(view: StudyView) -> dict[str, str]:
    """Comparison with the baseline → verdict, without references and what is not judged.

    It is named by the first runs of both: the same variants in several studies are one comparison.
    """
    base = view.baseline.record.cells
    return {
        " ".join(sorted((v.record.cells[0].key, base[0].key))): v.verdict
        for v in (view.answers if base else ())
        if v.verdict not in ("no verdict", "missing")
    }


def judged_on(view: StudyView) -> str:
    """When the last of the runs that are judged ended; the first study's verdicts hold."""
    seeds = view.study.seeds[: view.results.look or 0]
    return max((r.finished for v in view.variants for r in v.runs if r.seed in seeds), default="")


def not_run(view: StudyView) -> str:
    """Names the variants that were not run, and why this may be no first look at the others."""
    study, text = view.results.whole or view.study, ""
    if names := view.results.not_run:
        of = len(study.variants) + len(study.left_out)
        text = f"These are {len(view.variants)} of the {of} variants of the study. "
        text += f"Not run yet: {listed(map(quoted, names))}. "
    last = study.judged_at[-1]
    if view.results.look == last and (later := len(study.seeds[last:])):
        text += f"Judged at the first {counted(last, 'seed')}, as first planned; "
        text += f"{counted(later, 'later seed')} {'is' if later == 1 else 'are'} left out. "
    return f"{text}{study.cannot_run} {study.further_look}".strip()


def primary_verdicts(view: StudyView) -> dict[str, str]:
    """Family of a primary question → its verdict; none if contrasts changed after the first run."""
    families = view.results.declared.items() if not view.study.contrasts_changed else ()
    found = {f.removesuffix(PRIMARY).strip(): items for f, items in families if PRIMARY in f}
    return {family: finding(items[0]) for family, items in found.items() if len(items) == 1}


def primary_changed(view: StudyView) -> str:
    """The day when the contrasts of a primary question changed after the first run, if any."""
    return view.study.contrasts_changed if any(PRIMARY in f for f in view.study.contrasts) else ""


def overall(summaries: Sequence[Mapping[str, Any]]) -> str:
    """What all studies together found, in two sentences at most; empty without verdicts."""
    asked: dict[str, list[str]] = {}
    for item in summaries:
        for family, verdict in item.get("primary", {}).items():
            asked.setdefault(verdict, []).append(f"{family} ({item['study']}, {item['dataset']})")
    told = [f"{verdict} for {'; '.join(own)}" for verdict, own in asked.items()]
    if late := [item["study"] for item in summaries if item.get("changed")]:
        told.append(f"not counted: {listed(late)}, whose contrasts changed after the first run")
    text = f"Primary questions, chosen before the runs: {'; '.join(told)}. " if told else ""
    judging = [item for item in summaries if item.get("compared")]
    judging.sort(key=itemgetter("judged"), reverse=True)  # so that the first one's verdict stays
    found = {pair: verdict for item in judging for pair, verdict in item["compared"].items()}
    if counts := Counter(found.values()):
        each = listed(f"{n} {verdict}" for verdict, n in counts.most_common())
        studies = counted(len(judging), "study", "studies")
        again = sum(len(item["compared"]) for item in judging) - len(found)
        once = f" (of several studies the first verdict counts; {again} later left out)" * bool(
            again
        )
        text += f"In {studies}, {counted(len(found), 'variant')} against baselines: {each}{once}."
    return text.strip()


def judged_elsewhere(view: StudyView, others: Iterable[StudyView]) -> str:
    """The verdicts of other studies on pairs of variants whose runs are judged here as well.

    The families of the studies differ, and with them the intervals. Empty if there are none.
    """
    turned = {"better": "worse", "worse": "better", "not worse": "not better"}
    told = dict[str, dict[str, list[str]]]()
    here = _judged_pairs(view)
    for other in others:
        there, when = _judged_pairs(other), ""
        if judged_on(other) != judged_on(view):
            when = f", judged {'first' if judged_on(other) < judged_on(view) else 'later'}"
        for (a, b), (verdict, runs) in here.items():
            for own, theirs in there.values():
                for known, said in ((theirs, own), (theirs[::-1], turned.get(own, own))):
                    if all(x & y for x, y in zip(runs, known, strict=True)):
                        pair = f"{quoted(a)} against {quoted(b)} is {verdict} here"
                        how = "and" if said == verdict else f"but {said}"
                        where = quoted(other.study.name) + when * (said != verdict)
                        told.setdefault(pair, {}).setdefault(how, []).append(where)
    each = (
        pair + "".join(f" {how} in {listed(names)}" for how, names in found.items())
        for pair, found in told.items()
    )
    text = "; ".join(each)
    start = "Other studies judge some of these runs in other families, or with another margin"
    holds = " Where verdicts differ, that of the study that was judged first holds."
    return f"{start}: {text}.{holds * (' but ' in text)}" if text else ""


def _judged_pairs(view: StudyView) -> dict[tuple[str, str], tuple[str, tuple[set[str], ...]]]:
    """(variant, other) → the verdict, and the keys of the judged runs of both."""
    seeds = view.study.seeds[: view.results.look or 0]
    runs = {v.name: {run.key for run in v.ok_runs if run.seed in seeds} for v in view.variants}
    found = declared_pairs(view)
    found |= {(v.name, view.baseline.name): v.comparison for v in view.others if v.comparison}
    return {
        (a, b): (c.verdict, (runs[a], runs[b]))
        for (a, b), c in found.items()
        if isfinite(c.low) and c.verdict != "no verdict"
    }


def distinct(texts: Iterable[str]) -> list[str]:
    """Each text once, the most frequent first."""
    counts = Counter(text for text in texts if text)
    return [text for text, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _clocks(runs: Sequence[RunRecord]) -> list[Fact]:
    totals = Counter(dict.fromkeys(_PHASES, 0.0))
    for run in runs:
        totals.update(run.clocks)
    whole = sum(totals.values())
    if whole <= 0:
        return []
    parts = (f"{name} {fixed(100 * n / whole, 0)} %" for name, n in totals.items() if n)
    minutes = significant(whole / 60, 2)
    return [("Run time", f"{minutes} min in all, summed over processes: {listed(parts)}")]
