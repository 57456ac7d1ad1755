"""Plans rows of published tables: what each needs, how long it takes, and whether it can run here.

Planning opens only data that are available, and downloads nothing. A file of rows has one study per
data set. An option that applies to none of the studies is refused, as for a single study; an option
that applies to only some of them is applied to those, and a sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from passt_bench.console import Progress
from passt_bench.errors import InputError, located
from passt_bench.names import plain_name
from passt_bench.published_weights import PUBLISHED
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.runner.estimates import ModelSummary, summarize_model
from passt_bench.runner.evaluation import evaluate_checkpoints
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
from passt_bench.spec.override import override, parse_assignments
from passt_bench.spec.recipe import DataSpec, ModelSpec, Recipe
from passt_bench.spec.rows import Available, Corpus, Row, reasons
from passt_bench.spec.study import Study

HOUR = 3600.0
CLASSES = 527  # of AudioSet, where the published speeds were measured

EPOCH_CLIPS = "training.epoch_clips"


@dataclass(frozen=True)
class PlannedRow:
    """A row as it would run here; its tokens and hours are computed on demand.

    Attributes:
        row: the published row.
        recipe: recipe with the changes of the command line; None if nothing is trained.
        runs: number of trainings or evaluations.
        reasons: why it cannot run here, see `spec.rows.REASONS`; empty if it can.
        study: name of the study that trains it here.
    """

    row: Row
    recipe: Recipe | None = None
    runs: int = 0
    reasons: tuple[str, ...] = ()
    study: str | None = None

    @property
    def can_run(self) -> bool:
        """Whether there is something to run, and everything it needs is available."""
        return not self.row.cited and not self.reasons

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens in training, or in evaluation of each stride of an ensemble; empty for CNNs."""
        counts = [f.tokens if self.recipe else f.tokens_full for f in self._facts if f.grid]
        return tuple(dict.fromkeys(counts))

    @property
    def hours(self) -> float | None:
        """Hours of all runs on one Titan RTX at the paper's speed; None if nothing runs."""
        row, pace = self.row, self.row.pace
        if pace is None or not self.runs:
            return None
        if self.recipe is not None:
            work = self.runs * trained_clips(row, self.recipe) * self._facts[0].flops
        else:
            work = row.corpus.evaluation * sum(facts.flops_inference for facts in self._facts)
        each = summarize_model(pace.recipe, CLASSES).flops
        return work / (pace.clips_per_second * each) / HOUR

    @property
    def _facts(self) -> list[ModelSummary]:
        recipes = [self.recipe] if self.recipe else [_member(name) for name in self.row.members]
        with located(f"{self.row.name} on {self.row.corpus.title}"):
            return [summarize_model(recipe, self.row.corpus.classes) for recipe in recipes]


@dataclass(frozen=True)
class RowsPlan:
    """The rows of a file, and the studies of the rows that can be trained here.

    Attributes:
        file: the published rows.
        rows: the rows as they would run here.
        studies: plans of the studies whose rows can run.
        remarks: one sentence for each option that applies to only some of the rows.
    """

    file: RowsFile
    rows: tuple[PlannedRow, ...]
    studies: tuple[StudyPlan, ...]
    remarks: tuple[str, ...] = ()


def plan_rows(file: RowsFile, request: StudyRequest, paths: Paths) -> RowsPlan:
    """Plans the rows of a file: all are listed, and those that can run are expanded.

    Args:
        file: the rows.
        paths: folders of data and records.
        request: the options of the command line; ``folds`` applies to data sets with folds, and
            ``training.epoch_clips`` to protocols that draw clips by weight. With ``variants`` the
            plan has only the rows of these names and their baselines.

    Raises:
        InputError: a change is not valid or applies to no row, a model cannot be built, or data
            are broken.
    """
    check_choice(
        request.variants,
        request.baseline,
        known={row.name for row in file.rows},
        baselines={study.baseline for study in file.studies},
        source=file.name,
    )
    remarks = remark_limits(file, request)
    studies = {study.name: _override(study, request) for study in file.studies}
    names = {study: _chosen_name(study, file, request) for study in studies}
    meant = [_meant(row, studies) for row in file.rows]
    wanted = [r.init.checkpoint for r in meant if r is not None and r.init.checkpoint is not None]
    available = find_available(paths.data, wanted)
    planned = tuple(
        replace(
            _planned(row, recipe, studies, request, available), study=names.get(row.study or "")
        )
        for row, recipe in zip(file.rows, meant, strict=True)
    )
    prepared = {
        name: _expanded(replace(study, name=names[name]), planned, request, paths, file.notebook)
        for name, study in studies.items()
    }
    final = {names[name]: plan.study.name for name, plan in prepared.items() if plan is not None}
    planned = tuple(replace(row, study=final.get(row.study or "", row.study)) for row in planned)
    able = tuple(study for study in prepared.values() if study is not None)
    baselines = {
        # If the baseline of a study cannot run here, another row replaces it.
        name: plan.record.baseline if plan is not None else studies[name].baseline
        for name, plan in prepared.items()
    }
    return RowsPlan(file, _chosen(planned, studies, baselines, request), able, remarks)


def _chosen(
    rows: Sequence[PlannedRow],
    studies: Mapping[str, Study],
    baselines: Mapping[str, str],
    request: StudyRequest,
) -> tuple[PlannedRow, ...]:
    """The rows requested by name, by default all, and their baselines."""
    named = [row for row in rows if not request.variants or row.row.name in request.variants]
    if not request.baseline:
        declared = {(name, study.baseline) for name, study in studies.items()}
        return tuple(row for row in named if (row.row.study, row.row.name) not in declared)
    with_baseline = {(row.row.study, baselines.get(row.row.study or "")) for row in named}
    return tuple(r for r in rows if r in named or (r.row.study, r.row.name) in with_baseline)


def _override(study: Study, request: StudyRequest) -> Study:
    """The study with the requested changes; ``epoch_clips`` only if clips are drawn by weight."""
    study = with_seeds(apply_overrides(study, request), request.seeds)
    if draws_by_weight(study):
        return study
    return replace(study, base=override(study.base, {EPOCH_CLIPS: None}))


def _chosen_name(study: str, file: RowsFile, request: StudyRequest) -> str:
    if request.name is None:
        return study
    return plain_name(request.name, field="--name") + study.removeprefix(file.name)


def _meant(row: Row, studies: Mapping[str, Study]) -> Recipe | None:
    if row.study is None:
        return None
    study = studies[row.study]
    return study.recipe(study.variant(row.name))


def _planned(
    row: Row,
    recipe: Recipe | None,
    studies: Mapping[str, Study],
    request: StudyRequest,
    available: Available,
) -> PlannedRow:
    if recipe is not None and row.study is not None:
        seeds = len(studies[row.study].seeds)
        folds = request.folds or row.corpus.folds if row.corpus.folds > 1 else 1
        given = recipe.init.checkpoint
        why = reasons(row.corpus.name, [given] if given else [], recipe.engine.device, available)
        return PlannedRow(row, recipe, seeds * folds, why)
    if row.members:
        why = reasons(row.corpus.name, row.members, request.device or row.device, available)
        return PlannedRow(row, None, 1, why)
    return PlannedRow(row)


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
    able = {row.row.name: row for row in rows if row.study == study.name and row.can_run}
    requested = able.keys() & {*request.variants} if request.variants else able.keys()
    if not requested - (set() if request.baseline else {study.baseline}):
        return None
    folded = all(row.row.corpus.folds > 1 for row in able.values())
    request = request if folded else replace(request, folds=None)
    return expand(study, request, paths, notebook, only=able)


def evaluate_row(
    planned: PlannedRow, request: StudyRequest, paths: Paths, progress: Progress
) -> tuple[EvaluationRecord, bool]:
    """Evaluates the members of a row together, unless the result is on record.

    Returns:
        The record, and whether it is new.

    Raises:
        InputError: data or weights are broken.
    """
    row = planned.row
    return evaluate_checkpoints(
        row.members,
        f"{row.corpus.name}={paths.data[row.corpus.name]}",
        paths.runs,
        device=request.device or row.device,
        progress=progress,
    )


def remark_limits(file: RowsFile, request: StudyRequest) -> tuple[str, ...]:
    """Describes the requested options that apply to only some of the rows.

    Args:
        file: the rows.
        request: the options of the command line.

    Returns:
        One sentence for each such option.

    Raises:
        InputError: an option applies to no row, or there are fewer folds.
    """
    _check_trained(file, request)
    return (*_remark_folds(file, request), *_remark_epoch_clips(file, request))


def draws_by_weight(study: Study) -> bool:
    """Whether the clips of an epoch are drawn by weight, so that their number can be chosen."""
    return study.base.training.sampling == "weighted"


def _check_trained(file: RowsFile, request: StudyRequest) -> None:
    sets = ", ".join(request.sets) or None
    options = {"--set": sets, "--seeds": request.seeds, "--folds": request.folds}
    options["--no-baseline"] = None if request.baseline else True
    for option, value in options.items():
        if value is not None and not file.studies:
            raise InputError(
                "applies only to training, and none of these rows is trained",
                source=file.name,
                field=option,
                value=value,
                remedy="Leave it out.",
            )


def _remark_folds(file: RowsFile, request: StudyRequest) -> Iterable[str]:
    if request.folds is None:
        return
    corpora = _corpora(file)
    with_folds = [corpus for corpus in corpora if corpus.folds > 1]
    most = max((corpus.folds for corpus in with_folds), default=0)
    if not 1 <= request.folds <= most:
        raise InputError(
            f"there are {most} folds" if most else "the data sets have no folds",
            source=file.name,
            field="--folds",
            value=request.folds,
            remedy=f"Give 1 to {most}, or omit it for all." if most else "Omit it.",
        )
    others = [corpus for corpus in corpora if corpus.folds == 1]
    if others:
        yield (
            f"--folds {request.folds} applies to {_names(with_folds)}; {_names(others)} have no "
            "folds."
        )


def _remark_epoch_clips(file: RowsFile, request: StudyRequest) -> Iterable[str]:
    value = parse_assignments(list(request.sets)).get(EPOCH_CLIPS)
    if value is None:
        return
    drawn = [study for study in file.studies if draws_by_weight(apply_overrides(study, request))]
    if not drawn:
        raise InputError(
            "the clips of these rows are shuffled, so an epoch has every clip once",
            source=file.name,
            field=EPOCH_CLIPS,
            value=value,
            remedy="Omit it, or also set training.sampling=weighted.",
        )
    names = {study.name for study in drawn}
    weighted = _corpora(file, names)
    others = [corpus for corpus in _corpora(file) if corpus not in weighted]
    if others:
        yield (
            f"{EPOCH_CLIPS}={value} applies to {_names(weighted)}; the clips of {_names(others)} "
            "are shuffled, and an epoch has every clip once."
        )


def _corpora(file: RowsFile, studies: Iterable[str] | None = None) -> list[Corpus]:
    """The data sets of the rows of some studies, by default of all."""
    names = {study.name for study in file.studies} if studies is None else set(studies)
    return list(dict.fromkeys(row.corpus for row in file.rows if row.study in names))


def _names(corpora: Iterable[Corpus]) -> str:
    return ", ".join(corpus.name for corpus in corpora)
