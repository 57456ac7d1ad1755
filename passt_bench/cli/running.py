"""Running one prepared study from the command line: words before, progress, words after."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from passt_bench.cli.options import console
from passt_bench.cli.results import bringing_up_to_date, render, rendered
from passt_bench.console import duration
from passt_bench.records.store import Store

if TYPE_CHECKING:
    from passt_bench.records.run import Fingerprint
    from passt_bench.runner.plan import StudyPlan
    from passt_bench.runner.prepare import Prepared, Request
    from passt_bench.runner.run import RunOptions


@dataclass(frozen=True)
class Manner:
    """How a command runs studies.

    Attributes:
        options: of the runs.
        keeping: fields of `runner.plan.Context` that say how cells are kept.
        track: whether MLflow is told.
        reports: folder of the rendered reports.
    """

    options: RunOptions
    keeping: dict[str, Any] = field(default_factory=dict)
    track: bool = True
    reports: Path = Path("reports")


def run_prepared(prepared: Prepared, out: Path, manner: Manner) -> bool:
    """Runs what is missing of a study and renders its report; whether all came to a good end."""
    from passt_bench.console import Estimate
    from passt_bench.runner.background_sync import live
    from passt_bench.runner.plan import missing_cells
    from passt_bench.runner.run import describe, run_study

    clock = Estimate()
    context = replace(prepared.context, **manner.keeping)
    console.print(prepared.plan.study.question, markup=False)
    console.print(found(prepared.plan.record.fingerprint), markup=False)
    console.print(describe(prepared.plan, Store(out), manner.options), markup=False)
    if not context.keep_models and missing_cells(prepared.plan, Store(out), manner.options.retry):
        console.print(_NOT_KEPT, markup=False)
    name = prepared.plan.study.name
    fell_short = run_study(
        prepared.plan,
        context,
        prepared.datasets,
        manner.options,
        console,
        beside=live(out, name) if manner.track else None,
    )
    with bringing_up_to_date(out, clock) if manner.track else nullcontext():
        page = rendered(name, out, manner.reports) or render(name, out, manner.reports)
    console.print(f"Finished in {duration(clock.elapsed)}. The report: {page}", markup=False)
    for sentence in fell_short.sentences():
        console.print(sentence, markup=False)
    if context.keep_models:
        _tell_kept(prepared.plan, Store(out))
    return not fell_short


_NOT_KEPT = "Trained models are not kept; --keep-models writes each beside its record."


def tell_unused_cuda(studies: Sequence[Prepared], request: Request) -> None:
    """Says that a CUDA device is here and unused, where the command line names no device."""
    import torch

    from passt_bench.runner.run import unused_cuda
    from passt_bench.spec.override import parse_assignments

    if request.device is not None or "engine.device" in parse_assignments(list(request.sets)):
        return
    sentence = unused_cuda([study.plan for study in studies], torch.cuda.is_available())
    if sentence is not None:
        console.print(sentence, style="yellow", markup=False)


def found(data: Fingerprint) -> str:
    """What was found of the data, and what is odd about it."""
    of = f" of {data.expected}" if data.expected is not None else ""
    notes = "".join(f"; {note}" for note in data.notes)
    return f"Data: {data.dataset}, {data.found}{of} clips{notes}."


def _tell_kept(plan: StudyPlan, store: Store) -> None:
    from passt_bench.runner.cells import MODEL

    kept = sum((store.folder(cell.key) / MODEL).is_file() for cell in plan.cells)
    without = len(plan.cells) - kept
    text = f"{kept} models are kept, in {store.root}/records/KEY/{MODEL}."
    if without:
        text += f" {without} runs have none: they failed, or were on record already."
    console.print(text, markup=False)


def show_standing(prepared: Prepared, out: Path) -> None:
    """Prints a table of what is done of a study, the failures, and what is left."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.run import RunOptions, describe
    from passt_bench.runner.run_status import STATES, standings

    standing = standings(prepared.plan, prepared.context)
    retried = any(variant.retried for variant in standing)
    table = Table("variant", *STATES, *(["retried"] if retried else []))
    for variant in standing:
        counts = [variant.cells[state] for state in STATES]
        counts += [variant.retried] if retried else []
        table.add_row(variant.variant, *map(str, counts))
    console.print(table)
    for line in (line for variant in standing for line in variant.failures):
        console.print(line, markup=False)
    options = RunOptions(workers=default_workers())
    console.print(describe(prepared.plan, Store(out), options), markup=False)
