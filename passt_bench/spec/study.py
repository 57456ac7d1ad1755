"""Studies: a question, a base recipe, variants, and the blocks that all variants share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from passt_bench.errors import InputError, choose_from
from passt_bench.spec.override import override
from passt_bench.spec.recipe import Recipe


@dataclass(frozen=True)
class Variant:
    """A named change to the base recipe.

    Attributes:
        name: of the variant in tables and figures.
        changes: dotted field name → value, see `spec.override`.
        reference: whether it is there for scale and no answer to the question: it is compared like
            the others, but headlines do not count it.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: bool = False


@dataclass(frozen=True)
class Study:
    """A controlled study.

    Attributes:
        name: equals the name of its file.
        question: what the study asks, one sentence.
        base: the recipe that variants change.
        variants: at least two, the baseline among them.
        baseline: name of the variant that the others are compared with.
        metric: the primary metric, e.g. ``mAP`` or ``accuracy``.
        seeds: the blocks; each variant runs with each seed.
        folds: held-out folds of a folded data set; None is all that the data set has.
        margin: largest difference that counts as the same; None takes 0.02, see
            docs/statistics.md.
        minutes: expected minutes on two CPU cores, for the list of studies.
    """

    name: str
    question: str
    base: Recipe
    variants: tuple[Variant, ...]
    baseline: str
    metric: str = "mAP"
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: tuple[int, ...] | None = None
    margin: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                raise InputError(
                    "two variants share a name",
                    source=self.name,
                    field="variants",
                    value=name,
                    remedy="Give every variant a name of its own.",
                )
        if len(names) < 2:
            raise InputError(
                "a study compares at least two variants",
                source=self.name,
                field="variants",
                value=names,
                remedy="Add a variant beside the baseline.",
            )
        if self.baseline not in names:
            raise InputError(
                "the baseline is no variant of the study",
                source=self.name,
                field="baseline",
                value=self.baseline,
                remedy=choose_from(names, self.baseline),
            )
        whole = all(type(seed) is int and seed >= 0 for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) != len(self.seeds):
            raise InputError(
                "seeds are whole numbers from 0 on, distinct, and at least one",
                source=self.name,
                field="seeds",
                value=self.seeds,
                remedy="Give e.g. seeds=(0, 1, 2).",
            )

    def recipe(self, variant: Variant) -> Recipe:
        """The validated recipe of a variant."""
        return override(self.base, variant.changes, source=f"{self.name}: {variant.name}")

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)


def one_at_a_time(
    baseline: str, factors: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> tuple[Variant, ...]:
    """The baseline, and every level of every factor alone.

    Args:
        baseline: name of the unchanged variant.
        factors: factor → level name → changes.
    """
    levels = [
        Variant(name, dict(change)) for group in factors.values() for name, change in group.items()
    ]
    return (Variant(baseline), *levels)


def factorial(factors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> tuple[Variant, ...]:
    """Every combination of the levels, named ``level, level``."""
    variants = []
    for combination in product(*(group.items() for group in factors.values())):
        changes: dict[str, Any] = {}
        for _, change in combination:
            changes.update(change)
        variants.append(Variant(", ".join(name for name, _ in combination), changes))
    return tuple(variants)
