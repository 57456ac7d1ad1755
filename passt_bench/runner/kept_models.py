"""Chooses which trained models a study keeps, and finds them by study, variant, seed and fold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from passt_bench.data.fingerprint import first_few
from passt_bench.errors import InputError
from passt_bench.published_weights import ENSEMBLES, PUBLISHED, by_file
from passt_bench.records.files import read
from passt_bench.records.run import RunRecord, StudyRecord, count_of
from passt_bench.records.store import MODEL, Store

if TYPE_CHECKING:
    from passt_bench.runner.planned_cell import PlannedCell

_LOG = logging.getLogger("passt_bench.weights")
MODEL_BYTES = 10**9  # that the models of one run of each variant may take together


def with_kept_models(cells: Sequence[PlannedCell], keep: bool | None) -> list[PlannedCell]:
    """Decides which trained models are kept.

    All, none, or (None) that of one run of each variant, the first ones that together take at most
    `MODEL_BYTES`.
    """
    kept, taken = [], 0
    for cell in cells:
        fits = cell.pictured and taken + cell.model_bytes <= MODEL_BYTES
        keeps = fits if keep is None else keep
        taken += cell.model_bytes * keeps
        kept.append(replace(cell, keeps_model=keeps))
    return kept


def describe_models(todo: Sequence[PlannedCell]) -> str:
    """A sentence on the trained models that will be kept."""
    kept = [cell for cell in todo if cell.keeps_model]
    size = f"{sum(cell.model_bytes for cell in kept) / 1e6:.1f} MB"
    text = f"Trained models: {len(kept)} of {count_of(len(todo), 'run')} will be kept ({size})"
    more = "; --keep-models keeps all, also those of runs that are finished"
    return f"{text}{more if len(kept) < len(todo) else ''}."


def kept_models(study: StudyRecord, store: Store) -> list[str]:
    """The names of the models that were kept, as `find_model` takes them."""
    kept = study.run_names.items()
    return [name for name, key in kept if store.has_model(key)]


def run_of(path: Path) -> RunRecord | None:
    """The run that trained the model in a record's folder; None of another file."""
    record = path.with_name("record.json")
    kept = path.name == MODEL and record.is_file()
    return read(RunRecord, record, in_store=False) if kept else None


def name_of(key: str, store: Store) -> str | None:
    """The name of the model of a run, in the first study that has it."""
    studies = map(store.study, sorted(store.studies()))
    runs = (item for study in studies for item in study.run_names.items())
    return next((name for name, own in runs if own == key), None)


def find_model(
    name: str, runs: Path, field: str = "--checkpoint", held_out: tuple[str, int | None] = ("", 0)
) -> str:
    """The path of a model file: of a record's folder, or of ``STUDY:VARIANT[:SEED[:FOLD]]``.

    Without a seed or fold, the first that was kept (a note says if there are more); without a
    variant, if there is only one. If data set and fold are ``held_out`` and the study is of that
    data set, only a model that was not trained on that fold is taken, unless the name has a fold.
    An existing path or published name is returned as it is.

    Raises:
        InputError: there is no such model (``""``: none is given), or its study did not keep it.
    """
    if name and (Path(name) / MODEL).is_file():
        return str(Path(name) / MODEL)
    study, _, rest = name.partition(":")
    store = Store(runs)
    published = name in ENSEMBLES or name in PUBLISHED or by_file(Path(name).name)
    if published or (name and Path(name).exists()):
        return name
    if study not in store.studies():
        kept = [name for each in store.studies() for name in kept_models(store.study(each), store)]
        there = f"There are: {first_few(kept)}" if kept else f"No models are kept in {runs}"
        remedy = f"{there}. Or give a file, or a name of `passt-bench weights list`."
        problem = "no such model" if name else "no model given"
        raise InputError(problem, field=field, value=name or None, remedy=remedy)
    record = store.study(study)
    kept, runs_of = kept_models(record, store), record.run_names
    remedy = f"Kept: {', '.join(kept) or 'none'}."
    if not rest and len(record.variants) > 1:
        problem = "a study of several models"
        raise InputError(problem, field=field, value=name, remedy=remedy)
    fitting, of_fold = [known for known in runs_of if f"{known}:".startswith(f"{name}:")], ""
    data, fold = held_out
    if record.folds and fold is not None and data == record.fingerprint.dataset:
        of_fold = f" with fold {fold} held out"
        remedy += " Without --fold, a model is evaluated on the fold that it held out."
        fitting = [known for known in fitting if known == name or known.endswith(f":{fold}")]
    if found := [known for known in kept if known in fitting]:
        if len(found) > 1:
            _LOG.warning("note: %s is %s, the first of %d models", name, found[0], len(found))
        return str(store.folder(runs_of[found[0]]) / MODEL)
    problem = f"the study has no such run{of_fold}"
    if fitting:
        again = record.command + " --keep-models" * ("--keep-models" not in record.command)
        problem = f"the model of this run{of_fold} was not kept"
        remedy += f" It can be trained again, with the same result: {again}"
    raise InputError(problem, source=study, field=field, value=name, remedy=remedy)
