from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from commands import give

from passt_bench.errors import InputError
from passt_bench.intervals import phase_intervals, ratio_intervals
from passt_bench.models import PaSST
from passt_bench.records.files import unpack_json
from passt_bench.records.store import Store
from passt_bench.registry import MODELS
from passt_bench.report.build import build_study, render_index
from passt_bench.runner.compare import (
    as_study,
    default_name,
    foreign_patchout,
    shorter,
    subjects,
)
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.plan import plan_study
from passt_bench.runner.prediction import Predictor
from passt_bench.runner.request import Paths
from passt_bench.spec import DataSpec, MeasurementSpec, ModelSpec, Patchout, Recipe, TrainingSpec

CLASSES = 4
SMALL = Recipe(
    ModelSpec("passt_s"),
    data=DataSpec(seconds=0.5),
    training=TrainingSpec(batch_size=2),
    measurement=MeasurementSpec(warmup_steps=1, restarts=1, rounds=6, most_rounds=6, steps=1),
)


def test_subjects_have_their_published_settings_and_changed_fields() -> None:
    found = subjects(["passt_b", "passt_u", "passt_s", "passt_s:stride=16"], SMALL)
    assert {name: recipe.patchout for name, recipe in found.items()} == {
        "passt_b": Patchout(),
        "passt_u": Patchout("unstructured", patches=400),
        "passt_s": Patchout("structured", time=40, frequency=4),
        "passt_s: stride=16": Patchout("structured", time=40, frequency=4),
    }
    assert found["passt_s: stride=16"].model.stride == (16, 16)
    assert found["passt_s"].frontend.sampling_rate == 32000
    for pair in ("[8,12]", "8,12"):
        fields = (f"stride={pair}", "width=96", "patchout.kind=time", "patchout.rate=0.5")
        found = subjects([f"passt_micro:{','.join(fields)},threads=2", "passt_micro"], SMALL)
        recipe = found[f"passt_micro: {', '.join(fields)}, threads=2"]
        assert (recipe.model.stride, recipe.model.width) == ((8, 12), 96)
        assert (recipe.patchout, recipe.engine.threads) == (Patchout("time", rate=0.5), 2)
    found = subjects(["passt_micro", "passt_tiny"], SMALL, {"model.depth": 1})
    assert {recipe.model.depth for recipe in found.values()} == {1}
    assert default_name(["passt_s", "passt_s:stride=16"]) == "compare-passt_s-passt_s-stride-16"
    assert len(default_name(["passt_s:patchout.kind=unstructured"] * 5)) <= 60


def test_a_comparison_that_takes_hours_says_how_to_shorten_it(tmp_path: Path) -> None:
    for models, long in (
        (["panns_micro", "panns_micro:width=4"], False),
        (["cnn14", "cnn10"], True),
    ):
        study = as_study("it", subjects(models, Recipe(data=DataSpec("esc50", seconds=10.0))))
        plan = plan_study(study, Datasets(Paths(tmp_path)))
        found = shorter(plan.record, Predictor(tmp_path))
        assert ("--set measurement.restarts=1" in found) == long


def test_published_patchout_on_another_grid_is_told_with_the_rate() -> None:
    """PaSST-S drops 4 of 12 rows and 40 of 99 columns: 60 % of the patches."""
    own = "passt_s:stride=16,patchout.time=20,patchout.frequency=2"  # counts of one's own
    items = ["passt_s", "passt_s:stride=16", own, "passt_s_n", "passt_b", "cnn14"]
    ten, five = (replace(SMALL, data=DataSpec(seconds=seconds)) for seconds in (10, 5.1))
    (text,) = foreign_patchout(subjects(items, ten))
    assert "60 % of 12 x 99" in text and "of 8 x 62" in text
    assert text.endswith("passt_s:stride=16,patchout.kind=structured,patchout.rate=0.6")
    again = [text.rsplit(" ", 1)[1], "passt_s"]
    assert foreign_patchout(subjects(again, ten)) == []
    (text,) = foreign_patchout(subjects(["passt_s", "passt_b"], five))
    assert "of 12 x 50" in text or "of 12 x 49" in text
    with pytest.raises(InputError, match="the grid has only") as caught:
        foreign_patchout(subjects(["passt_s", "passt_b"], SMALL))
    assert (caught.value.source, "rate=0.6" in str(caught.value)) == ("passt_s", True)


@pytest.mark.parametrize(
    ("items", "field", "value"),
    [
        (["passt_s"], "compare", "passt_s"),
        (["passt_s", "passt_s"], "compare", "passt_s"),
        (["passt_s", "past_s"], "model", "past_s"),
        (["passt_s", "passt_s:strid=3"], "strid", 3),
        (["passt_s", "passt_s:stride=wide"], "model.stride", "wide"),
        (["passt_s", "passt_s:stride"], "stride", None),
        (["passt_micro", "passt_micro:patchout.kind=none"], "compare",
         "passt_micro: patchout.kind=none"),
        (["passt_s", "wrapped"], "model", "wrapped"),
    ],
)  # fmt: skip
def test_bad_subjects(
    items: list[str], field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODELS, "_table", {item.name: item for item in MODELS.all()})
    packages = ("numpy", "a-package")  # the second is not installed
    MODELS.register("wrapped", version=1, summary="another's", packages=packages)(PaSST)
    with pytest.raises(InputError) as refused:
        subjects(items, SMALL)
    assert (refused.value.field, refused.value.value) == (field, value)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real comparison through the command line, with the published protocol."""
    folder = tmp_path_factory.mktemp("compared")
    words = "compare passt_micro passt_micro:patchout.kind=time,patchout.rate=0.5 panns_micro"
    words += " --batch 2 --seconds 0.5 --set data.name=esc50 --set measurement.seconds=1"
    words += " --set measurement.restarts=2 --set measurement.steps=1"
    words += " --published --published-batch 3 --published-steps 2 --name mine"
    words += f" --runs {folder / 'runs'} --reports {folder / 'rep'}"
    result = give(words.split())
    assert result["status"] == 0, result["printed"]
    return folder


def test_the_record_names_the_arms_and_comes_from_the_raw_samples(compared: Path) -> None:
    store = Store(compared / "runs")
    assert store.studies() == ["mine"]
    record = store.study("mine")
    assert record.baseline == "passt_micro"
    assert [v.name for v in record.variants][2] == "panns_micro"
    assert len(record.fingerprint.classes) == 50
    assert record.command.startswith("passt-bench compare passt_micro")
    assert str(compared) not in record.command
    (session,) = store.sessions()
    assert [arm.status for arm in session.arms] == ["ok"] * 3
    assert session.published_protocol == {"batch": 3, "warmup": 10, "steps": 2}
    assert len(session.restarts) == 2 and sum(session.restarts) == session.rounds
    samples = unpack_json(store.folder(session.key) / "samples.json.gz")
    for arm in session.arms:
        assert arm.published and arm.published > 0
        own, base = samples[arm.key], samples[session.baseline]
        assert phase_intervals(own, session.restarts) == arm.phases
        assert ratio_intervals(own, base, session.restarts) == arm.ratios


def test_the_page_and_its_files(compared: Path, tmp_path: Path) -> None:
    folder = compared / "rep" / "mine"
    page = (folder / "index.html").read_bytes()
    for text in (
        b"The published speed test",
        b"panns_micro",
        b"Tokens and arithmetic",
        b"2 processes per variant",
        b"95 % intervals that cover differences between processes",
    ):
        assert text in page
    kept = {path.name for path in (folder / "tables").iterdir()}
    wanted = {"speed", "cost", "memory", "ratios", "arithmetic", "published"}
    assert {f"{name}.{kind}" for name in wanted for kind in ("csv", "md", "tex")} <= kept
    assert {"costs.svg", "costs.csv"} <= {path.name for path in (folder / "figures").iterdir()}
    # The report can be rendered again from what it keeps.
    build_study("mine", tmp_path / "empty", compared / "rep")
    assert (folder / "index.html").read_bytes() == page
    assert "mine/index.html" in render_index(compared / "rep").read_text()
    store = Store(compared / "runs")
    arms = {arm.key: arm.phases for arm in store.sessions()[0].arms}
    whole = {
        v.name: sum(arms[v.arm][phase].median for phase in ("train_step", "frontend"))
        for v in store.study("mine").variants
    }
    # Throughput is a ratio with an interval.
    speed, ratios, published = (
        pd.read_csv(folder / "tables" / f"{name}.csv", index_col="variant")
        for name in ("speed", "ratios", "published")
    )
    for name, ratio in speed["whole_ratio"].items():
        assert ratio == pytest.approx(whole[name] / whole["passt_micro"], rel=1e-4)
    assert ratios[["inference_1_ratio", "train_peak_ratio"]].iloc[0].to_list() == [1, 1]
    for end, other in (("", ""), ("_low", "_high"), ("_high", "_low")):
        faster = pytest.approx(1 / ratios[f"train_step_ratio{other}"], rel=1e-4)
        assert speed[f"clips_ratio{end}"].to_numpy() == faster
        assert published[f"ours_speedup{end}"].to_numpy() == faster
    assert ratios["tokens_ratio"].iloc[1] < 1
