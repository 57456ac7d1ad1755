"""Studies: a question, a base recipe, variants, and the seeds and folds that variants share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from passt_bench.errors import InputError, check_known
from passt_bench.spec.override import override
from passt_bench.spec.recipe import Recipe


@dataclass(frozen=True)
class Variant:
    """A named change to the base recipe: dotted field name → value, see `spec.override`.

    A ``reference`` only shows a scale and does not answer the question: it is compared like the
    others, but headlines do not count it.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: bool = False


@dataclass(frozen=True)
class Study:
    """A controlled study: variants of a base recipe, compared with one of them."""

    name: str  # also of its file
    question: str  # one sentence
    base: Recipe
    variants: tuple[Variant, ...]  # at least two
    baseline: str  # name of the variant that the others are compared with
    metric: str = "mAP"  # the one that verdicts are about
    seeds: tuple[int, ...] = (0, 1, 2)  # the blocks: each variant runs with each seed
    folds: tuple[int, ...] | None = None  # to hold out, of data with folds; None: all
    margin: float | None = None  # largest difference that counts as the same; None: 0.02
    minutes: float | None = None  # expected on two CPU cores, for the list of studies

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            remedy = "Give every variant a name of its own."
            raise self._error("two variants share a name", "variants", twice, remedy)
        if len(names) < 2:
            remedy = "Add a variant beside the baseline."
            raise self._error("a study compares at least two variants", "variants", names, remedy)
        problem = "the baseline is not a variant of the study"
        check_known(self.baseline, names, problem, field="baseline", source=self.name)
        whole = all(type(seed) is int and seed >= 0 for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) != len(self.seeds):
            problem = "seeds must be distinct whole numbers from 0, at least one"
            raise self._error(problem, "seeds", self.seeds, "Give e.g. seeds=(0, 1, 2).")

    def _error(self, problem: str, field: str, value: object, remedy: str) -> InputError:
        return InputError(problem, source=self.name, field=field, value=value, remedy=remedy)

    def recipe(self, variant: Variant) -> Recipe:
        """The validated recipe of a variant."""
        return override(self.base, variant.changes, source=self.place(variant.name))

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
