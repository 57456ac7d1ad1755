from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from passt_bench.cli import main
from passt_bench.cli.measure import announcement
from passt_bench.errors import InputError
from passt_bench.intervals import phase_intervals, ratio_intervals
from passt_bench.measure.target import PublishedProtocol
from passt_bench.models import PaSST
from passt_bench.records.files import unpack_json
from passt_bench.records.store import Store, comparison_names, read_comparison
from passt_bench.registry import MODELS
from passt_bench.report.build import build_comparison, render_index
from passt_bench.runner.compare import compare, default_name, subjects
from passt_bench.runner.cost import foresee_cost, plan_cost
from passt_bench.runner.estimates import Foreseen
from passt_bench.spec import DataSpec, MeasurementSpec, ModelSpec, Patchout, Recipe, TrainingSpec

PAPER = Recipe(
    ModelSpec("passt_s"), data=DataSpec(seconds=10.0), training=TrainingSpec(batch_size=12)
)
CLASSES = 4
SMALL = Recipe(
    ModelSpec("passt_s"),
    data=DataSpec(seconds=0.5),
    training=TrainingSpec(batch_size=2),
    measurement=MeasurementSpec(warmup_steps=1, rounds=6, most_rounds=6, steps=1),
)


def test_models_come_with_their_published_patchout() -> None:
    found = subjects(["passt_b", "passt_u", "passt_s", "passt_s:stride=16"], PAPER)
    assert found["passt_b"].patchout == Patchout()
    assert found["passt_u"].patchout == Patchout("unstructured", patches=400)
    assert found["passt_s"].patchout == Patchout("structured", time=40, frequency=4)
    assert found["passt_s: stride=16"].model.stride == (16, 16)
    assert found["passt_s"].frontend.sampling_rate == 32000


@pytest.mark.parametrize("pair", ["[8,12]", "8,12"])
def test_fields_by_short_and_dotted_names(pair: str) -> None:
    fields = (f"stride={pair}", "width=96", "patchout.kind=time", "patchout.rate=0.5", "threads=2")
    found = subjects([f"passt_micro:{','.join(fields)}", "passt_micro"], SMALL)
    recipe = found[f"passt_micro: {', '.join(fields)}"]
    assert recipe.model.stride == (8, 12)
    assert recipe.model.width == 96
    assert recipe.patchout == Patchout("time", rate=0.5)
    assert recipe.engine.threads == 2


def test_overrides_hold_for_all() -> None:
    found = subjects(["passt_micro", "passt_tiny"], SMALL, {"model.depth": 1})
    assert {recipe.model.depth for recipe in found.values()} == {1}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["passt_s"], "at least two"),
        (["passt_s", "passt_s"], "named twice"),
        (["passt_s", "past_s"], "model = 'past_s': unknown model.*Did you mean"),
        (["passt_s", "passt_s:strid=3"], "strid = 3: unknown field"),
        (["passt_s", "passt_s:stride=wide"], "stride = 'wide'"),
        (["passt_s", "passt_s:stride"], "no value given"),
        (["passt_s", "passt_s:stride=10,depth=12,width=768"], "has the same cost settings"),
    ],
)
def test_bad_subjects(items: list[str], message: str) -> None:
    if "same cost" in message:
        items = ["passt_micro", "passt_micro:patchout.kind=none"]
    with pytest.raises(InputError, match=message):
        subjects(items, SMALL)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_table", {item.name: item for item in MODELS.all()})
    packages = ("numpy", "a-package")
    MODELS.register("wrapped", version=1, summary="another's", packages=packages)(PaSST)
    with pytest.raises(InputError) as refused:
        subjects(["passt_s", "wrapped"], SMALL)
    assert (refused.value.field, refused.value.value) == ("model", "wrapped")
    assert "not installed: a-package." in str(refused.value)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real comparison through the command line, with profiles and the published protocol."""
    folder = tmp_path_factory.mktemp("compared")
    words = "compare passt_micro passt_micro:patchout.kind=time,patchout.rate=0.5 panns_micro"
    words += " --batch 2 --seconds 0.5 --classes 4 --session-limit 1 --steps 1 --published"
    words += " --published-batch 3 --published-steps 2 --profile --name mine"
    arguments = [*words.split(), "--runs", str(folder / "runs"), "--reports", str(folder / "rep")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["passt-bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code in (0, None)
    return folder


def test_the_record_names_the_arms(compared: Path) -> None:
    assert comparison_names(compared / "runs") == ["mine"]
    record = read_comparison("mine", compared / "runs")
    assert record.baseline == "passt_micro"
    assert [v.name for v in record.variants][2] == "panns_micro"
    assert record.command.startswith("passt-bench compare passt_micro")
    assert str(compared) not in record.command
    session = Store(compared / "runs").sessions()[0]
    assert record.sessions == (session.key,)
    assert [arm.status for arm in session.arms] == ["ok"] * 3
    assert session.published_protocol == {"batch": 3, "warmup": 10, "steps": 2}
    assert all(arm.published and arm.published > 0 for arm in session.arms)


def test_every_statistic_comes_from_the_raw_samples(compared: Path) -> None:
    store = Store(compared / "runs")
    session = store.sessions()[0]
    path = store.folder(session.key) / "samples.json.gz"
    samples = unpack_json(path.read_bytes())
    for arm in session.arms:
        assert phase_intervals(samples[arm.key]) == arm.phases
        assert ratio_intervals(samples[arm.key], samples[session.baseline]) == arm.ratios


def test_the_page_and_its_files(compared: Path) -> None:
    folder = compared / "rep" / "mine"
    page = (folder / "comparison.html").read_text()
    for text in ("The published speed test", "panns_micro", "Time of a training step", "Memory"):
        assert text in page
    tables = {path.name for path in (folder / "costs").iterdir()}
    wanted = {"speed", "training", "inference", "memory", "arithmetic", "published"}
    assert {f"{name}.{kind}" for name in wanted for kind in ("csv", "md", "tex")} <= tables
    assert {"costs.svg", "costs.csv"} <= tables


def test_throughput_and_mfu_are_ratios_with_intervals(compared: Path) -> None:
    folder = compared / "rep" / "mine" / "costs"
    speed, arithmetic, training, published = (
        pd.read_csv(folder / f"{name}.csv", index_col="variant")
        for name in ("speed", "arithmetic", "training", "published")
    )
    for name in speed.index:
        step, flops = training.loc[name], arithmetic.loc[name, "flops_ratio"]
        for end, other in (("", ""), ("_low", "_high"), ("_high", "_low")):
            faster = pytest.approx(1 / step[f"train_step_ratio{other}"], rel=1e-4)
            assert speed.loc[name, f"clips_ratio{end}"] == faster
            assert published.loc[name, f"ours_speedup{end}"] == faster
            share = pytest.approx(flops / step[f"train_step_ratio{other}"], rel=1e-4)
            assert arithmetic.loc[name, f"mfu_ratio{end}"] == share
    assert arithmetic["tokens_ratio"].iloc[1] < 1
    assert "flops_inference_ratio" in arithmetic


def test_the_page_is_rendered_again_from_what_it_keeps(compared: Path, tmp_path: Path) -> None:
    first = (compared / "rep" / "mine" / "comparison.html").read_bytes()
    build_comparison("mine", tmp_path / "empty", compared / "rep")
    assert (compared / "rep" / "mine" / "comparison.html").read_bytes() == first
    assert "mine/comparison.html" in render_index(compared / "rep").read_text()


def test_profiles_bear_names(compared: Path) -> None:
    names = sorted(path.name for path in (compared / "runs" / "profiles" / "mine").iterdir())
    assert len(names) == 6
    assert "panns_micro.operators.txt" in names
    assert "aten::" in (compared / "runs" / "profiles" / "mine" / names[0]).read_text()


def test_progress_rises_and_ends_with_the_records(tmp_path: Path) -> None:
    store, seen = Store(tmp_path), []

    def tell(share: float, text: str) -> None:
        seen.append((share, text.split(" ")[0]))
        assert share < 1 or store.sessions()

    compare(
        "mine",
        subjects(["passt_micro", "panns_micro"], SMALL),
        CLASSES,
        store,
        published=PublishedProtocol(2, warmup=1, steps=1),
        profile=True,
        progress=tell,
    )
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-2] < shares[-1] == 1
    parts = list(dict.fromkeys(text for _, text in seen))
    assert parts == ["building", "warm-up", "round", "profiling", "the", "written"]


def test_what_is_said_beforehand() -> None:
    one = announcement(3, PAPER, Foreseen(apart=60, rounds=(30.0,)))
    assert one == (
        "3 models, 12 clips of 10 s per step; at least 6 rounds, about 4 min; more until the "
        "ratios are precise to ±3 %, but for at most 50 s."
    )
    two = announcement(3, PAPER, Foreseen(apart=60, rounds=(30.0, 30.0)))
    assert "at least 6 rounds in each of 2 sessions, about 7 min" in two


def test_what_is_foreseen_follows_the_settings() -> None:
    recipes = subjects(["passt_micro", "panns_micro"], SMALL)
    found = foresee_cost(plan_cost(recipes, "passt_micro", CLASSES))
    assert len(found.rounds) == 1
    everything = {"published": PublishedProtocol(), "profiles": Path()}
    more = foresee_cost(plan_cost(recipes, "passt_micro", CLASSES, **everything))
    assert more.apart > found.apart
    assert more.rounds == found.rounds


def test_a_comparison_that_was_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no comparison of this name"):
        read_comparison("nothing", tmp_path)


def test_a_broken_comparison_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "comparisons" / "x.json"
    path.parent.mkdir()
    path.write_text('{"name": "x"')
    with pytest.raises(InputError, match=r"x\.json"):
        read_comparison("x", tmp_path)
    path.write_text(
        json.dumps({"name": "x", "baseline": "a", "variants": [], "sessions": [], "schema": 99})
    )
    with pytest.raises(InputError, match="unknown version of the schema"):
        read_comparison("x", tmp_path)


def test_names_for_files() -> None:
    assert default_name(["passt_s", "passt_s:stride=16"]) == "compare-passt_s-passt_s-stride-16"
    assert len(default_name(["passt_s:patchout.kind=unstructured"] * 5)) <= 60
