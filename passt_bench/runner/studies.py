"""Finds study files by name or path, and imports them."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import site
import sys
import sysconfig
import traceback
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from passt_bench.errors import InputError, choose_from
from passt_bench.names import plain_name
from passt_bench.published_weights import PUBLISHED, locate
from passt_bench.spec.rows import Available, Row
from passt_bench.spec.study import Study

PACKAGE = "passt_bench.ablations"
OWN = Path("ablations")  # a user's own studies, in the current folder
_SUITE = Path(__file__).parents[1]
_ASSIGNS = re.compile(r"^(STUDY|ROWS)\b", re.MULTILINE)


@dataclass(frozen=True)
class StudyFile:
    """A study and its lab notebook, the docstring of its file."""

    study: Study
    notebook: str


@dataclass(frozen=True)
class RowsFile:
    """Rows of a published table, the studies that train them, and their lab notebook."""

    name: str
    rows: tuple[Row, ...]
    studies: tuple[Study, ...]
    notebook: str


def study_names() -> list[str]:
    """The studies of the suite and of ``./ablations``: files that assign ``STUDY`` or ``ROWS``."""
    return sorted({*_studies_in(_shipped()), *_studies_in(OWN)})


def files_named(name: str) -> list[Path]:
    """The files that a name can mean; the first one is used.

    They are in the suite, in ``./ablations``, or ``./NAME.py``, in this order.
    """
    shipped = [_shipped() / f"{name}.py"] if name in _studies_in(_shipped()) else []
    files: list[Path] = []
    for path in (*shipped, OWN / f"{name}.py", Path(f"{name}.py")):
        if path.is_file() and not any(path.samefile(other) for other in files):
            files.append(path)
    return files


def load_study(name: str) -> StudyFile:
    """The study of that name, or in the file at that path.

    Raises:
        InputError: see `load_file`; or the file has rows of a published table.
    """
    file = load_file(name)
    if isinstance(file, RowsFile):
        raise InputError(
            "has rows of a published table, not a single study",
            source=f"{file.name}.py",
            field="STUDY",
            value=name,
            remedy="Use it with plan, run or status.",
        )
    return file


def load_file(name: str) -> StudyFile | RowsFile:
    """The study, or the rows of a published table, of that name or in the file at that path.

    Raises:
        InputError: the file does not exist, cannot be imported, defines neither ``STUDY`` nor
            ``ROWS``, or its rows and studies do not match.
    """
    if name.endswith(".py"):
        path = Path(name)
    elif not (files := files_named(name)):
        raise InputError(
            "no such study",
            field="STUDY",
            value=name,
            remedy=f"{choose_from(study_names(), name)} Or give the path of a study file.",
        )
    else:
        path = files[0]
    if path.parent == _shipped():
        path = Path(path.name)
        with _importing(path):
            module = importlib.import_module(f"{PACKAGE}.{path.stem}")
    else:
        module = _import_path(path)
    if hasattr(module, "ROWS"):
        return _rows_of(module, path)
    return _study_of(module, path)


def _study_of(module: ModuleType, path: Path) -> StudyFile:
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise InputError(
            "the file defines no Study",
            source=path,
            field="STUDY",
            value=type(study).__name__,
            remedy="Add STUDY = Study(...), see ablations/quick.py.",
        )
    if study.name != path.stem:
        raise _misnamed(study, path, f"Write name={path.stem!r}, or rename the file.")
    plain_name(study.name, field="name")
    return StudyFile(study, (module.__doc__ or "").strip())


def _rows_of(module: ModuleType, path: Path) -> RowsFile:
    rows, studies = module.ROWS, getattr(module, "STUDIES", ())
    for kind, field, values in ((Row, "ROWS", rows), (Study, "STUDIES", studies)):
        whole = isinstance(values, tuple)
        wrong = [value for value in values if not isinstance(value, kind)] if whole else [values]
        if wrong:
            raise InputError(
                f"not a tuple of {kind.__name__}",
                source=path,
                field=field,
                value=type(wrong[0]).__name__,
                remedy="See ablations/paper_table3.py.",
            )
    for study in studies:
        if study.name != path.stem and not study.name.startswith(f"{path.stem}_"):
            raise _misnamed(study, path, f"Begin its name with {path.stem}_.")
    trained = {(study.name, variant.name) for study in studies for variant in study.variants}
    for row in rows:
        if row.study is not None and (row.study, row.name) not in trained:
            raise InputError(
                "no study of the file has this variant",
                source=path,
                field="ROWS",
                value=f"{row.study}: {row.name}",
                remedy="A row must have the name of the variant that trains it.",
            )
    return RowsFile(path.stem, rows, studies, (module.__doc__ or "").strip())


def published_rows() -> tuple[Row, ...]:
    """The rows of all tables of the paper."""
    files = [load_file(name) for name in _studies_in(_shipped())]
    return tuple(row for file in files if isinstance(file, RowsFile) for row in file.rows)


def find_available(data: Collection[str], weights: Iterable[str] = ()) -> Available:
    """The requirements of rows that this machine has; imports PyTorch only with a GPU driver.

    Args:
        data: names of the available data sets.
        weights: further names or files of weights to look for.
    """
    gpu = shutil.which("nvidia-smi") is not None
    if gpu:
        import torch  # slow, and not needed otherwise by a list of studies or a report

        gpu = torch.cuda.is_available()
    available = frozenset(name for name in {*PUBLISHED, *weights} if _is_available(name))
    return Available(frozenset(data), available, gpu)


def _is_available(weights: str) -> bool:
    try:
        return locate(weights).is_file()
    except InputError:  # published, and not on this machine
        return False


def summary(name: str) -> str:
    """One line with the question and duration of a study, or the title and number of rows.

    Raises:
        InputError: the file cannot be loaded.
    """
    file = load_file(name)
    if isinstance(file, RowsFile):
        rows = sum(not row.cited for row in file.rows)
        return f"{file.notebook.splitlines()[0]} ({rows} rows; `plan` shows the hours)"
    minutes = file.study.minutes
    return file.study.question + (f" (about {minutes:g} min)" if minutes else "")


def _shipped() -> Path:
    return Path(importlib.import_module(PACKAGE).__path__[-1])


def _studies_in(folder: Path) -> list[str]:
    files = sorted(folder.glob("*.py"))
    return [f.stem for f in files if _ASSIGNS.search(f.read_text("utf-8", errors="replace"))]


def _misnamed(study: Study, path: Path, remedy: str) -> InputError:
    return InputError(
        "a study must have the name of its file",
        source=path,
        field="name",
        value=study.name,
        remedy=remedy,
    )


def _import_path(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(
            "no such file", field="STUDY", value=str(path), remedy="Give the path of a study file."
        )
    # In the package of the suite's studies, so that a copy of one may keep its relative imports.
    name = f"{PACKAGE}.file:{path.stem.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a .py file has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # Up to version 0.1 studies imported from `ablations`; to be removed after the next release.
    sys.modules.setdefault("ablations", importlib.import_module(PACKAGE))
    # The study may import modules beside it, unless a library has a module of that name.
    folder = str(path.parent.resolve())
    sys.path.append(folder)
    try:
        with _importing(path):
            spec.loader.exec_module(module)
    finally:
        with suppress(ValueError):  # the study may have changed the path itself
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]
    return module


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
            source=_place_of(error) or source,
            remedy="Fix the file; nothing was run.",
        ) from None


def _place_of(error: BaseException) -> str | None:
    """File and line of the cause: the innermost frame outside libraries and this suite."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    libraries = (sysconfig.get_path("stdlib"), *site.getsitepackages(), str(_SUITE), "<")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(libraries)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
