"""Studies: a question, a base recipe, and variants, which change the recipe by dotted names."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from itertools import combinations, product
from typing import Any, Literal, get_args

from passt_bench.errors import InputError, check_known, choose_from, located
from passt_bench.registry import MODELS, PATCHOUTS
from passt_bench.spec.codec import OpenSpec, own_options, python_name, validate
from passt_bench.spec.recipe import Patchout, Recipe
from passt_bench.spec.search import Search

DEFAULT_MARGIN = 0.02
INTERVAL_FROM = 3  # seeds; with fewer there is no interval and no verdict
MOST_LOOKS = 5
PRIMARY = "(primary)"
TUNING_SEED = 1000  # the first seed of the runs that tune a study
Shared = Literal["epochs", "steps", "tokens", "flops", "seconds"]
Contrasts = dict[str, dict[str, float]]  # contrast → variant → weight


@dataclass(frozen=True)
class Variant:
    """A named change to the base recipe: dotted field name → value, see `override`.

    A ``reference`` only shows a scale and does not answer the question: it is compared like the
    others, but headlines do not count it. The changes ``cuda`` are added if the base's device is
    a GPU, which computes other batches and in other ways than a CPU. It is trained for ``budget``
    times what the study's variants share, or what it ``shares`` itself with the baseline.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: bool = False
    cuda: Mapping[str, Any] = field(default_factory=dict)
    budget: float = 1.0
    shares: Shared | None = None


@dataclass(frozen=True)
class Tune:
    """Values to try for each variant before the study; the best of them is used.

    Every combination is trained for ``budget`` times what the variants share, once for all
    variants that differ in nothing but their budget, with seeds that the study does not use, and
    judged by the study's metric on a validation split cut from the training clips (of the first
    fold).
    """

    levels: Mapping[str, tuple[Any, ...]]  # dotted field → values, see `override`
    budget: float = 1.0
    seeds: int = 1  # number of runs of each combination

    def combinations(self) -> list[dict[str, Any]]:
        """The changes of each combination."""
        grid = product(*self.levels.values())
        return [dict(zip(self.levels, values, strict=True)) for values in grid]


@dataclass(frozen=True)
class Study:
    """A controlled study: variants of a base recipe, compared with one of them."""

    name: str  # also of its file
    question: str  # one sentence
    base: Recipe
    variants: tuple[Variant, ...]  # one is trained and evaluated; more are compared
    baseline: str  # name of the variant that the others are compared with
    metric: str = "mAP"  # the one that verdicts are about
    # The blocks: each variant runs with each seed; none: nothing is trained, only costs measured.
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    # What the training of each variant costs as much of as that of the baseline.
    shared: Shared = "epochs"
    folds: tuple[int, ...] | None = None  # to hold out, of data with folds; None: all
    margin: float | None = None  # largest difference that counts as the same; None: 0.02
    # Numbers of the seeds at which verdicts are read, each less certain for it; none: once, with
    # all of them.
    looks: tuple[int, ...] = ()
    # Further comparisons than with the baseline: family → contrast → variant → weight, which add
    # up to zero. The intervals of a family cover together. A page begins with what a family shows
    # whose name ends in `PRIMARY`.
    contrasts: Mapping[str, Contrasts] = field(default_factory=dict)
    tune: Tune | None = None
    search: Search = field(default_factory=Search)  # of `passt-bench search`
    minutes: float | None = None  # expected on two CPU cores, for the list of studies

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            remedy = "Give every variant a name of its own."
            raise self.error("two variants share a name", "variants", twice, remedy)
        if not names:
            remedy = "Add the baseline, and variants to compare with it."
            raise self.error("a study has at least one variant", "variants", names, remedy)
        problem = "the baseline is not a variant of the study"
        check_known(self.baseline, names, problem, field="baseline", source=self.name)
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise self.error("must be positive", "margin", self.margin, "Give e.g. margin=0.02.")
        whole = all(type(seed) is int and seed >= 0 for seed in self.seeds)
        if not whole or len(set(self.seeds)) != len(self.seeds):
            problem = "seeds must be distinct whole numbers from 0"
            raise self.error(problem, "seeds", self.seeds, "Give e.g. seeds=(0, 1, 2).")
        own = ((f"variants.{v.name}.shares", v.shares or self.shared) for v in self.variants)
        for place, shared in (("shared", self.shared), *own):
            check_known(shared, get_args(Shared), "unknown cost", field=place, source=self.name)
        for variant in self.variants:
            if not 0 < variant.budget < math.inf or (
                variant.name == self.baseline and variant.budget != 1
            ):
                problem = "a budget is a positive multiple of the baseline's, which is 1"
                field = f"variants.{variant.name}.budget"
                raise self.error(problem, field, variant.budget, "Give e.g. budget=2.")
        rising = all(type(look) is int for look in self.looks) and self.looks == tuple(
            sorted({*self.looks})
        )
        few = min(self.looks, default=INTERVAL_FROM) < INTERVAL_FROM
        if not rising or len(self.looks) > MOST_LOOKS or few:
            problem = f"looks must be at most {MOST_LOOKS} rising numbers of seeds from 3"
            raise self.error(problem, "looks", self.looks, "Give e.g. looks=(5, 7, 10).")
        if max(self.looks, default=0) > len(self.seeds):
            remedy = f"Give the study that many seeds, e.g. seeds=tuple(range({self.looks[-1]}))."
            problem = f"a look at more seeds than the study has ({len(self.seeds)})"
            raise self.error(problem, "looks", self.looks, remedy)
        if self.tune is not None:
            self._check_tuning(self.tune)
        self.search.check(self.name)
        families: dict[frozenset[tuple[str, float]], str] = {}
        for family, members in self.contrasts.items():
            for name, weights in members.items():
                self._check_contrast(place := f"contrasts.{family}.{name}", weights)
                other = families.setdefault(direction(weights), family)
                if other != family:  # it would have two intervals on one page
                    remedy = "Leave it out of one of them."
                    raise self.error("a contrast of another family as well", place, other, remedy)

    def _check_tuning(self, tune: Tune) -> None:
        if not tune.levels or any(len(set(values)) < 2 for values in tune.levels.values()):
            remedy = "Give e.g. {'training.learning_rate': (1e-3, 3e-3)}."
            raise self.error("tuning tries at least two values", "tune.levels", tune.levels, remedy)
        for name in tune.levels:
            if name in ("training.epochs", "training.steps", "training.checkpoint_selection"):
                remedy = "Tune another field."
                raise self.error("the study itself decides this", "tune.levels", name, remedy)
        if not 0 < tune.budget < math.inf or tune.seeds < 1:
            remedy = "Give e.g. Tune(..., budget=1, seeds=1)."
            raise self.error("must be positive", "tune", (tune.budget, tune.seeds), remedy)
        if max(self.seeds, default=0) >= TUNING_SEED:
            problem = f"tuning uses the seeds from {TUNING_SEED} on"
            raise self.error(problem, "seeds", self.seeds, "Give smaller seeds.")

    def _check_contrast(self, field: str, weights: Mapping[str, float]) -> None:
        names = [variant.name for variant in self.variants]
        for name in weights:
            check_known(name, names, "no such variant", field=field, source=self.name)
        if not any(weights.values()) or abs(sum(weights.values())) > 1e-9:
            remedy = "Give e.g. {'time .5': 1, 'frequency .5': -1}."
            raise self.error("weights must add up to zero", field, dict(weights), remedy)

    def error(self, problem: str, field: str, value: object, remedy: str) -> InputError:
        """An error in the study or in a request for it."""
        return InputError(problem, source=self.name, field=field, value=value, remedy=remedy)

    def recipe(self, variant: Variant) -> Recipe:
        """The validated recipe of a variant."""
        changes = {**variant.changes, **(variant.cuda if self.base.engine.device == "cuda" else {})}
        return override(self.base, changes, source=self.place(variant.name))

    def place(self, variant: str) -> str:
        """The study and one of its variants in words, for messages."""
        return f"study {self.name}, variant {variant!r}"

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)


def one_at_a_time(
    baseline: str, factors: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> tuple[Variant, ...]:
    """The baseline, and one variant for each level of each factor (factor → level → changes)."""
    levels = (level for group in factors.values() for level in group.items())
    return (Variant(baseline), *(Variant(name, dict(change)) for name, change in levels))


def factorial(factors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> tuple[Variant, ...]:
    """Every combination of the levels, named ``level, level``."""
    variants = []
    for combination in product(*(group.items() for group in factors.values())):
        changes: dict[str, Any] = {}
        for _, change in combination:
            changes.update(change)
        variants.append(Variant(", ".join(name for name, _ in combination), changes))
    return tuple(variants)


def pairwise(*names: str) -> Contrasts:
    """Each variant minus each one after it."""
    return {f"{a} − {b}": {a: 1.0, b: -1.0} for a, b in combinations(names, 2)}


def direction(weights: Mapping[str, float]) -> frozenset[tuple[str, float]]:
    """What contrasts share that are multiples of each other, or the negative of it."""
    used = {name: weight for name, weight in weights.items() if weight}
    return frozenset((name, round(weight / used[min(used)], 9)) for name, weight in used.items())


def pair_of(weights: Mapping[str, float]) -> tuple[str, ...]:
    """The two variants whose difference a contrast is; empty if it is another one."""
    used = {name: weight for name, weight in weights.items() if weight}
    pair = sorted(used.values()) == [-1.0, 1.0]
    return tuple(sorted(used, key=used.__getitem__, reverse=True)) if pair else ()


def is_interaction(weights: Mapping[str, float]) -> bool:
    """Whether weights of variants named ``ROW, COLUMN`` sum to zero in each row and column."""
    sums: dict[tuple[int, str], float] = {}
    for name, weight in weights.items():
        for place in enumerate(name.partition(", ")[::2]):
            sums[place] = sums.get(place, 0.0) + weight
    return any(weights.values()) and all(abs(total) < 1e-9 for total in sums.values())


def slope(points: Mapping[str, float], step: float = 1.0) -> dict[str, float]:
    """The weights of the least-squares slope over a quantity, variant → value, for a step of it."""
    middle = sum(points.values()) / len(points)
    square = sum((x - middle) ** 2 for x in points.values())
    return {name: step * (x - middle) / square for name, x in points.items()}


def effects(*factors: Sequence[str]) -> dict[str, Contrasts]:
    """Main effects and interactions of two factors of a `factorial` study.

    Levels are compared with the first of their factor.

    Args:
        factors: the levels of each factor, as the variants' names have them.
    """

    def mean(*chosen: str) -> dict[str, float]:
        own = [x for x in product(*factors) if all(level in x for level in chosen)]
        return {", ".join(x): 1 / len(own) for x in own}

    def minus(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
        return {name: a.get(name, 0.0) - b.get(name, 0.0) for name in {**a, **b}}

    main = {f"{level} − {first}": minus(mean(level), mean(first))
            for first, *others in factors for level in others}  # fmt: skip
    both = {}
    for (first, *others), (other_first, *other_others) in combinations(factors, 2):
        for a, b in product(others, other_others):
            with_b = minus(mean(a, b), mean(first, b))
            without = minus(mean(a, other_first), mean(first, other_first))
            both[f"{a} − {first}, with {b} instead of {other_first}"] = minus(with_b, without)
    return {"main effects": main, "interactions": both}


def override(recipe: Recipe, changes: Mapping[str, Any], *, source: object = None) -> Recipe:
    """A recipe with fields replaced, e.g. ``{"model.stride": (6, 6), "patchout": Patchout(...)}``.

    Raises:
        InputError: a field is unknown, or a value is not allowed.
    """
    for name, value in changes.items():
        recipe = _put(recipe, name.split("."), value, name, source)
    checked = validate(Recipe, recipe, source=source)
    with located(source):
        for name, value in flatten(asdict(checked)).items():
            # Pydantic accepts infinity as a number, but a key cannot contain it.
            if isinstance(value, float) and not math.isfinite(value):
                remedy = "Give a finite number."
                raise InputError("not a finite number", field=name, value=value, remedy=remedy)
        if given := own_options(checked.model):
            MODELS.get(checked.model.name).build.parse_options(given)
        for name, value in own_options(checked.patchout).items():
            amounts = PATCHOUTS.get(checked.patchout.kind).build.fields
            known = (*amounts, *(item.name for item in fields(Patchout)))
            if name not in amounts:
                remedy, name = choose_from(known, name), f"patchout.{name}"
                raise InputError("unknown field", field=name, value=value, remedy=remedy)
    return checked


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of mappings as dotted names, as ``--set`` takes them, and values."""
    out: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, Mapping)
        out |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return out


def _put(node: Any, path: list[str], value: object, name: str, source: object) -> Any:
    own = python_name(type(node), path[0])
    if own is None and isinstance(node, OpenSpec):
        own = path[0]  # an option of a plug-in, which `override` checks
    if own is None:
        remedy = _suggest(node, path, name)
        raise InputError("unknown field", source=source, field=name, value=value, remedy=remedy)
    if len(path) == 1:
        return replace(node, **{own: value})
    child = getattr(node, own)
    if not is_dataclass(child):
        problem = f"{path[0]} has no fields of its own"
        remedy = f"Set {name.rpartition('.')[0]} itself."
        raise InputError(problem, source=source, field=name, value=value, remedy=remedy)
    return replace(node, **{own: _put(child, path[1:], value, name, source)})


def _suggest(node: Any, path: list[str], name: str) -> str:
    """The remedy for an unknown field; knows the fields of the parts of a recipe as well."""
    parts = {item.name: type(getattr(node, item.name)) for item in fields(node)}
    owners = [
        part for part, kind in parts.items() if is_dataclass(kind) and python_name(kind, path[0])
    ]
    hint = " or ".join(repr(f"{part}.{path[0]}") for part in owners)
    known = choose_from(parts, path[0], name.removesuffix(".".join(path)))
    return f"Did you mean {hint}? {known}" if hint else known


def parse_patchout(text: str | None, source: str = "--patchout") -> Patchout | None:
    """Patchout from ``KIND:RATE``, or no patchout from ``none``; None if there is no text.

    Raises:
        InputError: the kind is unknown, or the rate is missing or not from 0 to below 1.
    """
    if text is None:
        return None
    kind, _, rate = text.partition(":")
    with located(source):
        PATCHOUTS.get(kind)
        if not rate and text != "none":
            remedy = "Write KIND:RATE, e.g. structured:.5, or none."
            raise InputError("no rate given", field="rate", value=text, remedy=remedy)
        if rate.isdecimal() and 1 < int(rate) < 100:
            remedy = f"Did you mean {kind}:{int(rate) / 100:g}?"
            raise InputError("must be below 1", field="rate", value=rate, remedy=remedy)
        return validate(Patchout, {"kind": kind, "rate": None if text == "none" else rate})


def patchout_text(setting: Patchout, tokens: Iterable[tuple[int, int]]) -> str:
    """``structured:0.5, 34 of 66 tokens kept``; tokens kept and all, of each model."""
    given = {name: getattr(setting, name) for name in ("rate", "time", "frequency", "patches")}
    named = {name: value for name, value in given.items() if value is not None}
    amounts = [f"{name}={value:g}" for name, value in (named | own_options(setting)).items()]
    kept = dict.fromkeys(f"{some} of {every}" for some, every in tokens)
    text = f"{setting.kind}:{','.join(amounts)}".replace(":rate=", ":")
    return f"{text}, {' and '.join(kept)} tokens kept"


_NONE = ("patchout.kind", "engine.recompute")  # fields that have the value "none"


def parse_assignments(items: list[str]) -> dict[str, Any]:
    """``["training.epochs=3", "model.stride=[6,6]"]`` as a mapping; values are JSON or plain text.

    Raises:
        InputError: an item is not FIELD=VALUE.
    """
    changes: dict[str, Any] = {}
    for item in items:
        name, mark, text = item.partition("=")
        if not mark or not name:
            problem = f"no {'field' if mark else 'value'} given"
            remedy = "Write FIELD=VALUE, e.g. --set training.epochs=3."
            raise InputError(problem, source="--set", field=item, remedy=remedy)
        try:
            changes[name] = json.loads(text)
        except json.JSONDecodeError:
            unset = text in ("none", "None") and name not in _NONE
            changes[name] = None if unset else text
    return changes
