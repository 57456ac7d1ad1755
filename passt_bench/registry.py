"""Named, versioned components: models, front ends, data sets, patchout kinds, metrics.

A component is one file and one registration. Packages outside this one add theirs by an entry
point in the group ``passt_bench.<kind>`` that names a module which registers on import::

    [project.entry-points."passt_bench.models"]
    my_model = "my_package.my_model"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from importlib.metadata import version as version_of
from typing import Any, Generic, Literal, TypeVar

from passt_bench.errors import InputError, choose_from

T = TypeVar("T")
Better = Literal["greater", "less"]


@dataclass(frozen=True)
class Component(Generic[T]):
    """What is registered under a name.

    Attributes:
        name: what recipes call it.
        version: enters every key; raise it when the component's output changes.
        summary: one line for `passt-bench list`.
        build: the component itself, or what makes it.
        packages: distributions that it wraps and that may be missing; a comparison records their
            versions.
        better: of a metric, which way is better; one that does not say it cannot be compared.
        frontend: of a model, the `spec.FrontendSpec` that it was published with; None is PaSST's.
        beside_paper: of a model, what `passt-bench paper-costs` measures of it beside the paper's
            systems, written as for `passt-bench compare`.
    """

    name: str
    version: int
    summary: str
    build: T
    packages: tuple[str, ...] = ()
    better: Better | None = None
    frontend: Any = None  # the type lives above this module
    beside_paper: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        """Those of its packages that are not installed."""
        return tuple(name for name in self.packages if installed_version(name) is None)


def installed_version(package: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None


class Registry(Generic[T]):
    """A table of components of one kind, filled by decorators, home packages and entry points."""

    def __init__(self, kind: str, home: str, field: str | None = None) -> None:
        self.kind = kind
        self._field = field or kind  # the field that an unknown name is reported under
        self._home = home
        self._table: dict[str, Component[T]] = {}
        self._loaded = False

    def register(
        self,
        name: str,
        *,
        version: int,
        summary: str,
        packages: tuple[str, ...] = (),
        better: Better | None = None,
        frontend: Any = None,
        beside_paper: tuple[str, ...] = (),
    ) -> Callable[[T], T]:
        """Decorator that adds a component; the arguments are the attributes of `Component`.

        Raises:
            ValueError: the name is taken by another component.
        """

        def add(build: T) -> T:
            """Registers it and hands it back, as a decorator does."""
            old = self._table.get(name)
            if old is not None and old.build is not build:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._table[name] = Component(
                name, version, summary, build, packages, better, frontend, beside_paper
            )
            return build

        return add

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            import_module(self._home)
            for entry in entry_points(group=self._home):
                self._plug_in(entry)

    def _plug_in(self, entry: EntryPoint) -> None:
        try:
            entry.load()
        except Exception as error:  # whatever a foreign module raises
            raise InputError(
                f"the plug-in cannot be loaded ({type(error).__name__}: {error})",
                source=f"entry point {entry.group}",
                field=entry.name,
                value=entry.value,
                remedy="Repair or uninstall the package that it belongs to.",
            ) from error

    def get(self, name: str) -> Component[T]:
        """The component of that name.

        Raises:
            InputError: nothing is registered under the name.
        """
        self._load()
        if name not in self._table:
            raise InputError(
                f"unknown {self.kind}",
                field=self._field,
                value=name,
                remedy=choose_from(self._table, name),
            )
        return self._table[name]

    def all(self) -> list[Component[T]]:
        """Every component, sorted by name."""
        self._load()
        return [self._table[name] for name in sorted(self._table)]


# The factory types are written out where the components live; here they would need torch.
MODELS: Registry[Any] = Registry("model", "passt_bench.models")
FRONTENDS: Registry[Any] = Registry("front end", "passt_bench.models.frontend", "frontend.name")
DATASETS: Registry[Any] = Registry("data set", "passt_bench.data")
PATCHOUTS: Registry[Any] = Registry("patchout kind", "passt_bench.models.patchout")
METRICS: Registry[Any] = Registry("metric", "passt_bench.training.metrics")
ALL: tuple[Registry[Any], ...] = (MODELS, FRONTENDS, DATASETS, PATCHOUTS, METRICS)
