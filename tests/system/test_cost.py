import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from closed_form import vit_flops
from known_subjects import RECIPE

from passt_bench.errors import InputError
from passt_bench.measure.machine import git_commit
from passt_bench.measure.memory import saved_for_backward
from passt_bench.measure.target import measure_memory, run_turn, warm_up
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store
from passt_bench.runner import cost
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.cost import CostPlan, estimate_cost_time, measure_cost, plan_cost
from passt_bench.runner.estimates import estimate_bytes, summarize_model
from passt_bench.runner.prediction import Predictor
from passt_bench.spec import (
    EngineSpec,
    FrontendSpec,
    MeasurementSpec,
    ModelSpec,
    Patchout,
    Recipe,
    override,
)

CLASSES = 3
HALF = Patchout(kind="unstructured", rate=0.5)
BASE = replace(
    RECIPE,
    measurement=MeasurementSpec(
        warmup_steps=2, restarts=1, rounds=6, most_rounds=6, steps=2, half_width=9, turn_seconds=60
    ),
)
RECIPES = {
    "all": BASE,
    "half": override(BASE, {"patchout": HALF}),
    "half again": override(BASE, {"patchout": HALF, "salt": 3, "training.epochs": 2}),
    "cnn": override(BASE, {"model": ModelSpec(name="panns_micro", width=4, depth=2)}),
}


def planned(recipes: dict[str, Recipe], store: Store, retry: tuple[str, ...] = ()) -> CostPlan:
    return plan_cost(recipes, "all", CLASSES, sessions=store.sessions(), retry=retry)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def session(store: Store) -> SessionRecord:
    (session,) = measure_cost(planned(RECIPES, store), store)
    return session


def test_variants_that_cost_the_same_are_one_arm(session: SessionRecord) -> None:
    assert [arm.recipe for arm in session.arms] == [BASE, RECIPES["half again"], RECIPES["cnn"]]
    assert [arm.status for arm in session.arms] == ["ok"] * 3
    assert (session.baseline, session.rounds) == (session.arms[0].key, 6)
    whole, half, cnn = session.arms
    columns = (whole.tokens_full - 2) // 2  # two rows of patches
    assert whole.tokens == half.tokens_full == 2 + 2 * columns
    assert half.tokens == 2 + columns
    assert (cnn.tokens, cnn.tokens_full) == (0, 0)
    for arm in (whole, half):
        sizes = {"width": 16, "depth": 1, "classes": CLASSES}
        assert arm.flops == vit_flops(tokens=arm.tokens, patch_elements=64, backward=True, **sizes)
        assert arm.flops_inference == vit_flops(
            tokens=arm.tokens_full, patch_elements=64, backward=False, **sizes
        )
        assert arm.attention == "flash_attention_for_cpu"
    assert cnn.attention == ""
    for arm in session.arms:
        assert arm.batch_size == 2
        assert {
            "train_step", "train_step_cpu", "forward", "backward", "optimizer", "inference_1",
            "inference_batch", "frontend",
        } == set(arm.phases) == set(arm.ratios)  # fmt: skip
        assert arm.memory["resident"] >= 4 * arm.parameters > 0
        assert arm.memory["train_peak"] > arm.memory["train_rise"] >= 0
        assert arm.memory["inference_peak"] > 0
        assert 0 < arm.mfu < 1
    assert half.memory["saved_for_backward"] < whole.memory["saved_for_backward"]
    assert whole.ratios["train_step"].median == whole.ratios["train_step"].high == 1.0


def test_what_is_known_here_is_not_measured_again(session: SessionRecord, store: Store) -> None:
    known = planned(RECIPES, store)
    assert known.all_known
    assert measure_cost(known, store) == []
    here = Predictor(store.root)
    assert estimate_cost_time(known, here) == 0
    new = override(BASE, {"patchout": Patchout(kind="time", rate=0.5)})
    one = planned({**RECIPES, "time": new}, store)
    alone = planned({"all": BASE, "time": new}, store)
    assert estimate_cost_time(one, here) == estimate_cost_time(alone, here)
    assert estimate_cost_time(one, here) > 0
    (second,) = measure_cost(one, store)
    assert [arm.recipe for arm in second.arms] == [BASE, new]
    assert second.key != session.key
    elsewhere = replace(session, machine={**session.machine, "cpu": "another"})
    for sessions, new in ([session], False), ([elsewhere], True):
        plan = plan_cost({"all": BASE}, "all", CLASSES, sessions=sessions)
        assert (plan.all_known, plan.new) == (not new, ())


def test_memory_that_does_not_suffice_is_a_row(tmp_path: Path) -> None:
    store = Store(tmp_path)
    huge = override(BASE, {"measurement.batch_size": 10**10})
    recipes = {"all": BASE, "half": RECIPES["half"], "huge": huge}
    seen: list[tuple[float, str]] = []

    def note(share: float, text: str) -> None:
        seen.append((share, text))
        assert share < 1 or len(store.sessions()) == 2

    first, second = measure_cost(planned(recipes, store), store, note)
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-2] < shares[-1] == 1
    starts = {text[:15]: share for share, text in reversed(seen)}
    assert starts["session 1 of 2,"] == 0
    assert starts["session 2 of 2,"] == 0.5  # two arms each
    assert [[arm.status for arm in s.arms] for s in (first, second)] == [["ok"] * 2, ["ok", "oom"]]
    failed = second.arms[1]
    assert "allocate" in (failed.message or "")
    assert failed.phases == failed.ratios == {}
    assert failed.tokens == first.arms[0].tokens
    assert planned(recipes, store).all_known  # a failure is a result
    again = planned(recipes, store, retry=("oom",))
    assert [again.recipes[key] for key in again.new] == [huge]


def test_a_setting_that_cannot_be_built_is_bad_input(tmp_path: Path) -> None:
    wrong = override(BASE, {"patchout": Patchout(kind="unstructured", patches=9999)})
    with pytest.raises(InputError) as caught:
        measure_cost(planned({"all": BASE, "wrong": wrong}, store := Store(tmp_path)), store)
    assert (caught.value.field, caught.value.value) == ("patchout.patches", 9999)


def test_arms_are_split_by_the_memory_they_want(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = {
        str(batch): override(BASE, {"measurement.batch_size": batch}) for batch in (1, 2, 3, 4)
    }
    plan = plan_cost(recipes, "1", CLASSES)
    one, two, three, four = plan.recipes
    each = estimate_bytes(recipes["4"], CLASSES)
    assert each > estimate_bytes(recipes["1"], CLASSES)
    for free, groups in (
        (10 * each, [[one, two, three, four]]),
        (3.9 * each, [[one, two, three], [one, four]]),
        (0, [[one, two], [one, three], [one, four]]),
    ):
        monkeypatch.setattr(cost, "_free_bytes", lambda _, free=free: free)
        assert cost._groups(plan) == groups
    assert cost._groups(replace(plan, new=())) == [[one]]


@pytest.mark.parametrize(
    "changes",
    [
        {"training.loss": "ce"},
        {"engine": EngineSpec(precision="bfloat16")},
        {"engine": EngineSpec(accumulate=2)},
        {"patchout": Patchout(kind="unstructured", rate=0.5, scope="sample")},
        {"model": ModelSpec(name="panns_micro", width=4, depth=2), "training.batch_size": 1},
    ],
)
def test_every_phase_runs(changes: dict[str, object]) -> None:
    recipe = override(BASE, changes)
    subject = RecipeFactory(recipe, CLASSES)()
    before = [tensor.clone() for tensor in subject.resident]
    subject.train(2)
    for call in subject.others.values():
        call()
    after = zip(before, subject.resident, strict=True)
    assert any(not torch.equal(old, new) for old, new in after)  # it does learn
    assert all(torch.isfinite(tensor).all() for tensor in subject.resident)


def test_estimated_memory_covers_what_is_saved() -> None:
    for recipe in RECIPES.values():
        subject = RecipeFactory(recipe, CLASSES)()
        saved = saved_for_backward(subject.step["forward"], subject.resident)
        assert 0 < saved <= estimate_bytes(recipe, CLASSES) - 400 * 1024**2


def test_the_commit_counts_sources_and_no_rendered_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PASST_BENCH_COMMIT", raising=False)
    package, page = tmp_path / "passt_bench", tmp_path / "reports" / "page.html"
    for file in (package / "__init__.py", page):
        file.parent.mkdir()
        file.write_text("first")
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    commit = git_commit(package)
    assert commit is not None and len(commit) == 40
    page.write_text("second")
    assert git_commit(package) == commit
    (package / "__init__.py").write_text("second")
    assert git_commit(package) == f"{commit}-dirty"
    monkeypatch.setenv("PASST_BENCH_COMMIT", "given")
    assert git_commit(package) == "given"


# Of a run whose patchout has a schedule.
SCHEDULED = override(
    RECIPE,
    {
        "frontend": FrontendSpec(mels=64, hop=250),
        "data.seconds": 1.0,
        "patchout": Patchout("unstructured", rate=0.75, schedule="rising"),
    },
)


def test_facts_are_means_over_the_stages_of_a_cycle() -> None:
    facts = summarize_model(SCHEDULED, 3)
    assert facts.patchout["stages"] == [64, 48, 32, 16]
    assert facts.patchout["kept"] == 16
    assert (facts.tokens, facts.tokens_full) == (2 + 40, 2 + 64)
    sizes = {"width": 16, "depth": 1, "classes": 3, "patch_elements": 64}
    each = [vit_flops(tokens=2 + n, backward=True, **sizes) for n in (64, 48, 32, 16)]
    assert facts.flops == sum(each) / 4
    subject = RecipeFactory(SCHEDULED, 3)()
    work = subject.step["forward"].__self__
    assert subject.cycle == 4
    seen = [work._draw(2)["kept"] for _ in range(8)]
    assert [None if k is None else len(k) for k in seen] == [None, 48, 32, 16] * 2
    assert not torch.equal(seen[3], seen[7])  # each step draws anew
    falling = summarize_model(override(SCHEDULED, {"patchout.schedule": "falling"}), 3)
    assert falling.patchout["stages"] == [16, 32, 48, 64]
    assert falling.flops == facts.flops


def test_memory_and_time_of_a_cycle() -> None:
    """Memory is that of the largest stage, a sample of time the mean of all."""
    none = override(SCHEDULED, {"patchout": Patchout()})
    assert estimate_bytes(SCHEDULED, 3) == estimate_bytes(none, 3)
    subject, whole = (RecipeFactory(recipe, 3)() for recipe in (SCHEDULED, none))
    saved = [measure_memory(one)[0]["saved_for_backward"] for one in (subject, whole)]
    assert saved[0] == saved[1]
    assert len(warm_up(subject, 3)) == 3
    seconds = run_turn(subject, 2)
    parts = ("forward", "backward", "optimizer")
    assert all(len(seconds[phase]) == 2 for phase in (*parts, "train_step", "train_step_cpu"))
    assert len(seconds["inference_batch"]) == 1
