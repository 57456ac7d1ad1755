"""Evaluates a model, or two on the same clips: logits, metrics with intervals, and a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from filelock import Timeout

from passt_bench.analysis.noise import is_share
from passt_bench.console import Progress
from passt_bench.data import Dataset, layouts, open_dataset
from passt_bench.data.audio import RESAMPLER
from passt_bench.errors import InputError, failure_status, located
from passt_bench.measure.machine import describe_machine, git_commit, library_versions
from passt_bench.models.ensemble import Ensemble, build_ensemble
from passt_bench.models.ensemble import Member as Model
from passt_bench.published_weights import ENSEMBLES, locate
from passt_bench.records import evaluation as records
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.registry import DATASETS, METRICS, MODELS, PATCHOUTS
from passt_bench.runner import evaluation_inputs as inputs
from passt_bench.runner.cells import Clock
from passt_bench.runner.initial_weights import sha256_of
from passt_bench.runner.kept_models import name_of, run_of
from passt_bench.runner.request import data_folders, typed_command
from passt_bench.runner.run_status import lock
from passt_bench.spec.codec import validate
from passt_bench.spec.key import digest, key_fields
from passt_bench.spec.recipe import EngineSpec, Patchout
from passt_bench.spec.study import DEFAULT_MARGIN
from passt_bench.training import clip_bootstrap as bootstrap
from passt_bench.training.engine import Engine
from passt_bench.training.evaluate import score_clips
from passt_bench.training.metrics import score, scored_note

# Logits of the first clips, in the folder of the record, of the model and of the other one.
PARTIAL, PARTIAL_AGAINST = "checkpoint.npy", "checkpoint-against.npy"
_OF_BOTH = ("name", "members", "seconds", "sampling_rate", "patchout")


@dataclass(frozen=True)
class _Job:
    """A request whose parts fit together."""

    ensemble: Ensemble
    dataset: Dataset
    clips: np.ndarray  # indices
    ids: Sequence[str]  # of these clips
    columns: np.ndarray  # of the logits, in the order of the data's classes
    record: EvaluationRecord  # without the measured fields
    other: _Job | None = None  # of the model that it is compared with


def evaluate_checkpoints(
    checkpoints: Sequence[str],
    data: str,
    runs: Path,
    *,
    against: str | None = None,
    margin: float | None = None,
    metrics: Sequence[str] = (),
    split: str = "test",
    fold: int | None = None,
    device: str = "cpu",
    batch: int = 8,
    classes: Sequence[str] | None = None,
    patchout: Patchout | None = None,
    against_patchout: Patchout | None = None,
    progress: Progress = lambda share, text: None,
) -> tuple[EvaluationRecord, bool]:
    """Evaluates one model file, or the mean of several models' logits, and writes the record.

    With ``against`` another model is scored on the same clips, and the record has the differences.
    An evaluation on record is not repeated; an interrupted one is resumed.

    Args:
        checkpoints: model files, published names, or one published set.
        data: ``NAME=DIR``, or only the name of a data set that needs no folder or is in
            ``PASST_BENCH_DATA``.
        runs: folder of the records.
        against: another model file, published name, or published set.
        margin: of the verdicts on differences; None is `DEFAULT_MARGIN`.
        metrics: registered names; empty is those of the data set.
        split: test, valid or train.
        fold: held-out fold, for a data set with folds; None is that of a kept model's run.
        device: cpu or cuda.
        batch: clips per batch; affects only speed and memory.
        classes: names of the logits, for files without class names; for the other model only if
            its own names are not those of the data.
        patchout: patches to drop, see `Ensemble.drop`; positions are those among the scored clips.
        against_patchout: of the other model, if not the same; alone, compares the model to itself.
        progress: called with the fraction of the clips that is done.

    Returns:
        The record, and whether it is new.

    Raises:
        InputError: model files, data, metrics, classes or patchout are missing, broken, or do not
            fit together; the data have other clips for the other model; logits are not finite;
            another process runs the same evaluation; or memory is too small for the batch.
    """
    asked = classes, data, metrics, split, fold, device
    patchout = patchout or Patchout()
    job = _prepare(checkpoints, *asked, patchout)
    if against is not None or against_patchout is not None:
        others = checkpoints if against is None else [against]
        other = _prepare(others, *asked, against_patchout or patchout, first=job)
        job = _compared(job, other, DEFAULT_MARGIN if margin is None else margin)
    store, key = Store(runs), job.record.key
    key_lock = lock(runs, f"{key}.lock")
    try:
        with key_lock:
            known = store.evaluation(key)
            if known is not None:
                # A copy of the file has the same record, but not what is known of its training.
                notes = tuple(dict.fromkeys((*job.record.notes, *known.notes)))
                asked_for = {name: known.metrics[name] for name in job.record.metrics}
                return replace(known, metrics=asked_for, notes=notes), False
            record = _measure(job, batch, store.folder(key), progress)
            store.write(record)
            return record, True
    except (RuntimeError, MemoryError) as error:
        if failure_status(error) != "oom":
            raise
        remedy = "Give a smaller batch; the results so far are kept."
        raise InputError("memory ran out", field="--batch", value=batch, remedy=remedy) from None
    except Timeout:
        problem, source = "another process is running this evaluation", key_lock.lock_file
        remedy = "Wait until it ends; the same command then shows its result."
        raise InputError(problem, source=source, remedy=remedy) from None


def _prepare(
    checkpoints: Sequence[str],
    classes: Sequence[str] | None,
    data: str,
    asked: Sequence[str],
    split: str,
    fold: int | None,
    device: str,
    patchout: Patchout,
    first: _Job | None = None,
) -> _Job:
    """Opens models and data; of a model that ``first`` is compared with, the same clips."""
    name, folders = data.partition("=")[0], data_folders([data], alone=True)
    if len(checkpoints) == 1:
        checkpoints = ENSEMBLES.get(checkpoints[0], checkpoints)
    paths = [locate(checkpoint) for checkpoint in checkpoints]
    ensemble = build_ensemble(paths)
    with located(" and ".join(map(str, paths))):
        ensemble.drop(patchout)
    runs, models = [run_of(path) for path in paths], cast(list[Model], list(ensemble.members))
    members = tuple(
        records.Member(
            _file_name(path, run), sha256_of(path), model.recipe, run.key if run else None
        )
        for path, run, model in zip(paths, runs, models, strict=True)
    )
    files = [member.name for member in members]
    title = inputs.published_set(files) or ", ".join(files)
    version = DATASETS.get(name).version
    choosing = first.record.members if first else members  # the clips, by their recipes
    spec, notes = inputs.data_spec([member.recipe.data for member in choosing], name, ensemble.clip)
    dataset = open_dataset(spec, ensemble.sampling_rate, folders.get(name))
    theirs = dataset.fingerprint.classes
    if classes is not None and (first is None or set(ensemble.classes) != set(theirs)):
        ensemble.rename(classes)
    if fold is None:
        fold = first.record.fold if first else inputs.fold_of(runs, dataset)
    clips = inputs.clips_of(dataset, split, fold)
    with located(title):
        columns, unnamed = inputs.match_classes(ensemble.classes, theirs)
        ids = [dataset.ids[int(clip)] for clip in clips]
        if first is not None and ids != first.ids:
            problem = "the data have other clips at the sampling rate of this model"
            numbers = f"{len(ids)} clips, {len(first.ids)} of the first model"
            remedy = "Prepare the data at the rates of both models, or give the unprepared folder."
            raise InputError(problem, field="--against", value=numbers, remedy=remedy)
    notes += [*unnamed, *ensemble.notes, *inputs.seen_before(files, runs, dataset, fold)]
    metrics = inputs.metrics_of(asked, dataset, clips)
    kinds = [member.recipe.model.name for member in members]
    components = {"data": version} | {f"model {kind}": MODELS.get(kind).version for kind in kinds}
    components |= {f"metric {metric}": METRICS.get(metric).version for metric in metrics}
    tokens, dropped = tuple(ensemble.tokens(spec.seconds)), None
    if any(kept < every for kept, every in tokens):
        dropped = records.DroppedPatches(ensemble.patchout, tokens)
        components["patchout"] = PATCHOUTS.get(patchout.kind).version
    published: tuple[records.PublishedResult, ...] = ()
    if split == "test" and dropped is None:
        published = inputs.published_results(files, name, fold)
    layout = layouts().get(name)
    expected = (layout and layout.published_test_clips) or len(clips)
    if published and expected != len(clips):
        notes.append(f"published on {expected} clips, {len(clips)} here")
    record = EvaluationRecord(
        key="",
        name=title,
        members=members,
        fingerprint=dataset.fingerprint,
        split=cast(records.Split, split),
        fold=fold,
        clips=len(clips),
        seconds=spec.seconds,
        sampling_rate=ensemble.sampling_rate,
        device=device,
        metrics=dict.fromkeys(metrics, 0.0),
        resamples=bootstrap.RESAMPLES,
        published=published,
        components=components,
        command=typed_command(),
        notes=tuple(notes),
        patchout=dropped,
    )
    record = replace(record, key=_key(record, columns))
    return _Job(ensemble, dataset, clips, ids, columns, record)


def _compared(job: _Job, other: _Job, margin: float) -> _Job:
    """The job with a record of its own for the comparison; the key has all that decides it."""
    own, theirs = job.record, other.record
    # Earlier versions had another interval for shares of right clips.
    how = ["discordant"] if any(map(is_share, own.metrics)) else []
    record = replace(
        own,
        key=digest([own.key, theirs.key, margin, *how]),
        components=own.components | theirs.components,
        notes=(*own.notes, *(f"{theirs.name}: {n}" for n in theirs.notes if n not in own.notes)),
        against=records.Against(
            **{name: getattr(theirs, name) for name in _OF_BOTH}, margin=margin
        ),
    )
    return replace(job, record=record, other=other)


def _file_name(path: Path, run: RunRecord | None) -> str:
    """The file's name; of a kept model, whose files share one, that in a study, or else its key."""
    if run is None:
        return path.name
    return name_of(run.key, Store(path.resolve().parent.parent.parent)) or run.key


def _key(record: EvaluationRecord, columns: np.ndarray) -> str:
    """The hash of all that decides the metrics."""
    members = [
        [m.sha256, key_fields(m.recipe.model), key_fields(m.recipe.frontend)]
        for m in record.members
    ]
    # Not in the key without patchout, as in records made before there was any.
    dropped = {"patchout": key_fields(record.patchout.setting)} if record.patchout else {}
    return digest(
        {
            **dropped,
            "members": sorted(members, key=str),
            "columns": columns.tolist(),
            "fingerprint": record.fingerprint.digest,
            "clips": [record.split, record.fold, record.clips],
            "waveform": [record.seconds, record.sampling_rate, RESAMPLER],
            "device": record.device,
            "resamples": record.resamples,
            "versions": record.components,
        }
    )


def _decisions(job: _Job, logits: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """The record's fields about decisions, from the ensemble's logits (N, its classes).

    If the data have one class per clip, it is the one of the highest logit, whatever the loss was.
    """
    ensemble, data = job.ensemble, job.dataset.fingerprint
    names, columns = data.classes, job.columns
    most = logits[:, columns].argmax(axis=1)
    chosen, cuts = np.arange(len(names)) == most[:, None], [None] * len(names)
    if data.multi_label:
        values = ensemble.probabilities(torch.from_numpy(logits)).numpy()
        chosen = ensemble.decide(values)[:, columns]
    if data.multi_label and ensemble.multi_label:
        cuts = np.array(ensemble.thresholds or (0.5,) * len(names))[columns].tolist()
    there, chosen = targets > 0.5, chosen & ~np.isnan(targets)
    sums = (each.sum(axis=0).tolist() for each in (there, chosen, there & chosen))
    decided = {
        name: records.Decided(
            *(clips, found, right),
            precision=right / found if found else None,
            recall=right / clips if clips else None,
            f1=2 * right / (clips + found) if clips + found else None,
            threshold=cut,
        )
        for name, clips, found, right, cut in zip(names, *sums, cuts, strict=True)
    }
    confusion: dict[str, Counter[str]] = {}
    for label, found in zip(targets.argmax(axis=1), most, strict=True):
        confusion.setdefault(names[label], Counter())[names[found]] += 1
    return {"decisions": decided, "confusion": None if data.multi_label else confusion}


def _measure(job: _Job, batch: int, folder: Path, progress: Progress) -> EvaluationRecord:
    clock, jobs = Clock(), [job, *([job.other] if job.other else [])]
    places = [folder / name for name in (PARTIAL, PARTIAL_AGAINST)[: len(jobs)]]
    engine = Engine(validate(EngineSpec, {"device": job.record.device}))
    heard = {(each.record.seconds, each.record.sampling_rate) for each in jobs}
    groups = [jobs] if len(heard) == 1 else [[each] for each in jobs]  # of equal waveforms
    found: list[tuple[np.ndarray, float]] = []
    for n, group in enumerate(groups):
        models, saved_at = [each.ensemble for each in group], places[n : n + len(group)]
        given = models, group[0].dataset, group[0].clips, engine, batch, saved_at
        found += score_clips(*given, progress, n / len(groups), 1 / len(groups))
    clock.seconds |= dict(zip(("clip", "clip_against"), (s for _, s in found), strict=False))
    logits = [each[:, of.columns] for (each, _), of in zip(found, jobs, strict=True)]
    scores, *others = logits
    clock.lap("score")
    progress(1.0, "resampling the clips")
    targets = job.dataset.targets[job.clips]
    names = job.dataset.fingerprint.classes
    metrics, per_class, notes = {}, {}, list(job.record.notes)
    for name in job.record.metrics:
        metrics[name], values = score(name, targets, scores)
        per_class[name] = {names[c]: value for c, value in values.items()}
        note = scored_note(name, targets, names)
        if note and METRICS.get(name).build.same_classes_as not in metrics:
            notes.append(note)
    scored = {name: len(values) for name, values in per_class.items()}
    intervals = bootstrap.clip_intervals(metrics, targets, scores)
    against = job.record.against
    if against is not None:
        theirs = {name: score(name, targets, others[0])[0] for name in metrics}
        both = (metrics, theirs), targets, (scores, others[0])
        differences = bootstrap.paired_differences(*both, against.margin)
        against = replace(against, metrics=theirs, differences=differences)
    clock.lap("intervals")
    few = bootstrap.few_clips_note(targets)
    for place in places:
        place.unlink(missing_ok=True)
    return replace(
        job.record,
        metrics=metrics,
        intervals=intervals,
        scored=scored,
        per_class=per_class,
        # Other means are not comparable.
        published=tuple(p for p in job.record.published if scored.get(p.metric) == len(names)),
        clocks=clock.seconds,
        machine=describe_machine(),
        versions=library_versions(),
        commit=git_commit(),
        notes=(*notes, *([few] if few else [])),
        against=against,
        **_decisions(job, found[0][0], targets),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
