"""The stages of running a study: features, training, cost session; each can be resumed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from filelock import FileLock
from rich.console import Console

from passt_bench.analysis.results import measured_arms
from passt_bench.console import duration, stage
from passt_bench.errors import InputError
from passt_bench.records.files import to_json
from passt_bench.records.run import Fingerprint
from passt_bench.records.store import Store
from passt_bench.runner.cells import clear
from passt_bench.runner.cost import foresee_cost, measure_cost
from passt_bench.runner.executor import run_cells
from passt_bench.runner.locks import PROGRESS, is_running, studies_held
from passt_bench.runner.plan import Datasets, PlannedCell, StudyPlan, missing_cells
from passt_bench.runner.request import Paths, RunConfig, StudyRequest, check_device_name
from passt_bench.runner.studies import study_difference, study_on_record
from passt_bench.spec.override import parse_assignments
from passt_bench.spec.recipe import Recipe
from passt_bench.training.features import features_path, is_prepared, keeps_waves, prepare_features


def write_study(plan: StudyPlan, store: Store) -> None:
    """Writes the record of the whole study, even if only some variants are run.

    Raises:
        InputError: another study of this name was started since this one was planned.
    """
    with studies_held(store.root):
        recorded = study_on_record(plan.whole.name, store)
        if recorded is not None and study_difference(plan, recorded) is not None:
            raise InputError(
                "another command just started a study of this name with other settings",
                source=store.root,
                field="name",
                value=plan.whole.name,
                remedy="Run the same command again; it will choose another name.",
            )
        if recorded is not None and plan.record != plan.whole:
            recorded = replace(recorded, command=plan.whole.command)
            if to_json(recorded) == to_json(plan.whole):
                return  # the recorded command ran more of the study than this one
        store.write_study(plan.whole)


def remove_leftovers(
    plan: StudyPlan, paths: Paths, config: RunConfig, todo: Collection[PlannedCell]
) -> None:
    """Removes the files of runs that were killed after their record was written."""
    waiting = {cell.key for cell in todo}
    store = Store(paths.runs)
    for cell in plan.cells:
        if cell.key in waiting or not (store.folder(cell.key) / PROGRESS).is_file():
            continue
        if store.has(cell.key) and not is_running(paths.runs, cell.key):
            clear(paths, config, cell.key)


def prepare(
    todo: Sequence[PlannedCell], paths: Paths, datasets: Datasets, console: Console
) -> None:
    """Computes the features that cells need and that are not in the cache."""
    torch.set_num_threads(1)  # features must not depend on the number of cores
    missing = {}
    for cell in todo:
        path = features_path(paths.cache, cell.recipe, cell.fingerprint.digest)
        if path.is_file() or path in missing:
            continue
        clips = len(datasets.get(cell.recipe).ids)
        if is_prepared(cell.recipe, clips, path):
            missing[path] = cell.recipe
    for path, recipe in missing.items():
        what = "waveforms" if keeps_waves(recipe) else "log-mel features"
        title = f"Preparing {what} of {recipe.data.name}"
        # If several commands use the folder, one computes and the others wait.
        with stage(console, title) as update, _cache_locked(paths):
            prepare_features(
                datasets.get(recipe),
                recipe.frontend,
                recipe.data.seconds,
                path,
                update,
            )


@contextmanager
def _cache_locked(paths: Paths) -> Iterator[None]:
    paths.cache.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.cache / "prepare.lock"):
        for path in paths.cache.glob("*.tmp"):
            path.unlink()  # left by a command that was killed
        yield


def train(todo: Sequence[PlannedCell], paths: Paths, config: RunConfig, console: Console) -> None:
    """Trains and evaluates cells whose features are prepared."""
    if todo:
        cells = f"{len(todo)} runs, {config.workers} in parallel"
        with stage(console, f"Training and evaluating {cells}") as update:
            run_cells(todo, paths, config, update)


def measure(plan: StudyPlan, config: RunConfig, store: Store, console: Console) -> None:
    """Measures costs of variants, if requested and if the baseline is included."""
    if not (config.cost and plan.has_baseline):
        return
    recipes, baseline, classes = _arms(plan)
    with stage(console, f"Measuring the cost of {len(recipes)} variants, interleaved") as update:
        measure_cost(recipes, baseline, classes, store, retry=config.remeasured, progress=update)


def _arms(plan: StudyPlan) -> tuple[dict[str, Recipe], str, int]:
    """Arguments of a cost session: recipes by variant, name of the baseline, number of classes."""
    recipes = {variant.name: variant.recipe for variant in plan.record.variants}
    return recipes, plan.record.baseline, len(plan.record.fingerprint.classes)


@dataclass(frozen=True)
class Incomplete:
    """Counts of what failed or did not finish in a study; false if everything is done.

    Attributes:
        failed: number of cells whose final status is not ok.
        interrupted: number of cells without a record.
        arms: number of variants whose cost could not be measured.
    """

    failed: int = 0
    interrupted: int = 0
    arms: int = 0

    def __bool__(self) -> bool:
        return bool(self.failed or self.interrupted or self.arms)

    def sentences(self) -> list[str]:
        """A sentence for each nonzero count."""
        sentences = []
        if self.failed:
            sentences.append(
                f"{_runs(self.failed)} failed; see the report. To run them again, give --retry "
                "with their kinds of failure."
            )
        if self.interrupted:
            sentences.append(
                f"{_runs(self.interrupted)} did not finish; run the same command to resume."
            )
        if self.arms:
            what = "variant" if self.arms == 1 else "variants"
            sentences.append(f"The cost of {self.arms} {what} could not be measured.")
        return sentences


def _runs(number: int) -> str:
    return f"{number} run" if number == 1 else f"{number} runs"


def find_incomplete(plan: StudyPlan, store: Store, *, cost: bool) -> Incomplete:
    """Counts what failed or did not finish, from the records.

    Args:
        plan: the study.
        store: records of the study.
        cost: whether costs were to be measured.
    """
    ends = [store.outcome(cell.key) for cell in plan.cells]
    measured = measured_arms(plan.record, store.sessions()) if cost else {}
    return Incomplete(
        failed=sum(end is not None and end.status != "ok" for end in ends),
        interrupted=ends.count(None),
        arms=sum(arm.status != "ok" for _, arm in measured.values()),
    )


def check_device(plan: StudyPlan) -> None:
    """Refuses a plan for a device that is not available.

    Raises:
        InputError: the plan uses CUDA, which is not available.
    """
    for variant in plan.record.variants:
        check_available(variant.recipe.engine.device, plan.study.place(variant.name))


def check_available(device: str, source: str | None = None, field: str = "engine.device") -> None:
    """Refuses a device that is unknown or not available.

    Raises:
        InputError: the device is neither cpu nor cuda, or is cuda and not available.
    """
    check_device_name(device, source, field)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "no CUDA device is available on this machine",
            source=source,
            field=field,
            value="cuda",
            remedy="Use --device cpu.",
        )


def describe(
    plan: StudyPlan, store: Store, config: RunConfig, todo: Sequence[PlannedCell] | None = None
) -> str:
    """Sentences about what a command will run and how long that takes.

    Args:
        plan: the study.
        store: records of the study.
        config: how to run.
        todo: the cells to run, if already known.
    """
    todo = missing_cells(plan, store, config.retry) if todo is None else todo
    text = "".join(f"{note} " for note in plan.notes)
    text += plan.record.count_runs(len(plan.whole.variants), len(plan.cells) - len(todo))
    cost = config.cost and plan.has_baseline
    without = "" if plan.has_baseline or not config.cost else f" {_NO_COST}"
    if not todo:
        costs = "; missing costs are measured" if cost else ""
        return f"{text} Nothing to train{costs}.{without}"
    seconds = sum(cell.seconds for cell in todo) / min(config.workers, len(todo))
    if cost:
        recipes, baseline, classes = _arms(plan)
        expected = foresee_cost(recipes, baseline, classes, store, retry=config.remeasured)
        seconds += expected.limited(recipes[baseline].measurement)
    return f"{text} Expected: about {duration(seconds)} in all on this machine.{without}"


_NO_COST = "Costs are not measured: they are ratios to the baseline, which --no-baseline excludes."


def describe_data(data: Fingerprint) -> str:
    """A sentence with the number of clips found, and notes about the data."""
    of = f" of {data.expected}" if data.expected is not None else ""
    notes = "".join(f"; {note}" for note in data.notes)
    return f"Data: {data.dataset}, {data.found}{of} clips{notes}."


def warn_of_unused_cuda(
    plans: Iterable[StudyPlan], request: StudyRequest, console: Console
) -> None:
    """Warns that a CUDA device is available and unused, unless a device was chosen."""
    named = request.device is not None or "engine.device" in parse_assignments(list(request.sets))
    sentence = None if named else unused_cuda(plans, torch.cuda.is_available())
    if sentence is not None:
        console.print(sentence, style="yellow", markup=False)


def unused_cuda(plans: Iterable[StudyPlan], available: bool) -> str | None:
    """A warning if CUDA is available and no variant uses it; None otherwise.

    Args:
        plans: the studies.
        available: whether there is a CUDA device.
    """
    devices = {v.recipe.engine.device for plan in plans for v in plan.record.variants}
    if not available or not devices or "cuda" in devices:
        return None
    return "A CUDA device is available but not used; to use it, add --device cuda."
