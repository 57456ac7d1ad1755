"""Running a study: features, quality cells, cost session; each goes on from before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console

from passt_bench.console import duration, stage
from passt_bench.errors import InputError
from passt_bench.record import STATUSES, Status
from passt_bench.runner.cost import measure_cost
from passt_bench.runner.executor import Tick, run_cells
from passt_bench.runner.plan import Context, Datasets, PlannedCell, StudyPlan, missing_cells
from passt_bench.store import Store
from passt_bench.training.features import features_path, prepare_features


@dataclass(frozen=True)
class RunOptions:
    """How to run; none of it decides a result.

    Attributes:
        workers: processes at a time for quality cells.
        retry: statuses that are tried again.
        timeout: seconds that one cell may take.
        cost: whether the cost session follows.
        remeasure: whether it measures again what it has measured before.
    """

    workers: int = 2
    retry: tuple[Status, ...] = ()
    timeout: float | None = None
    cost: bool = True
    remeasure: bool = False


def run_study(
    plan: StudyPlan,
    context: Context,
    datasets: Datasets,
    options: RunOptions,
    console: Console,
) -> int:
    """Runs what is missing of a study.

    Returns:
        The number of cells whose final status is not ok.

    Raises:
        InputError: the device of the recipe is not there.
    """
    store = Store(context.out)
    todo = missing_cells(plan, store, options.retry)
    check_device(plan)
    store.write_study(plan.record)
    train_cells(todo, context, datasets, options, console)
    if options.cost:
        _measure(plan, store, options, console)
    final = [store.run(cell.key) for cell in plan.cells]
    return sum(record is None or record.status != "ok" for record in final)


def train_cells(
    todo: Sequence[PlannedCell],
    context: Context,
    datasets: Datasets,
    options: RunOptions,
    console: Console,
) -> None:
    """Prepares the features that cells need and runs the cells."""
    if not todo:
        return
    prepare(todo, context, datasets, console)
    cells = f"{len(todo)} runs, {options.workers} at a time"
    with stage(console, f"Training and evaluating {cells}") as update:

        def show(tick: Tick) -> None:
            update(tick.share, f"{tick.done_cells} of {tick.cells} runs")

        run_cells(todo, context, workers=options.workers, timeout=options.timeout, on_tick=show)


def prepare(
    todo: Sequence[PlannedCell], context: Context, datasets: Datasets, console: Console
) -> None:
    """Computes the features that cells need and the cache lacks."""
    torch.set_num_threads(1)  # the features shall not depend on the machine's cores
    wanted = {}
    for cell in todo:
        path = features_path(context.cache, cell.recipe, cell.fingerprint.digest)
        if not path.is_file():
            wanted[path] = cell.recipe
    for path, recipe in wanted.items():
        with stage(console, f"Preparing log-mel features of {recipe.data.name}") as update:
            prepare_features(
                datasets.get(recipe),
                recipe.frontend,
                recipe.data.seconds,
                path,
                partial(update, text=""),
            )


def _measure(plan: StudyPlan, store: Store, options: RunOptions, console: Console) -> None:
    recipes = {variant.name: variant.recipe for variant in plan.record.variants}
    with stage(console, f"Measuring the cost of {len(recipes)} variants, interleaved") as update:
        measure_cost(
            recipes,
            plan.record.baseline,
            len(plan.record.fingerprint.classes),
            store,
            retry=STATUSES if options.remeasure else options.retry,
            progress=update,
        )


def check_device(plan: StudyPlan) -> None:
    """Refuses a plan for a device that is not there.

    Raises:
        InputError: CUDA is asked for and not available.
    """
    for variant in plan.record.variants:
        if variant.recipe.engine.device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "no CUDA device is available here",
                source=f"{plan.study.name}: {variant.name}",
                field="engine.device",
                value="cuda",
                remedy="Use --device cpu.",
            )


def describe(plan: StudyPlan, store: Store, options: RunOptions) -> str:
    """Two sentences: what a run will do and how long it takes."""
    todo = missing_cells(plan, store, options.retry)
    done = len(plan.cells) - len(todo)
    study = plan.study
    text = (
        f"{study.name}: {len(study.variants)} variants x {len(study.seeds)} seeds"
        + (f" x {len(plan.record.folds)} folds" if plan.record.folds else "")
        + f" = {len(plan.cells)} runs, {done} of them on record already."
    )
    if not todo:
        return f"{text} Nothing is left to train; costs are measured where they are missing."
    seconds = sum(cell.seconds for cell in todo) / min(options.workers, len(todo))
    if options.cost:
        seconds += max(v.recipe.measurement.seconds for v in plan.record.variants) + 20
    return f"{text} Expected: about {duration(seconds)} in all on this machine."
