"""Plans rows of published tables: what each needs, how long it takes, and whether it can run here.

Planning opens only data that are available, and downloads nothing. The rows of a table are trained
by one study per data set. An option that applies to none of the studies is refused, as for a single
study; an option that applies to only some of them is applied to those, and a sentence says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from passt_bench.errors import InputError, located
from passt_bench.paper import Available, Row, published_pace, why_not
from passt_bench.published_weights import PUBLISHED
from passt_bench.runner.estimates import ModelSummary, summarize_model
from passt_bench.runner.plan import StudyPlan, expand
from passt_bench.runner.request import (
    Paths,
    StudyRequest,
    apply_overrides,
    check_choice,
    with_seeds,
)
from passt_bench.runner.studies import RowsFile, find_available
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.key import plain_name
from passt_bench.spec.recipe import DataSpec, ModelSpec, Recipe
from passt_bench.spec.study import Study, override, parse_assignments

HOUR = 3600.0
CLASSES = 527  # of AudioSet, where the published speeds were measured
EPOCH_CLIPS = "training.epoch_clips"


@dataclass(frozen=True)
class PlannedRow:
    """A row as it would run here; its tokens, hours and memory are computed on demand."""

    row: Row  # with the changes of the command line in its study
    runs: int = 0  # trainings or evaluations
    reasons: tuple[str, ...] = ()  # why it cannot run here, see `paper.REASONS`

    @property
    def can_run(self) -> bool:
        """Whether there is something to run, and everything it needs is available."""
        return not self.row.cited and not self.reasons

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens in training, or in evaluation of each stride of an ensemble; empty for CNNs."""
        counts = [f.tokens if self.row.study else f.tokens_full for f in self._facts if f.grid]
        return tuple(dict.fromkeys(counts))

    @property
    def hours(self) -> float | None:
        """Hours of all runs on one Titan RTX at the paper's speed; None if nothing runs."""
        row, recipe = self.row, self.row.recipe
        if row.cited:
            return None
        pace = published_pace(row.name if recipe else "PaSST-B")
        if recipe is not None:
            work = self.runs * trained_clips(row, recipe) * self._facts[0].flops
        else:
            work = row.corpus.evaluation * sum(facts.flops_inference for facts in self._facts)
        return work / (pace.clips_per_second * summarize_model(pace.recipe, CLASSES).flops) / HOUR

    @property
    def memory_gb(self) -> float | None:
        """Memory of training on one Titan RTX, scaled like the hours; None without training."""
        if (recipe := self.row.recipe) is None:
            return None
        pace = published_pace(self.row.name)
        scale = self._facts[0].flops / summarize_model(pace.recipe, CLASSES).flops
        return pace.gb_per_clip * recipe.training.batch_size * scale

    @property
    def _facts(self) -> list[ModelSummary]:
        recipe = self.row.recipe
        recipes = [recipe] if recipe else [_member(name) for name in self.row.members]
        with located(f"{self.row.name} on {self.row.corpus.title}"):
            return [summarize_model(recipe, self.row.corpus.classes) for recipe in recipes]


@dataclass(frozen=True)
class RowsPlan:
    """The rows of a file as they would run here, and the studies of those that can be trained.

    ``remarks`` has one sentence for each option that applies to only some of the rows.
    """

    file: RowsFile
    rows: tuple[PlannedRow, ...]
    studies: tuple[StudyPlan, ...]
    remarks: tuple[str, ...] = ()


def plan_rows(file: RowsFile, request: StudyRequest, paths: Paths) -> RowsPlan:
    """Plans the rows of a file: all are listed, and those that can run are expanded.

    Args:
        file: the rows.
        request: the options of the command line; ``folds`` applies to data sets with folds, and
            ``training.epoch_clips`` to protocols that draw clips by weight. With ``variants`` the
            plan has only the rows of these names and their baselines.
        paths: folders of data and records.

    Raises:
        InputError: a change is not valid or applies to no row, a model cannot be built, or data
            are broken.
    """
    of_studies = {study.baseline for study in file.studies.values()}
    check_choice(request, {row.name for row in file.rows}, of_studies, file.name)
    remarks = _remarks(file, request)
    studies = {name: _changed(study, file, request) for name, study in file.studies.items()}
    rows = [replace(r, study=studies[r.study.name]) if r.study else r for r in file.rows]
    available = find_available(paths.data, [name for row in rows for name in row.weights])
    planned = [_planned(row, request, available) for row in rows]
    plans, baselines = [], {}
    for study in studies.values():
        plan = _expanded(study, planned, request, paths, file.notebook)
        # If the baseline of a study cannot run here, another row replaces it.
        baselines[study.name] = plan.record.baseline if plan else study.baseline
        plans += [plan] if plan else []
    return RowsPlan(file, _chosen(planned, baselines, request), tuple(plans), remarks)


def _chosen(
    rows: Sequence[PlannedRow], baselines: dict[str, str], request: StudyRequest
) -> tuple[PlannedRow, ...]:
    """The rows requested by name, by default all, and their baselines."""
    named = [row for row in rows if not request.variants or row.row.name in request.variants]
    if not request.with_baseline:
        return tuple(r for r in named if not r.row.study or r.row.name != r.row.study.baseline)
    with_baseline = {
        (row.row.study.name, baselines[row.row.study.name]) for row in named if row.row.study
    }
    return tuple(
        row
        for row in rows
        if row in named or (row.row.study and (row.row.study.name, row.row.name) in with_baseline)
    )


def _changed(study: Study, file: RowsFile, request: StudyRequest) -> Study:
    """The study as requested; ``epoch_clips`` only if clips are drawn by weight."""
    if request.name is not None:
        name = plain_name(request.name, field="--name") + study.name.removeprefix(file.name)
        study = replace(study, name=name)
    study = with_seeds(apply_overrides(study, request), request.seeds)
    if _draws_by_weight(study):
        return study
    return replace(study, base=override(study.base, {EPOCH_CLIPS: None}))


def _draws_by_weight(study: Study) -> bool:
    return study.base.training.sampling == "weighted"


def _planned(row: Row, request: StudyRequest, available: Available) -> PlannedRow:
    if row.cited:
        return PlannedRow(row)
    runs = 1
    if row.study:
        runs = len(row.study.seeds) * min(request.folds or row.corpus.folds, row.corpus.folds)
    return PlannedRow(row, runs, why_not(row, available, None if row.study else request.device))


def trained_clips(row: Row, recipe: Recipe) -> int:
    """Number of clips in one training of a row on the published data set, over all epochs."""
    training = recipe.training
    clips = min(recipe.data.train_clips or row.corpus.training, row.corpus.training)
    if training.sampling == "weighted" and training.epoch_clips is not None:
        clips = training.epoch_clips
    return training.epochs * clips


def _member(name: str) -> Recipe:
    """A recipe with the FLOPs of published weights."""
    entry = PUBLISHED[name]
    stride = (entry.stride, entry.stride) if entry.stride else None
    return Recipe(
        ModelSpec("passt_s", stride=stride, depth=entry.depth, frames=entry.frames),
        frontend=replace(frontend_of("passt_s"), hop=entry.hop),
        data=DataSpec(seconds=entry.clip),
    )


def _expanded(
    study: Study, rows: Sequence[PlannedRow], request: StudyRequest, paths: Paths, notebook: str
) -> StudyPlan | None:
    """The study with the variants whose rows can run; None if no requested one can."""
    able = {row.row.name: row.row for row in rows if row.row.study is study and row.can_run}
    requested = able.keys() & {*request.variants} if request.variants else able.keys()
    if not requested - (set() if request.with_baseline else {study.baseline}):
        return None
    folded = all(row.corpus.folds > 1 for row in able.values())
    request = request if folded else replace(request, folds=None)
    return expand(study, request, paths, notebook, only=able)


def _remarks(file: RowsFile, request: StudyRequest) -> tuple[str, ...]:
    """Refuses options that apply to no row; describes those that apply to only some."""
    corpora = {row.study.name: row.corpus for row in file.rows if row.study}
    training = {
        "--set": ", ".join(request.overrides) or None,
        "--seeds": request.seeds,
        "--folds": request.folds,
        "--no-baseline": None if request.with_baseline else True,
    }
    for option, value in training.items():
        if value is not None and not corpora:
            raise InputError(
                "applies only to training, and none of these rows is trained",
                source=file.name,
                field=option,
                value=value,
                remedy="Leave it out.",
            )
    remarks = []
    if request.folds is not None:
        remarks += _limited(
            "--folds",
            request.folds,
            {corpus.name: 1 <= request.folds <= corpus.folds > 1 for corpus in corpora.values()},
            "no data set of these rows has that many folds",
            file.name,
        )
    clips = parse_assignments(list(request.overrides)).get(EPOCH_CLIPS)
    if clips is not None:
        changed = [apply_overrides(study, request) for study in file.studies.values()]
        remarks += _limited(
            EPOCH_CLIPS,
            clips,
            {corpora[study.name].name: _draws_by_weight(study) for study in changed},
            "the clips of these rows are shuffled, so an epoch has every clip once",
            file.name,
        )
    return tuple(remarks)


def _limited(
    option: str, value: object, applies: dict[str, bool], problem: str, source: str
) -> list[str]:
    """Refuses an option that applies to no data set; a sentence if it applies to only some."""
    chosen = ", ".join(name for name, yes in applies.items() if yes)
    others = ", ".join(name for name, yes in applies.items() if not yes)
    if not chosen:
        raise InputError(problem, source=source, field=option, value=value, remedy="Leave it out.")
    return [f"{option} {value} applies to {chosen}, but not to {others}."] if others else []
