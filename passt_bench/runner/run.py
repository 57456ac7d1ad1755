"""Running a study: features, quality cells, cost session; each goes on from before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial

import torch
from filelock import FileLock
from rich.console import Console

from passt_bench.console import duration, stage
from passt_bench.errors import InputError
from passt_bench.records.files import to_json
from passt_bench.records.run import STATUSES, Status
from passt_bench.records.store import Store
from passt_bench.runner.cost import foresee_cost, measure_cost
from passt_bench.runner.executor import Tick, run_cells
from passt_bench.runner.locks import studies_held
from passt_bench.runner.plan import Context, Datasets, PlannedCell, StudyPlan, missing_cells
from passt_bench.runner.run_status import Shortfall, shortfall, tidy
from passt_bench.spec.recipe import Recipe
from passt_bench.training.features import features_path, is_prepared, keeps_waves, prepare_features


@dataclass(frozen=True)
class RunOptions:
    """How to run; none of it decides a result.

    Attributes:
        workers: processes at a time for quality cells.
        retry: statuses that are tried again.
        timeout: seconds that an attempt at a cell may take, its earlier processes included.
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
    *,
    beside: AbstractContextManager[None] | None = None,
) -> Shortfall:
    """Runs what is missing of a study.

    Args:
        plan: the study.
        context: where things lie.
        datasets: opened data sets.
        options: how to run.
        console: for progress.
        beside: open while cells are trained, and closed while costs are measured.

    Returns:
        What did not come to a good end.

    Raises:
        InputError: the device of the recipe is not there.
    """
    store = Store(context.out)
    todo = missing_cells(plan, store, options.retry)
    check_device(plan)
    with studies_held(store.root):
        _write_study(plan, store)
    tidy(plan, context, todo)
    with beside if beside is not None and todo else nullcontext():
        train_cells(todo, context, datasets, options, console)
    cost = options.cost and plan.has_baseline
    if cost:
        _measure(plan, store, options, console)
    return shortfall(plan, store, cost=cost)


def _write_study(plan: StudyPlan, store: Store) -> None:
    """Writes the whole study, whichever of its variants are run."""
    if plan.record != plan.whole:
        with suppress(InputError):  # there is none yet, or a broken one
            there = store.study(plan.whole.name)
            if to_json(replace(there, command=plan.whole.command)) == to_json(plan.whole):
                return  # the command that is told there made more of it than this one
    store.write_study(plan.whole)


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
        if path.is_file() or path in wanted:
            continue
        clips = len(datasets.get(cell.recipe).ids)
        if is_prepared(cell.recipe, clips, path):
            wanted[path] = cell.recipe
    for path, recipe in wanted.items():
        what = "waveforms" if keeps_waves(recipe) else "log-mel features"
        title = f"Preparing {what} of {recipe.data.name}"
        # Of several invocations on the folder one computes, the others wait.
        with stage(console, title) as update, _alone(context):
            prepare_features(
                datasets.get(recipe),
                recipe.frontend,
                recipe.data.seconds,
                path,
                partial(update, text=""),
            )


@contextmanager
def _alone(context: Context) -> Iterator[None]:
    context.cache.mkdir(parents=True, exist_ok=True)
    with FileLock(context.cache / "prepare.lock"):
        for path in context.cache.glob("*.tmp"):
            path.unlink()  # begun by an invocation that was killed
        yield


def _measure(plan: StudyPlan, store: Store, options: RunOptions, console: Console) -> None:
    recipes, baseline, classes = _arms(plan)
    with stage(console, f"Measuring the cost of {len(recipes)} variants, interleaved") as update:
        measure_cost(recipes, baseline, classes, store, retry=_remeasured(options), progress=update)


def _arms(plan: StudyPlan) -> tuple[dict[str, Recipe], str, int]:
    """What a cost session is told of a study: recipes by variant, baseline, classes."""
    recipes = {variant.name: variant.recipe for variant in plan.record.variants}
    return recipes, plan.record.baseline, len(plan.record.fingerprint.classes)


def _remeasured(options: RunOptions) -> tuple[Status, ...]:
    return STATUSES if options.remeasure else options.retry


def check_device(plan: StudyPlan) -> None:
    """Refuses a plan for a device that is not there.

    Raises:
        InputError: CUDA is asked for and not available.
    """
    for variant in plan.record.variants:
        check_available(variant.recipe.engine.device, f"{plan.study.name}: {variant.name}")


def check_available(device: str, source: str) -> None:
    """Refuses a device that is not there.

    Raises:
        InputError: CUDA is asked for and not available, or it is neither cpu nor cuda.
    """
    if device not in ("cpu", "cuda"):
        raise InputError(
            "no such device type",
            source=source,
            field="engine.device",
            value=device,
            remedy="Known: cpu, cuda.",
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "no CUDA device is available here",
            source=source,
            field="engine.device",
            value="cuda",
            remedy="Use --device cpu.",
        )


def describe(plan: StudyPlan, store: Store, options: RunOptions) -> str:
    """A few sentences: what a run will do and how long it takes."""
    todo = missing_cells(plan, store, options.retry)
    done = len(plan.cells) - len(todo)
    study = plan.study
    chosen, all_of_them = len(plan.record.variants), len(plan.whole.variants)
    variants = "1 variant" if all_of_them == 1 else f"{all_of_them} variants"
    text = (
        f"{study.name}: {f'{chosen} of ' if chosen < all_of_them else ''}{variants}"
        f" x {len(study.seeds)} seeds"
        + (f" x {len(plan.record.folds)} folds" if plan.record.folds else "")
        + f" = {len(plan.cells)} runs, {done} of them on record already."
    )
    cost = options.cost and plan.has_baseline
    without = "" if plan.has_baseline or not options.cost else f" {_NO_COST}"
    if not todo:
        costs = "; costs are measured where they are missing" if cost else ""
        return f"{text} Nothing is left to train{costs}.{without}"
    seconds = sum(cell.seconds for cell in todo) / min(options.workers, len(todo))
    if cost:
        recipes, baseline, classes = _arms(plan)
        foreseen = foresee_cost(recipes, baseline, classes, store, retry=_remeasured(options))
        seconds += foreseen.limited(recipes[baseline].measurement)
    return f"{text} Expected: about {duration(seconds)} in all on this machine.{without}"


_NO_COST = (
    "Costs are not measured: they are ratios to the baseline, which --no-baseline leaves out."
)


def unused_cuda(plans: Iterable[StudyPlan], available: bool) -> str | None:
    """A sentence where a CUDA device is here and no variant runs on it; None otherwise.

    Args:
        plans: the studies.
        available: whether there is a CUDA device.
    """
    devices = {v.recipe.engine.device for plan in plans for v in plan.record.variants}
    if not available or not devices or "cuda" in devices:
        return None
    return "A CUDA device is here and unused: add --device cuda."
