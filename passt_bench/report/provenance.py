"""States how a study was measured: design, data, machines, versions, sessions and clocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from passt_bench.records.run import RunRecord
from passt_bench.report.text import counted, fixed, listed, significant
from passt_bench.report.view import TRAIN_STEP, StudyView

Fact = tuple[str, str]


def facts(view: StudyView) -> list[Fact]:
    """(what, how) pairs for the page; what no record tells is left out."""
    runs = [run for v in view.variants for run in v.runs]
    found = [*_design(view), *_data(view), *_machines(view, runs), *_session(view)]
    found += [*_precision(view), *_clocks(runs)]
    return [(what, how) for what, how in found if how]


def finished(view: StudyView) -> str:
    """Date of the newest record, ``2026-11-20``; empty without records."""
    times = [run.finished for v in view.variants for run in v.runs]
    times += [session.finished for session in view.results.sessions]
    return max(times, default="")[:10]


def warnings(view: StudyView) -> list[str]:
    """What disturbed the cost sessions."""
    found = [
        str(text)
        for session in view.results.sessions
        for text in session.disturbance.get("warnings", ())
    ]
    return list(dict.fromkeys(found))


def _design(view: StudyView) -> Iterable[Fact]:
    study = view.study
    blocks = counted(len(study.seeds), "seed") + f" ({', '.join(map(str, study.seeds))})"
    if study.folds:
        blocks += f", {counted(len(study.folds), 'fold')} each ({', '.join(map(str, study.folds))})"
    yield "Design", f"{counted(len(view.variants), 'variant')}, {blocks}; all share the blocks"
    yield "Metric", f"{view.metric} on the test split of {_epochs(view)}"
    tested = [item.method for item in view.results.comparisons if item.verdict != "failed"]
    yield "Test", "; or ".join(dict.fromkeys(tested))
    yield "Margin", f"±{view.margin:g}: a difference within it counts as the same"


def _epochs(view: StudyView) -> str:
    """Which epoch was tested."""
    chosen = {
        v.recipe.training.checkpoint_selection == "best_on_validation" for v in view.study.variants
    }
    words = {False: "the last epoch", True: "the epoch that is best on a validation split"}
    return " or ".join(words[choice] for choice in sorted(chosen))


def _data(view: StudyView) -> Iterable[Fact]:
    data = view.study.fingerprint
    of = f" of {data.expected} expected" if data.expected is not None else ""
    kind = "several labels a clip" if data.multi_label else "one label a clip"
    yield (
        "Data",
        f"{data.dataset}: {data.found} clips{of}, "
        f"{counted(len(data.classes), 'class', 'classes')}, {kind}; fingerprint {data.digest}",
    )
    rates = [f"{count} at {rate} Hz" for rate, count in sorted(data.sampling_rates.items())]
    yield "Sampling rates", listed(rates) if rates else ""
    yield "Notes on the data", " ".join(data.notes)


def _machines(view: StudyView, runs: list[RunRecord]) -> Iterable[Fact]:
    machines = [run.machine for run in runs if run.machine]
    machines += [session.machine for session in view.results.sessions if session.machine]
    yield "Machine", "; ".join(distinct(machine_text(machine) for machine in machines))
    engines = [v.record.recipe.engine.describe() for v in view.variants]
    yield "Engine", "; ".join(distinct(engines))
    versions = [run.versions for run in runs] + [s.versions for s in view.results.sessions]
    shown = [", ".join(f"{name} {v}" for name, v in sorted(item.items())) for item in versions]
    yield "Versions", "; ".join(distinct(shown))
    commits = [run.commit for run in runs] + [s.commit for s in view.results.sessions]
    yield "Commit", ", ".join(distinct(commit for commit in commits if commit))


def machine_text(machine: Mapping[str, Any]) -> str:
    """A machine in a line."""
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


def distinct(texts: Iterable[str]) -> list[str]:
    """Each text once, the most frequent first."""
    counts = Counter(text for text in texts if text)
    return [text for text, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _session(view: StudyView) -> Iterable[Fact]:
    sessions = view.results.sessions
    told = [
        f"{session.rounds} interleaved rounds of {counted(session.steps, 'step')}, "
        f"one process a variant, {significant(session.seconds, 2)} s"
        for session in sessions
    ]
    yield "Cost session", "; ".join(told)
    kernels = [arm.attention for session in sessions for arm in session.arms if arm.attention]
    yield "Attention", ", ".join(distinct(kernels))
    peaks = [
        f"{significant(session.matmul_flops / 1e9)} GFLOP/s"
        for session in sessions
        if session.matmul_flops
    ]
    yield "Matrix product peak", ", ".join(peaks)


def _precision(view: StudyView) -> Iterable[Fact]:
    gaps = [v.difference for v in view.others]
    ratios = [v.costs[TRAIN_STEP].ratio for v in view.others if TRAIN_STEP in v.costs]
    named = ((f"difference in {view.metric}", gaps), ("ratio of the training step", ratios))
    halves = [
        f"{name} at most ±{significant(max(s.half for s in spans if s.has_interval), 2)}"
        for name, spans in named
        if any(s.has_interval for s in spans)
    ]
    yield "Half widths of the intervals", ", ".join(halves)


def _clocks(runs: list[RunRecord]) -> Iterable[Fact]:
    totals: Counter[str] = Counter()
    for run in runs:
        totals.update(run.clocks)
    whole = sum(totals.values())
    if whole <= 0:
        return
    parts = [f"{name} {fixed(100 * s / whole, 0)} %" for name, s in sorted(totals.items())]
    minutes = significant(whole / 60, 2)
    yield "Time of the runs", f"{minutes} min in all, added up over processes: {listed(parts)}"
