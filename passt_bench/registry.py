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
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar

from passt_bench.errors import InputError, choose_from

T = TypeVar("T")
Better = Literal["greater", "less"]


@dataclass(frozen=True)
class Component(Generic[T]):
    """What is registered under a name.

    ``version`` enters every key; raise it when the component's output changes. ``better`` says of
    a metric which way is better; one that does not say it cannot be compared.
    """

    name: str
    version: int
    summary: str
    build: T
    better: Better | None = None


class Registry(Generic[T]):
    """A table of components of one kind, filled by decorators, home packages and entry points."""

    def __init__(self, kind: str, home: str, field: str | None = None) -> None:
        self.kind = kind
        self._field = field or kind  # the field that an unknown name is reported under
        self._home = home
        self._table: dict[str, Component[T]] = {}
        self._loaded = False

    def register(
        self, name: str, *, version: int, summary: str, better: Better | None = None
    ) -> Callable[[T], T]:
        """Decorator that adds a component.

        Raises:
            ValueError: the name is taken by another component.
        """

        def add(build: T) -> T:
            old = self._table.get(name)
            if old is not None and old.build is not build:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._table[name] = Component(name, version, summary, build, better)
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
