"""Finding study files: by name in ``ablations/``, or by path."""

from __future__ import annotations

import importlib
import importlib.util
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from passt_bench.errors import InputError, choose_from
from passt_bench.names import plain_name
from passt_bench.spec.rows import Row
from passt_bench.spec.study import Study

PACKAGE = "ablations"
_PACKAGE = Path(__file__).parents[1]
_ASSIGNS = re.compile(r"^(STUDY|ROWS)\b", re.MULTILINE)


@dataclass(frozen=True)
class StudyFile:
    """A study and the lab notebook it stands in."""

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
    """The studies of ``ablations/``: its files that assign ``STUDY`` or ``ROWS``.

    All others are what these share.
    """
    package = importlib.import_module(PACKAGE)
    files = Path(package.__path__[0]).glob("*.py")
    return sorted(path.stem for path in files if _ASSIGNS.search(path.read_text(encoding="utf-8")))


def load_study(name: str) -> StudyFile:
    """The study of that name, or in the file at that path.

    Raises:
        InputError: there is none, its file cannot be imported, or holds no ``STUDY``.
    """
    module, path = _load(name)
    study = getattr(module, "STUDY", None)
    if study is None and hasattr(module, "ROWS"):
        raise InputError(
            "holds rows of a published table, and no one study",
            source=path,
            field="STUDY",
            value=name,
            remedy="plan, run and status take it.",
        )
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
    return StudyFile(study, _notebook(module))


def load_file(name: str) -> StudyFile | RowsFile:
    """The study, or the rows of a published table, of that name or in the file at that path.

    Raises:
        InputError: see `load_study` and `load_rows`.
    """
    return load_rows(name) or load_study(name)


def load_rows(name: str) -> RowsFile | None:
    """The rows of a published table of that name, or in the file at that path.

    Returns:
        The file's ``ROWS`` and ``STUDIES``; None where it holds a ``STUDY`` instead.

    Raises:
        InputError: there is no such file, or it cannot be imported, or its rows and studies do not
            belong together.
    """
    module, path = _load(name)
    rows, studies = getattr(module, "ROWS", None), getattr(module, "STUDIES", ())
    if rows is None:
        return None
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
                "no study of the file has such a variant",
                source=path,
                field="ROWS",
                value=f"{row.study}: {row.name}",
                remedy="A row is named as the variant that trains it.",
            )
    return RowsFile(path.stem, rows, studies, _notebook(module))


def published_rows() -> tuple[Row, ...]:
    """The rows of all tables in ``ablations/``."""
    files = [load_rows(name) for name in study_names()]
    return tuple(row for file in files if file is not None for row in file.rows)


def summary(name: str) -> str:
    """What a study asks and how long it takes, or what rows there are, in one line.

    Raises:
        InputError: the file cannot be loaded.
    """
    file = load_rows(name)
    if file is not None:
        rows = sum(not row.cited for row in file.rows)
        return f"{file.notebook.splitlines()[0]} ({rows} rows; hours by `plan`)"
    study = load_study(name).study
    return study.question + (f" (about {study.minutes:g} min)" if study.minutes else "")


def _load(name: str) -> tuple[ModuleType, Path]:
    if name.endswith(".py"):
        return _import_path(Path(name)), Path(name)
    if name in study_names():
        module = _guarded(lambda: importlib.import_module(f"{PACKAGE}.{name}"), name)
        return module, Path(f"{name}.py")
    raise InputError(
        "no such study",
        field="STUDY",
        value=name,
        remedy=f"{choose_from(study_names(), name)} Or give the path of a study file.",
    )


def _notebook(module: ModuleType) -> str:
    return (module.__doc__ or "").strip()


def _misnamed(study: Study, path: Path, remedy: str) -> InputError:
    return InputError(
        "a study is named as its file", source=path, field="name", value=study.name, remedy=remedy
    )


def _import_path(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(
            "no such file", field="STUDY", value=str(path), remedy="Give the path of a study file."
        )
    spec = importlib.util.spec_from_file_location(f"passt_bench_study_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py file has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    loader = spec.loader

    # From wherever it is installed, before a folder of that name beside the study could be found.
    importlib.import_module(PACKAGE)

    def load() -> ModuleType:
        with _importable(path.parent):
            loader.exec_module(module)
        return module

    return _guarded(load, path)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets the body import what lies in a folder, wherever no library has a module of the name."""
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        with suppress(ValueError):  # the study may have changed the path itself
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(entry)]


def _guarded(load: Callable[[], ModuleType], source: object) -> ModuleType:
    try:
        return load()
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, InputError):
            if error.source is not None:
                raise
            what = str(error).rstrip(".")
        raise InputError(
            f"the study file fails to import: {what}",
            source=_place_of(error) or source,
            remedy="Fix the file and try again; nothing was run.",
        ) from None


def _place_of(error: BaseException) -> str | None:
    """File and line of the cause: the innermost that is neither in a library nor in this suite."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    libraries = (sysconfig.get_path("stdlib"), *site.getsitepackages(), str(_PACKAGE), "<")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(libraries)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
