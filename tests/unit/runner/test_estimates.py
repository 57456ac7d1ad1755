"""How long measuring will take: arithmetic with known results, nothing timed."""

from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import pytest
from known_subjects import RECIPE
from torch import Tensor

from passt_bench.console import Stopwatch
from passt_bench.errors import InputError
from passt_bench.measure.target import PublishedProtocol
from passt_bench.models import AudioModel
from passt_bench.registry import MODELS
from passt_bench.runner import cost
from passt_bench.runner.cluster import describe_slowness
from passt_bench.runner.cost import estimate_cost_time, plan_cost
from passt_bench.runner.estimates import summarize_model
from passt_bench.runner.prediction import Predictor
from passt_bench.spec import EngineSpec, MeasurementSpec, ModelSpec, Patchout, Recipe, override

CLASSES = 3
SPEC = MeasurementSpec(warmup_steps=5, restarts=1, rounds=15, most_rounds=60, steps=3, seconds=50)
HERE = Predictor(Path("none"))


def expected(
    *recipes: Recipe, spec: MeasurementSpec = SPEC, on: Predictor = HERE, **options: object
) -> float:
    named = {str(i): replace(recipe, measurement=spec) for i, recipe in enumerate(recipes)}
    return estimate_cost_time(plan_cost(named, "0", CLASSES, **options), on)  # type: ignore[arg-type]


def least(*recipes: Recipe, spec: MeasurementSpec = SPEC, **options: object) -> float:
    """With the fewest rounds, because there is time for no more."""
    return expected(*recipes, spec=replace(spec, seconds=1e-9), **options)  # type: ignore[arg-type]


def test_a_session_by_hand() -> None:
    facts = summarize_model(RECIPE, CLASSES)
    step, inference = 2 * facts.flops / 40e9, 3 * facts.flops_inference / 40e9
    turn = 3 * step + 2 * inference
    # A process and its weights; nine steps to warm up, two for the peak, one for what is saved.
    apart = 2 + facts.parameters / 15e6 + 12 * step + 4 * inference
    assert least(RECIPE) == pytest.approx(apart + 6 * turn)
    assert expected(RECIPE) == pytest.approx(apart + 60 * turn)
    limited = expected(RECIPE, spec=replace(SPEC, most_rounds=10**9))
    assert limited == pytest.approx(apart + 50)
    # Each restart starts a process and warms up; peaks are found once, and rounds are divided.
    start = 2 + facts.parameters / 15e6 + 9 * step + 3 * inference
    several = replace(SPEC, restarts=4)
    for seconds in (least, expected):
        assert seconds(RECIPE, spec=several) - seconds(RECIPE) == pytest.approx(3 * start)
    by_default = least(RECIPE, spec=replace(SPEC, restarts=None))
    assert by_default - least(RECIPE) == pytest.approx(4 * start)
    many = least(RECIPE, spec=replace(SPEC, restarts=9))  # a round in each, at least
    assert many - least(RECIPE) == pytest.approx(8 * start + 3 * turn)


def test_what_a_model_of_ones_own_raises_is_said_with_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))

    @MODELS.register("torn", version=1, summary="fails on every batch")
    class Torn(AudioModel):
        def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
            return x + "mels"  # type: ignore[operator]

    with pytest.raises(InputError, match="failed on a batch: TypeError") as caught:
        summarize_model(replace(RECIPE, model=ModelSpec("torn")), CLASSES)
    assert (caught.value.field, caught.value.value) == ("model", "torn")
    assert "test_estimates.py:" in (caught.value.remedy or "")


def test_a_model_is_not_blamed_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*given: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("passt_bench.runner.estimates.on_meta", build)
    with pytest.raises(MemoryError):
        summarize_model(replace(RECIPE, model=ModelSpec("passt_micro", width=8)), CLASSES)


def test_models_and_batches_that_cannot_be_taken_in_chunks_are_refused() -> None:
    assert summarize_model(override(RECIPE, {"engine.accumulate": 2}), CLASSES).flops > 0
    cnn = {"model": ModelSpec(name="panns_micro", width=4, depth=2), "engine.accumulate": 2}
    for changes, problem in (({"engine.accumulate": 3}, "2 clips"), (cnn, "batch norm")):
        with pytest.raises(InputError, match=problem) as caught:
            summarize_model(override(RECIPE, changes), CLASSES)
        assert caught.value.field == "engine.accumulate"


def test_arms_and_stages_of_a_schedule_add_up() -> None:
    half = override(RECIPE, {"patchout": Patchout("time", rate=0.5)})
    assert least(RECIPE, half) == pytest.approx(least(RECIPE) + least(half))
    scheduled = override(half, {"patchout.schedule": "rising"})
    facts = summarize_model(scheduled, CLASSES)
    stages = len(facts.patchout["stages"])
    assert stages > 1
    more = least(scheduled, spec=replace(SPEC, steps=4)) - least(scheduled)
    assert more == pytest.approx(6 * stages * 2 * facts.flops / 40e9)


def test_what_follows_the_rounds_and_compiling_count() -> None:
    facts = summarize_model(RECIPE, CLASSES)
    protocol = PublishedProtocol(100, warmup=10, steps=100)
    more = least(RECIPE, published=protocol) - least(RECIPE)
    assert more == pytest.approx(110 * 100 * facts.flops / 40e9)
    compiled = override(RECIPE, {"engine": EngineSpec(compile="default")})
    assert least(compiled) == pytest.approx(least(RECIPE) + cost.COMPILE_SECONDS)


def test_a_gpu_is_expected_to_work_as_its_data_sheet_says() -> None:
    threads = override(RECIPE, {"engine.threads": 4})
    assert HERE.seconds_per_flop(RECIPE, CLASSES) == 1 / 40e9
    assert HERE.seconds_per_flop(threads, CLASSES) == 1 / 160e9
    gpu = Predictor(Path("none"), "H100")
    step = gpu.predict(RECIPE, CLASSES)
    assert step is not None
    each = gpu.seconds_per_flop(RECIPE, CLASSES)
    facts = summarize_model(RECIPE, CLASSES)
    assert each == pytest.approx(step.seconds / (2 * facts.flops))
    # Forty of each in a turn, however many the CPU would take; six rounds suffice.
    apart = 2 + facts.parameters / 15e6 + 12 * step.seconds + 4 * 3 * facts.flops_inference * each
    turn = 40 * step.seconds + 40 * 3 * facts.flops_inference * each
    for seconds in (least, expected):
        assert seconds(RECIPE, on=gpu) == pytest.approx(apart + 6 * turn)
    half = override(RECIPE, {"engine": EngineSpec(device="cuda", precision="bfloat16")})
    assert expected(half, on=gpu) > 0
    for unknown in (Predictor(Path("none"), "V100"), HERE):  # without bfloat16; without a GPU
        assert isnan(expected(half, on=unknown))


@pytest.mark.parametrize(
    ("elapsed", "share", "seconds", "said"),
    [
        (300.0, 0.25, 400.0, "3 times slower than estimated: about 15 min 0 s left."),
        (300.0, 0.25, 700.0, ""),
        (59.0, 0.25, 10.0, ""),
        (300.0, 0.01, 400.0, ""),
        (300.0, 0.25, nan, ""),
    ],
)
def test_a_machine_that_is_much_slower_than_estimated_is_named(
    elapsed: float, share: float, seconds: float, said: str
) -> None:
    clock = Stopwatch()
    clock._start -= elapsed
    assert describe_slowness(clock, share, seconds).removeprefix("This machine is ") == said
