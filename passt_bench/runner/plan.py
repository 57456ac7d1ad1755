"""Expands a study into cells with keys, grids, tokens and expected FLOPs; runs nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from passt_bench.data.dataset import Dataset
from passt_bench.errors import InputError, located
from passt_bench.paper import Corpus, corpora
from passt_bench.records.run import CellRecord, Fingerprint, StudyRecord, TriedRecord, VariantRecord
from passt_bench.records.store import Store
from passt_bench.registry import METRICS, PATCHOUTS
from passt_bench.runner.budget import (
    check_budgets,
    known_ratios,
    plan_tuning,
    spent,
    too_short,
    with_budget,
    with_choices,
)
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.estimates import run_flops, summarize_model
from passt_bench.runner.planned_cell import PlannedCell, plan_cell
from passt_bench.runner.prediction import Predictor
from passt_bench.runner.request import (
    Paths,
    StudyRequest,
    apply_overrides,
    check_choice,
    choose,
    typed_command,
    with_seeds,
)
from passt_bench.runner.studies import StudyFile, join_record, without_weights
from passt_bench.spec.key import arm_key, component_versions, plain_name
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import Study, Variant
from passt_bench.training.engine import check_engine
from passt_bench.training.loop import check_settings
from passt_bench.vocabulary import built_in


@dataclass(frozen=True)
class StudyPlan:
    """A study, expanded on its data."""

    study: Study  # with the changes of the request
    record: StudyRecord  # expansion of the requested variants
    cells: tuple[PlannedCell, ...]  # of the requested variants
    stored_record: StudyRecord  # for the store: with the variants, seeds and folds on record
    datasets: Datasets
    tuning: tuple[PlannedCell, ...] = ()  # what is tried before, see `spec.study.Tune`
    notes: tuple[str, ...] = ()  # sentences about its name and what is on record under it
    absent: Corpus | None = None  # a data set that is not here, so that no cells could be planned

    @property
    def has_baseline(self) -> bool:
        """Whether the requested variants include the baseline."""
        return any(variant.name == self.record.baseline for variant in self.record.variants)

    def expected(self, variant: VariantRecord, predictor: Predictor) -> tuple[int, float]:
        """The number of runs of a variant, and the expected seconds of one."""
        if (corpus := self.absent) is None:
            keys = {cell.key for cell in variant.cells}
            each = next((c.seconds(predictor) for c in self.cells if c.key in keys), 0.0)
            return len(keys), each
        recipe, classes = variant.recipe, len(self.record.fingerprint.classes)
        summary = summarize_model(recipe, classes)
        flops = run_flops(recipe, summary, corpus.training, corpus.evaluation)
        runs = len(self.record.seeds) * len(self.record.folds or (1,))
        return runs, flops * predictor.seconds_per_flop(recipe, classes)


def plan_request(
    file: StudyFile,
    request: StudyRequest,
    paths: Paths,
    *,
    avoid_taken_name: bool = True,
    listed: bool = False,
    ratios: Mapping[str, float] | None = None,
    datasets: Datasets | None = None,
) -> StudyPlan:
    """Overrides and expands a study as requested.

    ``avoid_taken_name``: whether to rename it (quick-2) if its name has other settings on record.
    ``ratios``: measured before the training, see `with_budget`.
    ``datasets``: those that are open already.
    ``listed``: whether it is only shown, so that published data and weights need not be here;
    otherwise variants whose published weights are not here are left out, unless requested.

    Raises:
        InputError: the request, the study or the data are not valid, or requested weights are not
            here.
    """
    study = apply_overrides(file.study, request)
    check_choice(request, [v.name for v in study.variants], [study.baseline], study.name)
    if study.base.patchout.kind != file.study.base.patchout.kind:
        with located("--set"):
            PATCHOUTS.get(study.base.patchout.kind)
    if request.name is not None:
        study = replace(study, name=plain_name(request.name, field="--name"))
    lacking = without_weights(study)
    notes = []
    for weights in dict.fromkeys(lacking.values()):
        names = ", ".join(name for name, w in lacking.items() if w == weights)
        get = f"passt-bench weights get {weights}"
        notes.append(f"The weights that {names} start from are not here: {get}.")
    wanted = {*request.variants} or {v.name for v in study.variants} - {study.baseline}
    wanted |= {study.baseline} if request.with_baseline else set()
    datasets = datasets or Datasets(paths)
    corpus = corpora().get(study.base.data.name)
    if listed and corpus and study.seeds and (lacking or corpus.name not in paths.data):
        given = (request.seeds, request.folds, file.notebook)
        plan = plan_study(study, datasets, *given, absent=corpus, wanted=wanted)
        plan = replace(plan, notes=tuple(notes), absent=corpus)
        return choose_variants(plan, request.variants, request.with_baseline)
    able = [variant.name for variant in study.variants if variant.name not in lacking]
    asked = request.variants or able or lacking
    for name in (name for name in lacking if name in asked):
        problem = f"these weights, from which {name!r} starts, are not on this machine"
        get = f"passt-bench weights get {lacking[name]}"
        raise study.error(problem, "init.checkpoint", lacking[name], get)

    def expanded(study: Study, seeds: int | None = None, folds: int | None = None) -> StudyPlan:
        given = (study, datasets, seeds, folds, file.notebook)
        only = able if lacking else None
        return plan_study(*given, only=only, ratios=ratios, wanted=wanted)

    store, plan = Store(paths.runs), expanded(study, request.seeds, request.folds)
    if study.shared == "seconds" and not ratios and (ratios := known_ratios(plan.record, store)):
        plan = expanded(study, request.seeds, request.folds)
    if avoid_taken_name:
        plan = join_record(plan, store, lambda study: expanded(study).record, wanted)
    plan = choose_variants(plan, request.variants, request.with_baseline)
    if study.shared == "seconds" and not plan.record.step_ratios:
        notes.append("Seconds of a step are not measured yet; FLOPs are shared instead until then.")
    return replace(plan, notes=(*plan.notes, *notes))


def choose_variants(plan: StudyPlan, names: Collection[str], baseline: bool) -> StudyPlan:
    """The plan of some variants, by default of all; `StudyPlan.stored_record` stays the same."""
    record = choose(plan.record, names, baseline)
    if record == plan.record:
        return plan
    # Variants may share a cell; it then belongs to the first of the chosen ones.
    owners = {cell.key: v.name for v in reversed(record.variants) for cell in v.cells}
    cells = [replace(cell, variant=owners[cell.key]) for cell in plan.cells if cell.key in owners]
    return replace(plan, record=record, cells=tuple(cells))


def plan_study(
    study: Study,
    datasets: Datasets,
    seeds: int | None = None,
    folds: int | None = None,
    notebook: str = "",
    *,
    only: Collection[str] | None = None,
    absent: Corpus | None = None,
    ratios: Mapping[str, float] | None = None,
    wanted: Collection[str] | None = None,
) -> StudyPlan:
    """Expands a study.

    Seeds and folds are numbers: see `with_seeds`; the first folds are used. ``only`` names the
    variants that can be planned here, None all of them; without the study's baseline, the first of
    them is the baseline. On a data set that is ``absent`` no cells are planned. ``ratios`` are
    those of `with_budget`. Of variants that are not ``wanted`` (None: all are) those whose budget
    is too short are left out.

    Raises:
        InputError: the study or the data are not valid.
    """
    looks, study = study.looks, with_seeds(study, seeds)
    planned = [variant for variant in study.variants if only is None or variant.name in only]
    if study.seeds and not absent:
        dataset = _shared_data(study, planned, datasets)
        fingerprint, chosen = dataset.fingerprint, _folds(study, dataset.folds, folds)
    else:
        fingerprint = _classes_of(study.base, datasets)
        known = range(1, absent.folds + 1) if absent and absent.folds > 1 else ()
        chosen = _folds(study, known, folds) if study.seeds else None
    cells: list[PlannedCell] = []
    variants: list[VariantRecord] = []
    tried: list[TriedRecord] = []
    tuning: list[PlannedCell] = []
    clips, classes = absent.training if absent else 0, len(fingerprint.classes)
    short: dict[str, tuple[int, int]] = {}
    if study.seeds and not absent:
        fold = chosen[0] if chosen else None
        clips = len(dataset.split(fold)[0])
    if clips:
        given = clips, classes, ratios
        needed = None if wanted is None else {study.baseline, *wanted}
        rest = [v for v in planned if needed is not None and v.name not in needed]
        check_budgets(study, [v for v in planned if v not in rest], *given)
        short = too_short(study, rest, *given)
        planned = [v for v in planned if v.name not in short]
    if study.seeds and not absent:
        tried, tuning = plan_tuning(study, planned, datasets, fold, clips, classes, ratios)
    tuned = with_choices(study, tried)
    for variant in (tuned.variant(variant.name) for variant in planned):
        with located(study.place(variant.name)):
            recipe = tuned.recipe(variant)
            if clips:
                recipe = with_budget(tuned, variant, clips, classes, ratios)
            trained = () if absent else study.seeds
            first = [
                plan_cell(variant.name, recipe, trained[0], fold, datasets)
                for fold in (chosen or (None,) if trained else ())
            ]
            own = [cell.with_seed(seed) for seed in trained for cell in first]
            if absent:
                check_settings(recipe, absent.training)
            own[:1] = [replace(cell, pictured=True) for cell in own[:1]]
            recipe = own[0].recipe if own else recipe  # with the digest of its initial weights
            check_engine(recipe.engine)
            record = variant_record(variant.name, recipe, classes)
            cost = spent(recipe, clips, classes) if clips else {}
        keys = tuple(CellRecord(cell.key, cell.seed, cell.fold) for cell in own)
        variants.append(replace(record, cells=keys, reference=variant.reference, spent=cost))
        cells += own
    names = [variant.name for variant in planned]
    planned_study = StudyRecord(
        name=study.name,
        question=study.question,
        metric=study.metric,
        baseline=study.baseline if study.baseline in names else names[0],
        variants=tuple(variants),
        seeds=study.seeds,
        folds=chosen,
        fingerprint=fingerprint,
        margin=study.margin,
        looks=looks or ((len(study.seeds),) if study.seeds else ()),
        shared=study.shared,
        step_ratios=dict(ratios or {}),
        contrasts=dict(study.contrasts),
        contrast_order=tuple((f, name) for f, own in study.contrasts.items() for name in own),
        tried=tuple(tried),
        left_out={n: f"{own} steps, of at least {least}" for n, (own, least) in short.items()},
        better=METRICS.get(study.metric).build.better,
        notebook=notebook,
        command=typed_command(),
    )
    unique: dict[str, PlannedCell] = {}
    for cell in cells:  # variants may share one
        unique.setdefault(cell.key, cell)
    # By seed and fold, so that blocks are completed early.
    ordered = sorted(unique.values(), key=lambda cell: (cell.seed, cell.fold or 0))
    return StudyPlan(study, planned_study, tuple(ordered), planned_study, datasets, tuple(tuning))


def variant_record(name: str, recipe: Recipe, classes: int) -> VariantRecord:
    """A variant's record without cells, for models of so many classes."""
    summary = summarize_model(recipe, classes)
    return VariantRecord(
        name=name,
        recipe=recipe,
        arm=arm_key(recipe, component_versions(recipe)),
        cells=(),
        tokens=summary.tokens,
        tokens_full=summary.tokens_full,
        grid=summary.grid,
        patchout=summary.patchout,
    )


def _shared_data(study: Study, variants: Collection[Variant], datasets: Datasets) -> Dataset:
    """The one data set of all variants; every recipe is checked before anything is planned."""
    first: Dataset | None = None
    for variant in variants:
        with located(study.place(variant.name)):
            recipe = study.recipe(variant)
            _check(study.metric, recipe)
            dataset = datasets.get(recipe)
            first = first or dataset
            if dataset.fingerprint.digest != first.fingerprint.digest:
                problem, name = "the variants of a study must share one data set", recipe.data.name
                remedy = "Make a separate study for each data set."
                raise InputError(problem, field="data", value=name, remedy=remedy)
    assert first is not None  # a study has variants
    return first


def _classes_of(recipe: Recipe, datasets: Datasets) -> Fingerprint:
    """A data set of which costs need only the classes; opened only if those are not built in."""
    name, classes = recipe.data.name, built_in(recipe.data.name)
    if not classes:
        return datasets.get(recipe).fingerprint
    several = recipe.training.loss != "ce"
    return Fingerprint(name, "", expected=None, found=0, classes=classes, multi_label=several)


def _check(metric: str, recipe: Recipe) -> None:
    if metric not in recipe.metrics:
        problem = "the study's metric is not among the metrics of the recipe"
        remedy = f"Add {metric!r}, or set others with --set metrics=NAME."
        raise InputError(problem, field="metrics", value=recipe.metrics, remedy=remedy)
    field, selection = "training.checkpoint_selection", recipe.training.checkpoint_selection
    if selection == "validation":
        problem = "a study must report on the test split"
        remedy = "Use 'last' or 'best_on_validation'; searches use 'validation'."
        raise InputError(problem, field=field, value=selection, remedy=remedy)


def _folds(study: Study, known: Sequence[int], folds: int | None) -> tuple[int, ...] | None:
    if not known:
        if study.folds or folds is not None:
            field, value = ("folds", study.folds) if folds is None else ("--folds", folds)
            raise study.error("the data set has no folds", field, value, "Omit the folds.")
        return None
    chosen = study.folds or tuple(known)
    unknown = [fold for fold in chosen if fold not in known]
    if unknown:
        remedy = f"Known: {', '.join(map(str, known))}."
        raise study.error("the data set has no such fold", "folds", unknown, remedy)
    if folds is not None and not 1 <= folds <= len(chosen):
        remedy = f"Give 1 to {len(chosen)}, or omit the option for all."
        raise study.error(f"the study has {len(chosen)} folds", "--folds", folds, remedy)
    return chosen[:folds]


def missing_cells(
    cells: Iterable[PlannedCell], store: Store, retry: tuple[str, ...] = (), *, models: bool = False
) -> list[PlannedCell]:
    """The cells without a final record, and those whose status is to be retried.

    With ``models`` also those on record whose trained model was not kept.
    """
    todo = []
    for cell in cells:
        outcome = store.outcome(cell.key)
        if outcome is None:
            todo.append(cell)
        elif outcome.status in retry:
            todo.append(replace(cell, attempt=outcome.attempt + 1))
        elif models and outcome.status == "ok" and not store.has_model(cell.key):
            todo.append(replace(cell, attempt=outcome.attempt + 1, again=True))
    return todo


def describe_data(data: Fingerprint, absent: Corpus | None = None) -> str:
    """A sentence with the number of clips found, and notes about the data; or what is needed."""
    if absent is not None:
        of = f" in each of {absent.folds} folds" if absent.folds > 1 else ""
        return (
            f"Data: {absent.title}, {absent.training:,} clips for training and "
            f"{absent.evaluation:,} for evaluation{of}, about {absent.disk_gb:g} GB on disk: give "
            f"--data {absent.name}=DIR."
        )
    of = f" of {data.expected}" if data.expected is not None else ""
    return f"Data: {data.title}, {'; '.join([f'{data.found}{of} clips', *data.notes])}."
