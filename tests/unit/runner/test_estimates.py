"""How long measuring will take: arithmetic with known results, nothing timed."""

from dataclasses import replace

import pytest
from known_subjects import RECIPE

from passt_bench.errors import InputError
from passt_bench.measure.peaks import vendor_peak
from passt_bench.measure.target import PublishedProtocol
from passt_bench.runner import estimates
from passt_bench.runner.estimates import CostTime, cost_time, rate, summarize_model
from passt_bench.spec import EngineSpec, MeasurementSpec, ModelSpec, Patchout, Recipe, override

CLASSES = 3
SPEC = MeasurementSpec(warmup_steps=5, rounds=15, most_rounds=60, steps=3, seconds=50)


def alone(recipe: Recipe = RECIPE, spec: MeasurementSpec = SPEC, **options: object) -> CostTime:
    return cost_time([[recipe]], CLASSES, spec, **options)  # type: ignore[arg-type]


def test_a_turn_by_hand() -> None:
    facts = summarize_model(RECIPE, CLASSES)
    step = 2 * facts.flops / 60e9 + 0.005
    inference = (2 * facts.flops_inference / 60e9 + 0.005) + (facts.flops_inference / 60e9 + 0.005)
    found = alone()
    assert found.rounds == (pytest.approx(3 * step + 2 * inference),)
    # A process and its weights; nine steps to warm up, two for the peak, one for what is saved.
    build = 3 + 1.5 + facts.parameters / 15e6
    assert found.apart == pytest.approx(build + 12 * step + 4 * inference)


def test_models_and_batches_that_cannot_be_taken_in_chunks_are_refused() -> None:
    assert summarize_model(override(RECIPE, {"engine.accumulate": 2}), CLASSES).flops > 0
    cnn = {"model": ModelSpec(name="panns_micro", width=4, depth=2), "engine.accumulate": 2}
    for changes, problem in (({"engine.accumulate": 3}, "2 clips"), (cnn, "batch norm")):
        with pytest.raises(InputError, match=problem) as caught:
            summarize_model(override(RECIPE, changes), CLASSES)
        assert caught.value.field == "engine.accumulate"


def test_six_rounds_at_least_and_the_limits_at_most() -> None:
    found = CostTime(apart=100, rounds=(2.0, 3.0))
    assert found.least == 100 + 6 * 5
    assert found.limited(replace(SPEC, seconds=1)) == found.least
    assert found.limited(replace(SPEC, seconds=150)) == 100 + 2 * 60 + 150
    assert found.limited(replace(SPEC, seconds=1e9)) == 100 + 60 * 5
    assert CostTime().least == CostTime().limited(SPEC) == 0


def test_arms_sessions_and_stages_of_a_schedule_add_up() -> None:
    half = override(RECIPE, {"patchout": Patchout("time", rate=0.5)})
    both, first, second = cost_time([[RECIPE, half]], CLASSES, SPEC), alone(), alone(half)
    assert both.rounds[0] == pytest.approx(first.rounds[0] + second.rounds[0])
    two = cost_time([[RECIPE, half], [RECIPE]], CLASSES, SPEC)
    assert two.rounds == (both.rounds[0], first.rounds[0])
    assert two.apart == pytest.approx(both.apart + first.apart)
    scheduled = override(half, {"patchout.schedule": "rising"})
    facts = summarize_model(scheduled, CLASSES)
    stages = len(facts.patchout["stages"])
    assert stages > 1
    step = 2 * facts.flops / 60e9 + 0.005
    more = alone(scheduled, replace(SPEC, steps=4)).rounds[0] - alone(scheduled).rounds[0]
    assert more == pytest.approx(stages * step)


def test_what_follows_the_rounds_and_compiling_count() -> None:
    facts, apart = summarize_model(RECIPE, CLASSES), alone().apart
    more = alone(published=PublishedProtocol(100, warmup=10, steps=100)).apart - apart
    assert more == pytest.approx(110 * (100 * facts.flops / 60e9 + 0.005))
    assert alone(profile=True).apart > apart
    compiled = override(RECIPE, {"engine": EngineSpec(compile="default")})
    assert alone(compiled).apart == pytest.approx(apart + estimates.COMPILE_SECONDS)


def test_rates_of_devices() -> None:
    assert rate(EngineSpec(threads=4), None) == 4 * rate(EngineSpec(), None) == 240e9
    half = EngineSpec(device="cuda", precision="bfloat16")
    peak = vendor_peak("NVIDIA H200", "bfloat16")
    assert peak is not None
    assert rate(half, "NVIDIA H200") == pytest.approx(0.3 * peak[0])
    for unknown in ("A card of tomorrow", None):
        assert rate(half, unknown) == estimates.UNKNOWN_GPU_FLOPS_PER_SECOND
