"""What is recorded and measured of a run whose patchout has a schedule."""

from __future__ import annotations

import pytest
from closed_form import vit_flops

from passt_bench.measure.target import Subject, measure_memory, run_turn, warm_up
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.estimates import foreseen_bytes, summarize_model
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Patchout, Recipe, override

RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), width=16, depth=1, heads=2),
    frontend=FrontendSpec(mels=64, hop=250),
    data=DataSpec(seconds=1.0),
    patchout=Patchout("unstructured", rate=0.75, schedule="rising"),
)


def test_facts_are_means_over_the_stages() -> None:
    facts = summarize_model(RECIPE, 3)
    assert facts.patchout["stages"] == [64, 48, 32, 16]
    assert facts.patchout["kept"] == 16
    assert (facts.tokens, facts.tokens_full) == (2 + 40, 2 + 64)
    sizes = {"width": 16, "depth": 1, "classes": 3, "patches": 64, "patch_elements": 64}
    each = [vit_flops(tokens=2 + n, backward=True, **sizes) for n in (64, 48, 32, 16)]
    assert facts.flops == sum(each) / 4
    falling = summarize_model(override(RECIPE, {"patchout.schedule": "falling"}), 3)
    assert falling.patchout["stages"] == [16, 32, 48, 64]
    assert falling.flops == facts.flops


def test_a_session_steps_through_the_stages() -> None:
    subject = RecipeFactory(RECIPE, 3)()
    work = subject.step["forward"].__self__  # type: ignore[attr-defined]
    assert subject.cycle == 4
    seen = [work._draw(2)["kept"] for _ in range(8)]
    assert [None if k is None else len(k) for k in seen] == [None, 48, 32, 16] * 2
    none = foreseen_bytes(override(RECIPE, {"patchout": Patchout()}), 3)
    assert foreseen_bytes(RECIPE, 3) == none  # the largest stage


def test_a_sample_is_the_mean_of_a_cycle() -> None:
    subject = RecipeFactory(RECIPE, 3)()
    assert len(warm_up(subject, 3)) == 3
    seconds = run_turn(subject, 2)
    parts = ("forward", "backward", "optimizer")
    assert all(len(seconds[phase]) == 2 for phase in (*parts, "train_step", "train_step_cpu"))
    assert len(seconds["inference_batch"]) == 1
    for i in range(2):
        assert sum(seconds[part][i] for part in parts) == pytest.approx(seconds["train_step"][i])


def test_memory_is_that_of_the_largest_stage() -> None:
    none = RecipeFactory(override(RECIPE, {"patchout": Patchout()}), 3)()
    scheduled, _ = measure_memory(RecipeFactory(RECIPE, 3)())
    alone, _ = measure_memory(none)
    assert scheduled["saved_for_backward"] == alone["saved_for_backward"]


def test_a_cycle_counts_its_steps() -> None:
    calls: list[int] = []
    subject = Subject(step={"forward": lambda: calls.append(1)}, cycle=3)
    subject.train(2)
    assert len(calls) == 6
    assert len(run_turn(subject, 4)["forward"]) == 4
    assert len(calls) == 18
