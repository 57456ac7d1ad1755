"""From a study to its cells: keys, resolved grids, tokens and expected minutes. Runs nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.data.shared import SharedDataset
from passt_bench.errors import InputError, located
from passt_bench.names import plain_name
from passt_bench.records.run import CellRecord, Fingerprint, StudyRecord, VariantRecord
from passt_bench.records.store import Store
from passt_bench.registry import METRICS
from passt_bench.runner.estimates import ModelSummary, expected_seconds, summarise_model
from passt_bench.runner.initial_weights import settle_init
from passt_bench.runner.request import (
    Paths,
    StudyRequest,
    changed,
    check_choice,
    choose,
    typed,
    with_seeds,
)
from passt_bench.runner.studies import StudyFile
from passt_bench.runner.study_names import join_record
from passt_bench.spec.key import arm_key, component_versions, decisive, digest, quality_key
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import Study, Variant
from passt_bench.training.batches import epoch_steps
from passt_bench.training.loop import check_training
from passt_bench.training.schedule import check_steps


class Datasets:
    """Opens each data set once."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._open: dict[str, SharedDataset] = {}
        self._checked: set[str] = set()

    def get(self, recipe: Recipe) -> Dataset:
        """The recipe's data set at its front end's sampling rate."""
        return self.shared(recipe).dataset

    def shared(self, recipe: Recipe) -> SharedDataset:
        """The same, for other processes."""
        rate = recipe.frontend.sampling_rate
        name = digest([decisive(recipe.data), rate])
        if name not in self._open:
            root = self._paths.data.get(recipe.data.name)
            self._open[name] = SharedDataset(open_dataset(recipe.data, rate, root))
        return self._open[name]

    def check(self, recipe: Recipe, fold: int | None) -> None:
        """Refuses a training that the recipe's data do not allow; looks at the labels once.

        Raises:
            InputError: see `check_training`.
        """
        key = digest([decisive(recipe.data), recipe.data.storage, decisive(recipe.training), fold])
        if key not in self._checked:
            dataset = self.get(recipe)
            check_training(recipe, dataset.targets, dataset.split(fold)[0])
            self._checked.add(key)


@dataclass(frozen=True)
class PlannedCell:
    """One cell, ready to run: everything a fresh process needs."""

    key: str
    variant: str
    recipe: Recipe
    seed: int
    fold: int | None
    fingerprint: Fingerprint
    components: Mapping[str, int]
    facts: ModelSummary
    data: SharedDataset
    seconds: float  # expected
    attempt: int = 1
    checkpoint: Path | None = None  # initial weights; None from scratch


@dataclass(frozen=True)
class StudyPlan:
    """A study, expanded on the data that were found.

    Attributes:
        study: as it was asked for.
        record: the expansion of the variants that the command is about.
        cells: theirs.
        whole: the expansion that the store keeps: all variants, and the seeds and folds that are on
            record already.
        datasets: the data sets that were opened for it.
        notes: sentences about the study's name and what is on record under it.
    """

    study: Study
    record: StudyRecord
    cells: tuple[PlannedCell, ...]
    whole: StudyRecord
    datasets: Datasets
    notes: tuple[str, ...] = ()

    @property
    def has_baseline(self) -> bool:
        """Whether the command is about the baseline too."""
        return any(variant.name == self.record.baseline for variant in self.record.variants)


def plan_cell(
    variant: str, recipe: Recipe, seed: int, fold: int | None, datasets: Datasets
) -> PlannedCell:
    """A cell with its key, its model's facts and the seconds to expect."""
    dataset = datasets.get(recipe)
    fingerprint = dataset.fingerprint
    recipe, checkpoint = settle_init(recipe, fingerprint.classes)
    components = component_versions(recipe)
    facts = summarise_model(recipe, len(fingerprint.classes))
    train, test = dataset.split(fold)
    per_epoch = epoch_steps(recipe.training, len(train))
    datasets.check(recipe, fold)
    check_steps(recipe.patchout, recipe.training.epochs * per_epoch)
    return PlannedCell(
        key=quality_key(recipe, seed, fold, fingerprint.digest, components),
        variant=variant,
        recipe=recipe,
        seed=seed,
        fold=fold,
        fingerprint=fingerprint,
        components=components,
        facts=facts,
        data=datasets.shared(recipe),
        seconds=expected_seconds(recipe, facts, len(train), len(test)),
        checkpoint=checkpoint,
    )


def plan_request(
    file: StudyFile, request: StudyRequest, paths: Paths, *, named: bool = True
) -> StudyPlan:
    """Overrides and expands a study as it was asked for.

    Args:
        file: the study.
        request: what the command line says.
        paths: where data and records are.
        named: whether the study gets a name under which nothing with other settings is on record.

    Raises:
        InputError: anything about the request, the study or the data that cannot be run.
    """
    study = changed(file.study, request)
    check_choice(
        request.variants,
        request.baseline,
        known=[variant.name for variant in study.variants],
        baselines=[study.baseline],
        source=study.name,
    )
    if request.name is not None:
        study = replace(study, name=plain_name(request.name, field="--name"))
    return expand(study, request, paths, file.notebook, named=named)


def expand(
    study: Study,
    request: StudyRequest,
    paths: Paths,
    notebook: str,
    only: Collection[str] | None = None,
    *,
    named: bool = True,
) -> StudyPlan:
    """Expands a study for the variants that were asked for.

    Args:
        study: what to expand.
        request: seeds, folds and variants.
        paths: where the data are.
        notebook: docstring of the study file.
        only: names of the variants that can be planned here; None is all.
        named: see `plan_request`.

    Raises:
        InputError: anything about the study or the data that cannot be run.
    """
    plan = plan_study(
        study,
        paths,
        seeds=request.seeds,
        folds=request.folds,
        notebook=notebook,
        command=typed(),
        only=only,
    )
    if named:

        def again(study: Study) -> StudyRecord:
            whole = plan_study(study, paths, datasets=plan.datasets, only=only).record
            return replace(whole, notebook=notebook, command=plan.record.command)

        plan = join_record(plan, Store(paths.runs), again)
    return choose_variants(plan, request.variants, request.baseline)


def choose_variants(plan: StudyPlan, names: Collection[str], baseline: bool) -> StudyPlan:
    """The plan for some variants alone; `StudyPlan.whole` stays.

    Args:
        plan: of the whole study.
        names: of the variants, see `check_choice`; none is all.
        baseline: whether the baseline comes along.
    """
    record = choose(plan.record, names, baseline)
    if record == plan.record:
        return plan
    # Variants may share a cell; it then goes by the first of those that are left.
    owners = {cell.key: v.name for v in reversed(record.variants) for cell in v.cells}
    cells = [replace(cell, variant=owners[cell.key]) for cell in plan.cells if cell.key in owners]
    return replace(plan, record=record, cells=tuple(cells))


def plan_study(
    study: Study,
    paths: Paths,
    *,
    seeds: int | None = None,
    folds: int | None = None,
    notebook: str = "",
    command: str = "",
    datasets: Datasets | None = None,
    only: Collection[str] | None = None,
) -> StudyPlan:
    """Expands a study.

    Args:
        study: what to expand.
        paths: where the data are.
        seeds: use that many seeds (more than the study has: counted on from its last).
        folds: use only the first that many folds.
        notebook: docstring of the study file.
        command: what was typed.
        datasets: opened data sets, to share between plans.
        only: names of the variants that can be planned here, the first of which is the baseline
            where the study's own is not among them; None is all.

    Raises:
        InputError: anything about the study or the data that cannot be run.
    """
    datasets = datasets or Datasets(paths)
    study = with_seeds(study, seeds)
    planned = [variant for variant in study.variants if only is None or variant.name in only]
    dataset = _shared_data(study, planned, datasets)
    chosen = _folds(study, dataset, folds)
    cells: list[PlannedCell] = []
    variants: list[VariantRecord] = []
    for variant in planned:
        with located(f"{study.name}: {variant.name}"):
            recipe = study.recipe(variant)
            mine = [
                plan_cell(variant.name, recipe, seed, fold, datasets)
                for seed in study.seeds
                for fold in (chosen or (None,))
            ]
        cells += mine
        variants.append(_variant_record(variant, mine))
    names = [variant.name for variant in planned]
    record = StudyRecord(
        name=study.name,
        question=study.question,
        metric=study.metric,
        baseline=study.baseline if study.baseline in names else names[0],
        variants=tuple(variants),
        seeds=study.seeds,
        folds=chosen,
        fingerprint=dataset.fingerprint,
        margin=study.margin,
        better=METRICS.get(study.metric).build.better,
        notebook=notebook,
        command=command,
    )
    return StudyPlan(study, record, tuple(_by_block(cells)), whole=record, datasets=datasets)


def _shared_data(study: Study, variants: Collection[Variant], datasets: Datasets) -> Dataset:
    """The one data set of all variants; every recipe is checked before anything is planned."""
    found: Dataset | None = None
    for variant in variants:
        with located(f"{study.name}: {variant.name}"):
            recipe = study.recipe(variant)
            _check(study, variant.name, recipe)
            dataset = datasets.get(recipe)
        found = found or dataset
        if dataset.fingerprint.digest != found.fingerprint.digest:
            raise InputError(
                "the variants of a study share one data set",
                source=study.name,
                field=f"{variant.name}: data",
                value=recipe.data.name,
                remedy="Make one study a data set.",
            )
    assert found is not None  # a study has variants
    return found


def _variant_record(variant: Variant, cells: list[PlannedCell]) -> VariantRecord:
    facts, recipe = cells[0].facts, cells[0].recipe
    return VariantRecord(
        name=variant.name,
        recipe=recipe,
        arm=arm_key(recipe, cells[0].components),
        cells=tuple(CellRecord(cell.key, cell.seed, cell.fold) for cell in cells),
        tokens=facts.tokens,
        tokens_full=facts.tokens_full,
        grid=facts.grid,
        patchout=facts.patchout,
        reference=variant.reference,
    )


def _check(study: Study, variant: str, recipe: Recipe) -> None:
    where = f"{study.name}: {variant}"
    if study.metric not in recipe.metrics:
        raise InputError(
            "the study's metric is not evaluated",
            source=where,
            field="metrics",
            value=recipe.metrics,
            remedy=f"Add {study.metric!r}.",
        )
    if recipe.training.checkpoint_selection == "validation":
        raise InputError(
            "a study reports on the test fold",
            source=where,
            field="training.checkpoint_selection",
            value=recipe.training.checkpoint_selection,
            remedy="Use 'last' or 'best_on_validation'; searches use 'validation'.",
        )


def _folds(study: Study, dataset: Dataset, folds: int | None) -> tuple[int, ...] | None:
    if not dataset.folds:
        if study.folds or folds is not None:
            raise InputError(
                "the data set has one split and no folds",
                source=study.name,
                field="folds" if folds is None else "--folds",
                value=study.folds if folds is None else folds,
                remedy="Leave it out.",
            )
        return None
    chosen = study.folds or dataset.folds
    unknown = [fold for fold in chosen if fold not in dataset.folds]
    if unknown:
        raise InputError(
            "the data set has no such fold",
            source=study.name,
            field="folds",
            value=unknown,
            remedy=f"It has {dataset.folds}.",
        )
    if folds is not None and not 1 <= folds <= len(chosen):
        raise InputError(
            f"there are {len(chosen)} folds",
            source=study.name,
            field="--folds",
            value=folds,
            remedy=f"Give 1 to {len(chosen)}, or leave it out for all.",
        )
    return chosen[:folds]


def _by_block(cells: list[PlannedCell]) -> list[PlannedCell]:
    """Whole blocks first, so that a run stopped early has complete ones; equal cells run once."""
    unique = {cell.key: cell for cell in reversed(cells)}
    kept = [cell for cell in cells if unique.get(cell.key) is cell]
    return sorted(kept, key=lambda cell: (cell.seed, cell.fold or 0))


def missing_cells(plan: StudyPlan, store: Store, retry: tuple[str, ...] = ()) -> list[PlannedCell]:
    """The cells without a final record, and those whose status is to be tried again."""
    todo = []
    for cell in plan.cells:
        outcome = store.outcome(cell.key)
        if outcome is None:
            todo.append(cell)
        elif outcome.status in retry:
            todo.append(replace(cell, attempt=outcome.attempt + 1))
    return todo
