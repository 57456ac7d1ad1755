"""Named, versioned components: models, data sets, patchout kinds, metrics, figures, trackers, ….

A component is one file and one registration. Another package adds components by an entry point that
names a module, in the group of the registry; the module registers them when it is imported::

    [project.entry-points."passt_bench.model"]
    my_model = "my_package.my_model"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points
from importlib.metadata import version as version_of
from typing import Any, Generic, Literal, TypeVar

from passt_bench.errors import InputError, check_known

T = TypeVar("T")
Better = Literal["greater", "less"]


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
            if old is not None and old.build is not build:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
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
        check_known(name, self._table, f"unknown {self.kind}", field=self._field)
        return self._table[name]

    def all(self) -> list[Component[T]]:
        """Every component, sorted by name."""
        self._load()
        return [self._table[name] for name in sorted(self._table)]


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
