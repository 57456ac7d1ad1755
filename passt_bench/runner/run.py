"""The stages of running a study: features, training, cost session; each can be resumed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock
from rich.console import Console

from passt_bench.analysis.results import measured_arms
from passt_bench.console import duration, stage
from passt_bench.errors import InputError
from passt_bench.records.files import to_json
from passt_bench.records.run import Fingerprint
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import clear
from passt_bench.runner.cost import CostPlan, foresee_cost, measure_cost, plan_cost
from passt_bench.runner.executor import run_cells
from passt_bench.runner.plan import Datasets, PlannedCell, StudyPlan, missing_cells
from passt_bench.runner.request import Paths, RunConfig, StudyRequest, check_device_name
from passt_bench.runner.run_status import PROGRESS, is_running, studies_held
from passt_bench.runner.studies import study_difference, study_on_record
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import parse_assignments
from passt_bench.training.features import features_path, fits_cache, prepare_features


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
    missing: dict[Path, Recipe] = {}
    for cell in todo:
        path = features_path(paths.cache, cell.recipe, cell.fingerprint.digest)
        if path is None or path.is_file():
            continue
        if fits_cache(cell.recipe, len(datasets.get(cell.recipe).ids), paths.cache):
            missing.setdefault(path, cell.recipe)
    for path, recipe in missing.items():
        paths.cache.mkdir(parents=True, exist_ok=True)
        # If several commands use the folder, one computes and the others wait.
        with (
            stage(console, f"Preparing log-mel features of {recipe.data.name}") as update,
            FileLock(paths.cache / "prepare.lock"),
        ):
            for left in paths.cache.glob("*.tmp"):
                left.unlink()  # left by a command that was killed
            dataset = datasets.get(recipe)
            prepare_features(dataset, recipe.frontend, recipe.data.seconds, path, update)


def train(todo: Sequence[PlannedCell], paths: Paths, config: RunConfig, console: Console) -> None:
    """Trains and evaluates cells whose features are prepared."""
    if todo:
        cells = f"{len(todo)} runs, {config.workers} in parallel"
        with stage(console, f"Training and evaluating {cells}") as update:
            run_cells(todo, paths, config, update)


def measure(
    plan: StudyPlan, config: RunConfig, store: Store, console: Console
) -> list[SessionRecord]:
    """Measures costs of variants, if requested and if the baseline is included.

    Returns:
        All sessions on record; none if costs are not measured.
    """
    if not (config.cost and plan.has_baseline):
        return []
    variants, sessions = len(plan.record.variants), store.sessions()
    with stage(console, f"Measuring the cost of {variants} variants, interleaved") as update:
        return sessions + measure_cost(_cost_plan(plan, config, sessions), store, update)


def _cost_plan(plan: StudyPlan, config: RunConfig, sessions: Sequence[SessionRecord]) -> CostPlan:
    recipes = {variant.name: variant.recipe for variant in plan.record.variants}
    classes = len(plan.record.fingerprint.classes)
    return plan_cost(
        recipes, plan.record.baseline, classes, sessions=sessions, retry=config.remeasured
    )


@dataclass(frozen=True)
class Incomplete:
    """Counts of what failed or did not finish in a study; false if everything is done."""

    failed: int = 0  # cells whose final status is not ok
    interrupted: int = 0  # cells without a record
    arms: int = 0  # variants whose cost could not be measured

    def __bool__(self) -> bool:
        return bool(self.failed or self.interrupted or self.arms)

    def sentences(self) -> list[str]:
        """A sentence for each nonzero count."""
        runs, variants = _count(self.interrupted, "run"), _count(self.arms, "variant")
        retry = "see the report. To run them again, give --retry with their kinds of failure."
        sentences = (
            (self.failed, f"{_count(self.failed, 'run')} failed; {retry}"),
            (self.interrupted, f"{runs} did not finish; run the same command to resume."),
            (self.arms, f"The cost of {variants} could not be measured."),
        )
        return [sentence for number, sentence in sentences if number]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def find_incomplete(plan: StudyPlan, store: Store, sessions: Sequence[SessionRecord]) -> Incomplete:
    """Counts what failed or did not finish, from the records of a study and its cost sessions."""
    ends = [store.outcome(cell.key) for cell in plan.cells]
    measured = measured_arms(plan.record, sessions) if sessions else {}
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
    """Sentences about what a command will run (``todo``, if known) and how long that takes."""
    todo = missing_cells(plan, store, config.retry) if todo is None else todo
    text = "".join(f"{note} " for note in plan.notes)
    text += plan.record.count_runs(len(plan.whole.variants), len(plan.cells) - len(todo))
    cost = config.cost and plan.has_baseline
    without = "" if plan.has_baseline or not config.cost else f" {_NO_COST}"
    if not todo:
        return f"{text} Nothing to train{'; missing costs are measured' if cost else ''}.{without}"
    seconds = sum(cell.seconds for cell in todo) / min(config.workers, len(todo))
    if cost:
        costs = _cost_plan(plan, config, store.sessions())
        seconds += foresee_cost(costs).limited(costs.recipes[costs.baseline].measurement)
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
    devices = {v.recipe.engine.device for plan in plans for v in plan.record.variants}
    if torch.cuda.is_available() and devices == {"cpu"} and not named:
        sentence = "A CUDA device is available but not used; to use it, add --device cuda."
        console.print(sentence, style="yellow", markup=False)
