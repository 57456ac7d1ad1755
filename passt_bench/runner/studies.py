"""Finds study files by name or path and imports them; finds names that no other study has."""

from __future__ import annotations

import importlib
import re
import shutil
import site
import sysconfig
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from passt_bench.errors import InputError, choose_from
from passt_bench.published_weights import PUBLISHED, weights_folder
from passt_bench.records.run import (
    EarlierLook,
    Fingerprint,
    StudyRecord,
    VariantRecord,
    also_asked,
)
from passt_bench.records.store import Store
from passt_bench.registry import STUDIES, import_file
from passt_bench.spec.key import plain_name, recipe_difference
from passt_bench.spec.study import INTERVAL_FROM, Study

if TYPE_CHECKING:
    from passt_bench.paper import Available
    from passt_bench.runner.plan import StudyPlan

OWN = Path("ablations")  # a user's own studies, in the current folder
_SUITE = Path(__file__).parents[1]
_ASSIGNS = re.compile(r"^STUDY\b", re.MULTILINE)


@dataclass(frozen=True)
class StudyFile:
    """A study and its notebook, the docstring of its file."""

    study: Study
    notebook: str


def study_names() -> list[str]:
    """The studies of the suite and of ``./ablations``: files that assign ``STUDY``."""
    return sorted({*_studies_in(shipped_folder()), *_studies_in(OWN)})


def files_named(name: str) -> list[Path]:
    """The files that a name can mean, the one to use first: the suite's, ``./ablations``, ``.``."""
    shipped = [shipped_folder() / f"{name}.py"] if name in _studies_in(shipped_folder()) else []
    files: list[Path] = []
    for path in (*shipped, OWN / f"{name}.py", Path(f"{name}.py")):
        if path.is_file() and not any(path.samefile(other) for other in files):
            files.append(path)
    return files


def load_study(name: str, store: Store | None = None) -> StudyFile:
    """The study of that name, or in the file at that path.

    Raises:
        InputError: the file does not exist (a record of that name in the ``store`` says how it was
            run), cannot be imported, defines no ``STUDY``, or one that is not named after the file.
    """
    if name.endswith(".py"):
        path = Path(name)
    elif not (files := files_named(name)):
        problem = "no such study"
        files_known = choose_from(study_names(), name, heading="Study files")
        remedy = f"{files_known} Or give the path of one."
        if store is not None and (names := store.studies()):
            remedy = f"{choose_from(names, name, heading=f'On record in {store.root}')} {remedy}"
        if store is not None and (recorded := study_on_record(name, store)) is not None:
            problem = "a name on record, but of no study file"
            remedy = f"Give its study file and settings, as in: {recorded.command}"
        raise InputError(problem, field="STUDY", value=name, remedy=remedy)
    else:
        path = files[0]
    if path.parent == shipped_folder():
        path = Path(path.name)
        with _importing(path):
            module = importlib.import_module(f"{STUDIES}.{path.stem}")
    else:
        module = _import_path(path)
    notebook = (module.__doc__ or "").strip()
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        problem, value = "the file defines no Study", type(study).__name__
        remedy = f"Add STUDY = Study(...), see {shipped_folder() / 'quick.py'}."
        raise InputError(problem, source=path, field="STUDY", value=value, remedy=remedy)
    if study.name != path.stem:
        problem = "a study must have the name of its file"
        remedy = f"Write name={path.stem!r}, or rename the file."
        raise InputError(problem, source=path, field="name", value=study.name, remedy=remedy)
    plain_name(study.name, field="name")
    return StudyFile(study, notebook)


def find_available(data: Collection[str]) -> Available:
    """The data and the published weights that this machine has, and its GPU."""
    from passt_bench.paper import Available

    gpu = shutil.which("nvidia-smi") is not None
    if gpu:
        import torch  # slow, so only with a GPU driver

        gpu = torch.cuda.is_available()
    return Available(frozenset(data), _weights_here(), gpu)


def without_weights(study: Study) -> dict[str, str]:
    """Variant → the published weights that it starts from and that are not on this machine."""
    starts = {v.name: study.recipe(v).init.checkpoint for v in study.variants}
    missing = PUBLISHED.keys() - _weights_here()
    return {n: w for n, w in starts.items() if w in missing}


def _weights_here() -> frozenset[str]:
    folder = weights_folder()
    return frozenset(name for name, e in PUBLISHED.items() if (folder / e.file).is_file())


def shipped_folder() -> Path:
    """The folder of the suite's own study files; in a checkout the pages are beside it."""
    return Path(importlib.import_module(STUDIES).__path__[-1])


def _studies_in(folder: Path) -> list[str]:
    files = sorted(folder.glob("*.py"))
    return [f.stem for f in files if _ASSIGNS.search(f.read_text("utf-8", errors="replace"))]


def _import_path(path: Path) -> ModuleType:
    if not path.is_file():
        remedy = "Give the path of a study file."
        raise InputError("no such file", field="STUDY", value=str(path), remedy=remedy)
    with _importing(path):
        return import_file(path)


@contextmanager
def _importing(source: Path) -> Iterator[None]:
    """Turns any error of a study file into an input error."""
    try:
        yield
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, InputError):
            if error.source is not None:
                raise
            what = str(error).rstrip(".")
        raise InputError(
            f"the study file fails to import: {what}",
            source=place_of(error) or source,
            remedy="Fix the file; nothing was run.",
        ) from None


def place_of(error: BaseException) -> str | None:
    """File and line of the cause: the innermost frame outside libraries and this suite."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    libraries = (sysconfig.get_path("stdlib"), *site.getsitepackages(), str(_SUITE), "<")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None


def free_name(name: str, difference: Callable[[str], str | None]) -> tuple[str, str | None]:
    """The first of NAME, NAME-2, NAME-3, … that is unused or has the same settings on record.

    ``difference`` returns how settings differ from those on record under a name; None if they are
    the same, or nothing is on record.

    Returns:
        The name, and a sentence that explains why it is not the preferred one, if it is not.
    """
    first = difference(name)
    if first is None:
        return name, None
    names = (f"{name}-{number}" for number in count(2))
    chosen = next(other for other in names if difference(other) is None)
    note = f"{name} already exists with other settings; the name of this one on record is {chosen}"
    return chosen, f"{note} (first difference: {first})."


def join_record(
    plan: StudyPlan,
    store: Store,
    expand: Callable[[Study], StudyRecord],
    wanted: Collection[str] | None = None,
) -> StudyPlan:
    """Chooses the plan's name, and merges it with the study already recorded under it.

    `StudyPlan.stored_record` also gets the seeds, folds and variants on record, and keeps the
    numbers of seeds at which it is judged, and the variants that are judged, which the first run
    decides (``wanted``; None: all). ``expand`` expands the study with other seeds and folds.

    Raises:
        InputError: a newer version of this package wrote the study on record.
    """
    name, study = plan.study.name, plan.study
    recorded = cache(lambda name: study_on_record(name, store))
    chosen, note = free_name(name, lambda name: study_difference(plan, recorded(name)))
    notes = [note] if note else []
    whole, old = plan.record, recorded(chosen)
    now = tuple(v.name for v in whole.variants if wanted is None or v.name in wanted)
    asked: tuple[tuple[str, ...], ...] = (now,)
    looks, fixed = whole.looks, False
    if old is not None:
        seeds = tuple(dict.fromkeys((*old.seeds, *whole.seeds)))
        folds = tuple(sorted({*(old.folds or ()), *(whole.folds or ())})) or None
        if (seeds, folds) != (whole.seeds, whole.folds):
            whole = expand(replace(study, seeds=seeds, folds=folds))
        new = {variant.name: variant for variant in whole.variants}
        if any(_cells(v).items() - _cells(new.get(v.name, v)).items() for v in old.variants):
            notes.append(f"Runs of {chosen} by earlier versions stay on record but are not shown.")
        known = {variant.name: variant for variant in old.variants} | new
        variants = tuple(known[v.name] for v in study.variants if v.name in known)
        baseline = study.baseline if study.baseline in known else whole.baseline
        # With under three seeds nothing could be judged, so more looks may still be planned.
        if fixed := max(old.judged_at) >= INTERVAL_FROM:
            looks = old.judged_at
        ran = tuple(v.name for v in old.variants if any(store.has(cell.key) for cell in v.cells))
        if ran:
            asked = also_asked(old.asked or (ran,), now)
        changed = old.contrasts_changed
        if old.contrasts != whole.contrasts and ran:
            changed = datetime.now(UTC).date().isoformat()
            notes.append(f"The contrasts declared in {chosen} changed after its first run.")
        if fixed and len(whole.seeds) > max(looks):
            first = f"The verdicts of {chosen} are read with its first {max(looks)} seeds, as was"
            notes.append(f"{first} planned before its first run; later seeds are not judged.")
        whole = replace(whole, variants=variants, baseline=baseline, contrasts_changed=changed)
    whole = replace(whole, looks=looks, asked=asked if whole.seeds else ())
    earlier = old.earlier if old and fixed else earlier_looks(replace(whole, name=chosen), store)
    whole = replace(whole, earlier=earlier)
    notes += [whole.further_look] if whole.further_look else []
    study, record = replace(study, name=chosen), replace(plan.record, name=chosen)
    stored = replace(whole, name=chosen)
    return replace(plan, study=study, record=record, stored_record=stored, notes=tuple(notes))


def earlier_looks(study: StudyRecord, store: Store) -> tuple[EarlierLook, ...]:
    """The other studies in a store that could be judged with runs of two variants of a study.

    Not those that have no verdict on them because another one judged them before.
    """
    found = []
    for other in (study_on_record(name, store) for name in store.studies() if study.seeds):
        if other is None or other.name == study.name or min(other.judged_at) < INTERVAL_FROM:
            continue
        asked = {variant for names in other.asked for variant in names}
        family = [v for v in other.variants if v.name in asked or not asked]
        first, seeds = (other.seeds[: end(other.judged_at)] for end in (min, max))
        keys = {cell.key for v in family for cell in v.cells if cell.seed in seeds}
        shared = tuple(v.name for v in study.variants if any(c.key in keys for c in v.cells))
        needed = (cell.key for v in family for cell in v.cells if cell.seed in first)
        own = {cell.key for v in study.variants for cell in v.cells}
        theirs = {v.name for v in family if any(cell.key in own for cell in v.cells)}
        barred = (e for e in other.earlier if not other.looks_alike(e))
        if any(theirs <= {*e.variants} for e in barred):
            continue
        if len(shared) > 1 and all(map(store.has, needed)):
            margin = other.tolerance if other.metric == study.metric else None
            look = (len(family), shared, seeds, other.judged_at, margin)
            found.append(EarlierLook(other.name, *look))
    return tuple(found)


def _cells(variant: VariantRecord) -> dict[tuple[int, int | None], str]:
    return {(cell.seed, cell.fold): cell.key for cell in variant.cells}


def study_on_record(name: str, store: Store) -> StudyRecord | None:
    """The study on record under a name; None if there is none or it cannot be read.

    That of a newer version of this package is refused (raises `InputError`).
    """
    try:
        return store.study(name) if name in store.studies() else None
    except InputError as error:
        if error.field == "schema":
            raise
        return None  # it will be rewritten


def study_difference(plan: StudyPlan, recorded: StudyRecord | None) -> str | None:
    """The first difference of a study from one on record; None if it is the same or extends it.

    A study with more seeds, folds or variants, or newer versions of components, is the same.
    """
    if recorded is None:
        return None
    if is_other_data(plan, recorded.fingerprint):
        return "the data"
    own = replace(plan.record, baseline=plan.study.baseline)
    return settings_difference(own, recorded, {variant.name for variant in plan.study.variants})


def settings_difference(
    study: StudyRecord, recorded: StudyRecord, declared: Collection[str]
) -> str | None:
    """The first difference in settings; ``declared`` are the variants, planned or not."""
    own = {variant.name: variant.recipe for variant in study.variants}
    old = {variant.name: variant.recipe for variant in recorded.variants}
    for field in ("metric", "baseline", "margin"):
        value = getattr(study, field)
        # If the row that is the baseline cannot run, another row is the baseline of the record.
        if value != getattr(recorded, field) and (field != "baseline" or value in old):
            return f"{field} = {value}"
    for name, recipe in old.items():
        if name not in declared:
            return f"no variant {name!r}"
        change = recipe_difference(own[name], recipe) if name in own else None
        if change is not None:
            return f"variant {name!r}, {change}"
    return None


def is_other_data(plan: StudyPlan, recorded: Fingerprint) -> bool:
    """Whether the data of a study are not those on record."""
    own, recipe = plan.record.fingerprint, plan.record.variants[0].recipe
    if recorded.digest == own.digest:
        return recorded.dataset != own.dataset  # costs need no data, and then there is no digest
    # The digest of embedded data follows from the recipe and from the version of the component.
    return recorded.dataset != own.dataset or plan.datasets.get(recipe).clip_table() is not None
