"""The space of a search on the grids of a model: parameters of trials, and their recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice, product
from typing import Any

from passt_bench.errors import InputError
from passt_bench.models.patchout import resolve
from passt_bench.registry import PATCHOUTS
from passt_bench.runner.estimates import summarize_model
from passt_bench.spec.recipe import Pair, Patchout, Recipe
from passt_bench.spec.search import Range, Search
from passt_bench.spec.study import flatten, override

Params = dict[str, Any]  # of a trial; the values are texts and numbers

_TOGETHER = 64  # combinations of ends that are checked before anything is trained
_AXES = ("time", "frequency")
_RATES = ("rate", *(f"{axis} rate" for axis in _AXES))


@dataclass(frozen=True)
class Space:
    """What a search tries.

    Attributes:
        axes: parameter → its range, or the label of each choice → its value.
        grids: stride → grid (frequency, time); the first is the baseline's.
        patchout: of the baseline.
        first: the parameters of the baseline without patchout, as far as the space has them.
        starts: those of the first trials: without patchout, then each kind at its middle rates.
    """

    axes: Mapping[str, Range | Mapping[Any, Any]]
    grids: Mapping[Pair, Pair]
    patchout: Patchout
    first: Params
    starts: list[Params]

    def applies(self, name: str, kind: str) -> bool:
        """Whether trials with a kind of patchout have a parameter."""
        return name not in _RATES or name in rates_of(kind)

    def changes(self, params: Params) -> dict[str, Any]:
        """The changes of a recipe, with patchout in counts, so that equal ones share their runs."""
        made = {}
        for name, value in params.items():
            axis = self.axes[name]
            made[name] = value if isinstance(axis, Range) else axis[value]
        stride = made.get("stride", next(iter(self.grids)))
        patchout = counted(params, self.grids[stride], self.patchout)
        own = {"model.stride": stride} if "stride" in made else {}
        return {"patchout": patchout, **own, **{n: v for n, v in made.items() if "." in n}}

    def describe(self) -> dict[str, str]:
        """The values of each parameter in words."""
        return {
            name: str(axis) if isinstance(axis, Range) else ", ".join(map(str, axis))
            for name, axis in self.axes.items()
        }

    def extremes(self) -> list[Params]:
        """Trials without patchout at the ends of the other parameters, together and one by one."""
        ends = {
            name: [axis.low, axis.high] if isinstance(axis, Range) else [*axis]
            for name, axis in self.axes.items()
            if name == "stride" or "." in name
        }
        single = ({**self.first, n: v} for n, own in ends.items() for v in own)
        together = (dict(zip(ends, each, strict=True)) for each in product(*ends.values()))
        made = [*single, *({**self.first, **each} for each in islice(together, _TOGETHER))]
        return [self.first, *(each for n, each in enumerate(made) if each not in made[:n])]


def make_space(search: Search, base: Recipe, classes: int) -> Space:
    """The space of a search over a baseline, for models of so many classes.

    Raises:
        InputError: the model has no patches, or a kind or stride cannot be used.
    """
    if (shape := summarize_model(base, classes).model_shape) is None:
        problem, remedy = "the baseline's model has no patches to drop", "Search over a PaSST."
        raise InputError(problem, field="model.name", value=base.model.name, remedy=remedy)
    grids = dict[Pair, Pair]()
    for stride in (shape[1], *search.strides):
        whole = override(base, {"model.stride": stride, "patchout": Patchout()})
        if (grid := summarize_model(whole, classes).grid) is not None:
            grids[stride] = grid
    axes: dict[str, Range | Mapping[Any, Any]] = {"kind": {kind: kind for kind in search.kinds}}
    for name in (name for kind in search.kinds for name in rates_of(kind)):
        axes[name] = search.rates if name == "rate" else search.axis_rates
    axes |= {"stride": {str(stride): stride for stride in grids}} if len(grids) > 1 else {}
    for name, own in search.fields.items():
        axes[name] = own if isinstance(own, Range) else {_label(value): value for value in own}
    first, values = {"kind": "none"}, flatten(asdict(base))
    first |= {"stride": str(next(iter(grids)))} if len(grids) > 1 else {}
    for name in search.fields:
        axis, value = axes[name], values.get(name)
        inside = isinstance(axis, Range) and value is not None and axis.low <= value <= axis.high
        if inside or (not isinstance(axis, Range) and value in axis.values()):
            first[name] = _label(value)
    middles = {"rate": search.rates.middle, **dict.fromkeys(_RATES[1:], search.axis_rates.middle)}
    starts = [
        {**first, "kind": kind, **{name: middles[name] for name in rates_of(kind)}}
        for kind in sorted(search.kinds, key=lambda kind: kind != "none")
    ]
    return Space(axes, grids, base.patchout, first, starts)


def _label(value: Any) -> Any:
    """What Optuna takes for a choice."""
    return value if isinstance(value, str | int | float | None) else str(value)


def rates_of(kind: str) -> tuple[str, ...]:
    """The rates that a kind of patchout takes: none, one, or one for each axis."""
    fields = PATCHOUTS.get(kind).build.fields
    if {*_AXES} <= {*fields}:
        return _RATES[1:]
    if fields and "rate" not in fields:
        remedy = "Leave it out."
        raise InputError("this kind takes no rate", field="search.kinds", value=kind, remedy=remedy)
    return ("rate",) if fields else ()


def counted(params: Params, grid: Pair, like: Patchout | None = None) -> Patchout:
    """Turns kind and rates into counts on a grid, with the scope of another setting.

    A rate that would drop all patches leaves one, or one row or column.
    """
    kind, counts = params["kind"], dict[str, Any]()
    fields = PATCHOUTS.get(kind).build.fields
    sizes = {"frequency": grid[0], "time": grid[1]}
    if "rate" in params:
        size = next((sizes[axis] for axis in _AXES if axis in fields), grid[0] * grid[1])
        resolved = resolve(Patchout(kind, rate=min(params["rate"], 1 - 1 / size)), grid)
        counts = {"patches": grid[0] * grid[1] - resolved.kept}
        counts |= {"frequency": grid[0] - resolved.kept_rows}
        counts |= {"time": grid[1] - resolved.kept_columns}
    for axis in _AXES if "time rate" in params else ():
        counts[axis] = min(round(params[f"{axis} rate"] * sizes[axis]), sizes[axis] - 1)
    counts = {name: count for name, count in counts.items() if name in fields}
    if not any(counts.values()):
        return Patchout()
    nothing = dict.fromkeys((*_AXES, "patches", "rate"))
    return replace(like or Patchout(), kind=kind, **{**nothing, **counts})


def is_same(one: Recipe, other: Recipe, classes: int) -> bool:
    """Whether two recipes are the same, although one may give a rate and the other counts."""
    if one != replace(other, patchout=one.patchout):
        return False
    return summarize_model(one, classes).patchout == summarize_model(other, classes).patchout


def setting_name(params: Params) -> str:
    """The name of a setting: ``time 0.375``, ``none, stride (6, 6), learning_rate 0.003``."""
    texts = {n: f"{v:g}" if isinstance(v, float) else str(v) for n, v in params.items()}
    patchout = " ".join(texts.pop(name) for name in ("kind", "rate") if name in texts)
    return ", ".join((patchout, *(f"{n.rpartition('.')[2]} {v}" for n, v in texts.items())))
