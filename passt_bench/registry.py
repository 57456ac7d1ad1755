"""Named, versioned components: models, data sets, patchout kinds, metrics, figures, trackers, ….

A component is one file and one registration. Another package adds components by an entry point that
names a module, in the group of the registry; the module registers them when it is imported::

    [project.entry-points."passt_bench.model"]
    my_model = "my_package.my_model"

A study file, or a file next to it, may register components for that study.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points
from importlib.metadata import version as version_of
from importlib.util import module_from_spec, spec_from_file_location
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar

from passt_bench.errors import InputError, choose_from

T = TypeVar("T")
Better = Literal["greater", "less"]
STUDIES = "passt_bench.ablations"
_importing: Path | None = None  # the study file that is being imported
_files: list[Path] = []  # those whose import registered components


@dataclass(frozen=True)
class Component(Generic[T]):
    """A registered component."""

    name: str  # in recipes
    version: int  # part of every key; raise it when the component's output changes
    summary: str  # one line for `passt-bench list`
    build: T  # the class or function
    # Optional distributions that it wraps; cost sessions record their versions.
    packages: tuple[str, ...] = ()
    # Options and patchout of a model that differ from the defaults of its class.
    preset: Mapping[str, Any] = field(default_factory=dict)

    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(name for name in self.packages if installed_version(name) is None)


def installed_version(package: str) -> str | None:
    """The version of a distribution; None if it is not installed."""
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None


class Registry(Generic[T]):
    """A table of components of one kind, filled by decorators, home packages and entry points.

    ``home`` is the module whose import registers this package's components, ``group`` the entry
    points of other packages' (both without ``passt_bench.``), ``field`` what messages about unknown
    names call it.
    """

    def __init__(self, kind: str, home: str, group: str, field: str) -> None:
        self.kind, self.group = kind, f"passt_bench.{group}"
        self._home, self._field = f"passt_bench.{home}", field
        self._table: dict[str, Component[T]] = {}
        self._loaded = False
        self._broken: InputError | None = None

    def register(self, name: str, *, version: int, summary: str, **more: Any) -> Callable[[T], T]:
        """Decorator that adds a component; the arguments are the attributes of `Component`.

        Raises:
            ValueError: another component has this name.
        """

        def add(build: T) -> T:
            """Registers a component and returns it."""
            old = self._table.get(name)
            # What is executed again, e.g. in a notebook, replaces itself.
            if old is not None and _origin(old.build) != _origin(build):
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            if _importing and _importing not in _files and _origin(build)[0] != "passt_bench":
                _files.append(_importing)
            self._table[name] = Component(name, version, summary, build, **more)
            return build

        return add

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            import_module(self._home)
            for entry in entry_points(group=self.group):
                try:
                    entry.load()
                except (Exception, SystemExit) as error:  # a plug-in may raise anything
                    problem = f"the plug-in cannot be loaded ({type(error).__name__}: {error})"
                    where, remedy = f"entry point {entry.group}", "Fix or uninstall its package."
                    self._broken = InputError(
                        problem, source=where, field=entry.name, value=entry.value, remedy=remedy
                    )
        if self._broken is not None:
            raise self._broken

    def get(self, name: str) -> Component[T]:
        """The component of that name.

        Raises:
            InputError: nothing is registered under the name.
        """
        self._load()
        if name not in self._table:
            own = "For one of your own, install its package (docs/adding.md)."
            remedy = f"{choose_from(self._table, name)} {own}"
            problem = f"unknown {self.kind}"
            raise InputError(problem, field=self._field, value=name, remedy=remedy)
        return self._table[name]

    def all(self) -> list[Component[T]]:
        """Every component, sorted by name."""
        self._load()
        return [self._table[name] for name in sorted(self._table)]


def _origin(build: object) -> tuple[str, str, str]:
    """Package, module and name of a component's class or function, or of the class of one."""
    named = build if hasattr(build, "__qualname__") else type(build)
    module = named.__module__
    # Study files are modules of this package, to which they do not belong.
    package = module if module.startswith(STUDIES) else module.partition(".")[0]
    return package, module, named.__qualname__


def import_file(path: Path) -> ModuleType:
    """Imports a study file, which may import the files next to it; see `StudyFiles`."""
    global _importing
    # In the package of the suite's studies, so that a copy of one may keep its relative imports.
    name = f"{STUDIES}.file:{path.stem.replace('.', '_')}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a .py file has a loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    # Up to version 0.1 studies imported from `ablations`; to be removed after the next release.
    sys.modules.setdefault("ablations", import_module(STUDIES))
    # The study may import modules beside it, unless a library has a module of that name.
    folder = str(path.parent.resolve())
    sys.path.append(folder)
    _importing = path.resolve()
    try:
        spec.loader.exec_module(module)
    finally:
        _importing = None
        with suppress(ValueError):  # the study may have changed the path itself
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]
    return module


def check_no_study_files(field: str, value: object) -> None:
    """Refuses components of study files where only packages can bring them (`InputError`)."""
    if _files:
        problem = f"other machines do not have the components of a file, {_files[-1].name}"
        remedy = "Put them in a package and install it there (docs/adding.md)."
        raise InputError(problem, field=field, value=value, remedy=remedy)


class StudyFiles:
    """Gives another process the components of study files: unpickled there, it imports the files.

    So it must be pickled before anything that needs them. Other files are not imported again.
    """

    def __reduce__(self) -> tuple[Callable[..., object], tuple[tuple[Path, ...]]]:
        return _import_files, (tuple(_files),)


def _import_files(paths: tuple[Path, ...]) -> StudyFiles:
    for path in paths:
        if path not in _files:
            import_file(path)
    return StudyFiles()


# The types of the components are in their home packages; naming them here would import torch.
MODELS: Registry[Any] = Registry("model", "models", "model", "model")
FRONTENDS: Registry[Any] = Registry("front end", "models.frontend", "frontend", "frontend.name")
DATASETS: Registry[Any] = Registry("data set", "data", "dataset", "data set")
PATCHOUTS: Registry[Any] = Registry("patchout kind", "models.patchout", "patchout", "patchout kind")
METRICS: Registry[Any] = Registry("metric", "training.metrics", "metric", "metric")
FIGURES: Registry[Any] = Registry("figure", "report.figures", "figure", "figure")
TRACKERS: Registry[Any] = Registry(
    "tracker", "runner.tracked_run", "tracker", "PASST_BENCH_TRACKERS"
)
ALL: tuple[Registry[Any], ...] = (MODELS, FRONTENDS, DATASETS, PATCHOUTS, METRICS, FIGURES)


def metric_bounds(name: str) -> tuple[float, float]:
    """The lowest and the highest value of a metric; infinite if it is not registered."""
    known = {item.name: item.build.bounds for item in METRICS.all()}
    return known.get(name, (-inf, inf))
