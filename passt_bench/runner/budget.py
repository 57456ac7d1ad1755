"""Gives the variants of a study equal budgets: whole steps that cost as much as the baseline's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from passt_bench.analysis.budgets import clip_seconds
from passt_bench.analysis.frame import measured_arms
from passt_bench.errors import located
from passt_bench.records.run import StudyRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store
from passt_bench.runner.estimates import summarize_model
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import Study, Variant, override
from passt_bench.training.batches import epoch_steps, total_steps


def with_budget(
    study: Study,
    variant: Variant,
    clips: int,
    classes: int,
    ratios: Mapping[str, float] | None = None,
) -> Recipe:
    """The recipe of a variant with as many steps as its budget pays for.

    A budget of 1 is what the baseline costs. The number of steps is rounded, by 0.5 %
    at most, because a training has a hundred steps at least.

    Args:
        study: says what its variants share.
        variant: one of them.
        clips: number of training clips of a run.
        classes: number of the models' outputs.
        ratios: variant → seconds of a clip in training, divided by the baseline's, for a budget of
            seconds; where it or the baseline is missing, FLOPs stand for them.

    Raises:
        InputError: the study shares tokens, and a model has none.
    """
    shared = variant.shares or study.shared

    def price(of: Variant, recipe: Recipe) -> float:
        """What a step costs, in the unit that is shared."""
        if shared == "steps":
            return 1.0
        summary, batch = summarize_model(recipe, classes), recipe.training.batch_size
        if shared == "tokens":
            if not summary.tokens:
                remedy = "Share 'flops' or 'seconds'."
                raise study.error("a model without tokens shares none", "shared", "tokens", remedy)
            return batch * summary.tokens
        return batch * (ratios[of.name] if shared == "seconds" and ratios else summary.flops)

    recipe = study.recipe(variant)
    if ratios and not {study.baseline, variant.name} <= {*ratios}:
        ratios = None  # both in the same unit
    own = total_steps(recipe.training, clips)
    if shared == "epochs":
        steps = round(variant.budget * own)
    else:
        first = study.variant(study.baseline)
        base = study.recipe(first)
        unit = variant.budget * total_steps(base.training, clips) * price(first, base)
        steps = round(unit / price(variant, recipe))
    if steps == own:
        return recipe
    with located(study.place(variant.name)):
        return override(recipe, {"training.steps": steps})


def spent(recipe: Recipe, clips: int, classes: int) -> dict[str, float]:
    """Epochs, steps, tokens and FLOPs of a training over so many clips."""
    summary, steps = summarize_model(recipe, classes), total_steps(recipe.training, clips)
    seen = steps * recipe.training.batch_size
    return {
        "epochs": steps / epoch_steps(recipe.training, clips),
        "steps": steps,
        "tokens": seen * summary.tokens,
        "flops": seen * summary.flops,
    }


def known_ratios(study: StudyRecord, store: Store) -> dict[str, float] | None:
    """The ratios that a study on record was planned with and that hold for these variants.

    They hold if all variants cost what they cost there; None if there is no such study.
    """
    wanted = {variant.name: variant.arm for variant in study.variants}
    for name in store.studies():
        other = store.study(name)
        arms = {variant.name: variant.arm for variant in other.variants}
        if (
            other.step_ratios
            and other.baseline == study.baseline
            and wanted.items() <= arms.items()
        ):
            return {name: other.step_ratios[name] for name in wanted}
    return None


def step_ratios(study: StudyRecord, sessions: Iterable[SessionRecord]) -> dict[str, float] | None:
    """Variant → seconds of a clip in training divided by the baseline's; None if one is unknown.

    From the oldest sessions that measured them, so that later ones change nothing.
    """
    measured = measured_arms(study, sessions, oldest=True)
    found = dict(clip_seconds(study, {name: arm for name, (_, arm) in measured.items()}))
    return found if {variant.name for variant in study.variants} <= {*found} else None
