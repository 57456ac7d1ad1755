"""Finding study files: by name in ``ablations/``, or by path."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from passt_bench.errors import InputError, choose_from
from passt_bench.spec.study import Study

PACKAGE = "ablations"


@dataclass(frozen=True)
class StudyFile:
    """A study and the lab notebook it stands in."""

    study: Study
    notebook: str


def study_names() -> list[str]:
    """The studies of ``ablations/``."""
    package = importlib.import_module(PACKAGE)
    folder = Path(package.__path__[0])
    names = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")]
    return sorted(name for name in names if name != "recipes")


def load_study(name: str) -> StudyFile:
    """The study of that name, or in the file at that path.

    Raises:
        InputError: there is none, its file cannot be imported, or holds no ``STUDY``.
    """
    if name.endswith(".py"):
        module, path = _import_path(Path(name)), Path(name)
    elif name in study_names():
        module = _guarded(lambda: importlib.import_module(f"{PACKAGE}.{name}"), name)
        path = Path(f"{name}.py")
    else:
        raise InputError(
            "no such study",
            field="STUDY",
            value=name,
            remedy=f"{choose_from(study_names(), name)} Or give the path of a study file.",
        )
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
        raise InputError(
            "a study is named as its file",
            source=path,
            field="name",
            value=study.name,
            remedy=f"Write name={path.stem!r}, or rename the file.",
        )
    return StudyFile(study, (module.__doc__ or "").strip())


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
    _guarded(lambda: loader.exec_module(module), path)
    return module


def _guarded(load: object, source: object) -> ModuleType:
    assert callable(load)
    try:
        module: ModuleType = load()
    except InputError:
        raise
    except Exception as error:
        line = _line_of(error)
        raise InputError(
            f"the study file fails to import{line}: {type(error).__name__}: {error}",
            source=source,
            remedy="Mend the file and try again; nothing was run.",
        ) from error
    return module


def _line_of(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
