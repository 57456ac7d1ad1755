"""Finding study files: by name in ``ablations/``, or by path."""

from __future__ import annotations

import importlib
import importlib.util
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from passt_bench.errors import InputError, choose_from
from passt_bench.spec.study import Study

PACKAGE = "ablations"
_PACKAGE = Path(__file__).parents[1]


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

    def load() -> ModuleType:
        loader.exec_module(module)
        return module

    return _guarded(load, path)


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
            remedy="Mend the file and try again; nothing was run.",
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
