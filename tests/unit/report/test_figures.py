"""What figures draw is known; that nothing on them collides is read off the renderer."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from study_on_disk import GROUPS, QUICK, Arm, fingerprint, write_study

from passt_bench.analysis.budgets import series_names
from passt_bench.analysis.compare import judge
from passt_bench.analysis.results import load_results
from passt_bench.errors import ContractError
from passt_bench.records.run import Picture
from passt_bench.records.store import Store
from passt_bench.registry import FIGURES
from passt_bench.report import figures
from passt_bench.report.figures import Drawing, draw_all
from passt_bench.report.figures.budgets import budgets, budgets_data
from passt_bench.report.figures.classes import classes_data, draw_classes
from passt_bench.report.figures.curves import curves_data, validation
from passt_bench.report.figures.interaction import interaction, interaction_data
from passt_bench.report.figures.patches import covered, patches_data
from passt_bench.report.figures.rates import rates_data
from passt_bench.report.figures.scaling import scaling_data
from passt_bench.report.figures.tradeoff import areas, tradeoff, tradeoff_data
from passt_bench.report.testing import FigureContract
from passt_bench.report.text import quoted
from passt_bench.report.theme import INK, MUTED, drawn_text, figure_style, overlaps, to_svg
from passt_bench.report.view import StudyView, VariantView, study_view
from passt_bench.spec import effects, factorial, override
from passt_bench.vocabulary import built_in

KINDS = ("unstructured", "time", "frequency", "structured", "block")
NAMES = figures.figure_names()


def arms() -> list[Arm]:
    """Twenty of long names and all kinds; one without a result but with a step time."""
    made = [Arm("no patch is dropped: the reference of all others")]
    for i in range(19):
        kind, rate = KINDS[i % 5], (0.25, 0.5, 0.6, 0.75)[i // 5]
        name = f"{kind} patchout with {rate:.0%} of all patches dropped anew for every batch"
        fate = {0: "error", 1: "error"} if i == 7 else None
        made.append(Arm(name, kind, rate, effect=-0.2 * rate, statuses=fate))
    return made


def drawn(root: Path, variants: Sequence[Arm], **options: Any) -> dict[str, Drawing]:
    view = study_view(load_results("quick", [write_study(root, variants, **options)]))
    return {drawing.name: drawing for drawing in draw_all(view)}


class TestFigures(FigureContract):
    @pytest.fixture(autouse=True, params=NAMES)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.figure = request.param


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        ({"name": "another"}, "drawing"),
        ({"caption": "no sentence"}, "drawing"),
        ({"data": pd.DataFrame()}, "drawing"),
        ({"caption": "Left out: nothing was run, yet it is drawn."}, "nothing_run"),
        ({}, "text"),
        ({}, "same_bytes"),
    ],
)
def test_a_figure_that_breaks_a_rule_fails_its_check(
    broken: dict[str, Any], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = count()

    def build(_: StudyView) -> Drawing:
        figure = Figure(figsize=(4, 3))
        figure.text(0.9, 0.5, f"off the canvas {next(number)}")
        data = pd.DataFrame({"mark": [1]})
        return replace(Drawing("broken", "Broken", "A caption.", data, figure), **broken)

    monkeypatch.setitem(FIGURES._table, "broken", replace(FIGURES.get("differences"), build=build))
    contract = FigureContract()
    contract.figure = "broken"
    with pytest.raises(ContractError):
        getattr(contract, f"test_{check}")()


def test_a_failing_plug_in_costs_only_its_figure(
    quick_view: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_: StudyView) -> Drawing:
        raise ZeroDivisionError("no ripples")

    own = FIGURES.get("differences")
    broken = replace(own, name="broken", build=build)
    monkeypatch.setattr(figures, "_OWN", ("differences",))
    monkeypatch.setattr(FIGURES, "_table", {"differences": own, "broken": broken})
    first, last = draw_all(quick_view)
    assert first.figure is not None
    assert (last.name, last.figure) == ("broken", None)
    assert "ZeroDivisionError: no ripples" in last.caption
    monkeypatch.setitem(FIGURES._table, "differences", broken)
    with pytest.raises(ZeroDivisionError):  # this package's own figures hide no mistake
        draw_all(quick_view)


def test_no_text_collides_or_leaves_the_canvas(tmp_path: Path) -> None:
    lost = Arm("lost", "time", 0.25, statuses={0: "diverged"})
    for drawings in (
        drawn(tmp_path / "two", QUICK[:3], seeds=(0, 1)),
        drawn(tmp_path / "twenty", arms(), seeds=(0, 1)),
        drawn(tmp_path / "one seed", (*QUICK[:3], lost), seeds=(0,), folds=(1, 2),
              metric="accuracy", data=fingerprint(60)),
    ):  # fmt: skip
        absent = {"quality_against_cost", "interaction", "validation_curves"}
        assert list(drawings) == [name for name in NAMES if name not in absent]
        with figure_style():
            for name, drawing in drawings.items():
                assert drawing.figure is not None
                assert overlaps(drawing.figure) == [], name
    assert "50 of 60 classes" in drawings["quality_by_class"].caption
    figure = drawings["quality_against_speed"].figure
    assert figure is not None
    with figure_style():
        boxes = dict(drawn_text(figure))
        axes = figure.axes[0]
        strip = axes.transAxes.transform((0, 0.2))[1]
    assert "accuracy" in boxes
    # A speed without a result is shown below all results.
    assert boxes["no result"].y1 < strip
    assert boxes["lost"].y1 < strip < boxes["none"].y0


def test_budgets_are_lines_of_one_model_and_patchout(quick_view: StudyView) -> None:
    none, quarter, half = quick_view.variants[:3]
    assert budgets_data(quick_view).empty

    def spent(v: VariantView, of: VariantView, epochs: float) -> VariantView:
        cost = {"epochs": epochs, "steps": 10 * epochs, "tokens": 1.0, "flops": 1e12 * epochs}
        return replace(v, record=replace(of.record, name=v.name, spent=cost))

    given = (spent(none, none, 4), spent(quarter, none, 8), spent(half, half, 6))
    of = replace(quick_view.study, variants=tuple(v.record for v in given))
    view = replace(quick_view, variants=given, study=of)
    data = budgets_data(view).set_index("variant")
    assert list(data["series"]) == 2 * ["passt_micro, no patchout"] + ["unstructured, 50 % dropped"]
    assert list(data["flops"]) == [4e12, 8e12, 6e12]
    assert data.loc["none", "value"] == none.value.value
    stride = override(none.record.recipe, {"model.stride": (6, 6)})
    fine = replace(none.record, name="fine", recipe=stride)
    both = replace(of, variants=(*of.variants, fine))
    assert set(series_names(both).values()) == {"none", "unstructured, 50 % dropped", "fine"}
    with figure_style():
        drawing = budgets(view)
        assert drawing.figure is not None and overlaps(drawing.figure) == []


def test_a_figure_without_data_is_a_sentence(tmp_path: Path) -> None:
    bare = [Arm(f"salt {i}", effect=0.001 * i) for i in range(3)]
    drawings = drawn(tmp_path, bare, session=False, rich=False)
    shown = {name for name, drawing in drawings.items() if drawing.figure is not None}
    assert shown == {"differences", "contrasts"}
    for name, drawing in drawings.items():
        if name not in shown:
            assert drawing.caption.startswith("Left out: ") and drawing.data.empty


def test_speed_and_cost_are_those_of_the_session(quick_view: StudyView) -> None:
    data = tradeoff_data(quick_view).set_index("variant")
    step = 0.006 + 4.4e-4 * 34  # seconds with 32 patches and 2 class tokens
    assert data.loc["time .5", "clips_per_second"] == pytest.approx(32 / step)
    assert data.loc["time .5", "clips_per_second_low"] == pytest.approx(32 / (step * 1.02))
    assert data.loc["time .5", "clips_per_second_high"] == pytest.approx(32 / (step * 0.985))
    memory = data["saved_bytes_per_clip"]  # the area of a circle
    assert memory["time .5"] == pytest.approx(9e3 * 34)
    known = memory.notna()
    assert np.ptp(areas(data)[known] / memory[known]) == pytest.approx(0, abs=1e-12)
    assert areas(data)[~known] == 0
    assert np.isnan(data.loc["stride 2", "clips_per_second"])
    data = scaling_data(quick_view)
    steps = data[data["quantity"] == "train_step"].set_index("variant")
    assert steps.loc["none", "value"] == pytest.approx(0.006 + 4.4e-4 * 66)
    assert steps.loc["CNN", "tokens"] == 0
    assert "stride 2" not in steps.index


def test_kinds_differ_by_their_mark_beside_speed(quick_view: StudyView) -> None:
    data, figure = tradeoff_data(quick_view), tradeoff(quick_view).figure
    assert figure is not None
    (axes,) = figure.axes
    marks = {
        tuple(map(float, dots.get_offsets()[0])): dots.get_paths()[0].vertices.tobytes()
        for dots in axes.collections
        if dots.get_zorder() == 4
    }
    drawn = data.dropna(subset=["clips_per_second", "value"])
    known = zip(drawn["kind"], drawn["clips_per_second"], drawn["value"], strict=True)
    found = {(kind, marks[x, y]) for kind, x, y in known}
    kinds = set(drawn["kind"])
    assert len(kinds) > 4 and len(found) == len(kinds) == len({mark for _, mark in found})
    assert {text.get_color() for text in axes.texts} <= {INK, MUTED}  # whatever the kind


def test_rates_come_from_tokens_and_groups_differ_only_in_patchout(quick_view: StudyView) -> None:
    data = rates_data(quick_view)
    rate = data.set_index("variant")["rate"]
    assert rate["unstructured .75"] == pytest.approx(0.75)  # 16 of 64 patches, 18 tokens
    assert rate["none"] == 0
    assert "CNN" not in rate and "stride 2" not in rate
    assert "stride 6, 64 patches" not in rate  # the only rate with its stride
    assert data["group"].nunique() == 1


def test_with_equal_budgets_a_panel_has_the_flops_or_the_epochs_of_what_drops_nothing() -> None:
    kept = Store(Path(__file__).parents[3] / "reports" / "quick")
    data = rates_data(study_view(load_results("quick", [kept])))
    names = ["unstructured .5", "time .5", "unstructured .75"]
    assert {group: list(own["variant"]) for group, own in data.groupby("group")} == {
        "8 × 8 patches, FLOPs of “none”": ["none", *names],
        "8 × 8 patches, epochs of “none”": ["none", *(f"{name}, 8 epochs" for name in names)],
    }


def test_variants_of_other_budgets_are_no_line_over_the_rate() -> None:
    kept = Store(Path(__file__).parents[3] / "reports" / "equal_cost")
    view = study_view(load_results("equal_cost", [kept]))
    data = rates_data(view)  # no patchout and .75 have other learning rates
    assert [*data["variant"]] == [".5, 4x", ".25, 4x"]
    lone = [v for v in view.variants if v.name != ".25, 4x"]
    assert rates_data(replace(view, variants=tuple(lone))).empty


def test_curves_have_mean_and_range_and_show_failed_runs(quick_view: StudyView) -> None:
    data = curves_data(quick_view)
    runs = next(v for v in quick_view.variants if v.name == "time .75").runs
    losses = [run.curves["train_loss"][4] for run in runs if run.status == "ok"]
    curves = data[data["variant"] == "time .75"]
    row = curves[(curves["status"] == "ok") & (curves["epoch"] == 5)].iloc[0]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(
        (np.mean(losses), min(losses), max(losses))
    )
    broken = curves[curves["status"] == "diverged"]
    assert list(broken["epoch"]) == [1, 2, 3] and set(broken["cell"]) == {"seed 1"}


def names_drawn(view: StudyView, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the figures that only some studies have."""
    monkeypatch.setattr(figures, "figure_names", lambda: [*figures._OF_SOME])
    return [drawing.name for drawing in draw_all(view)]


def test_the_validation_split_has_curves_of_its_own(
    quick_view: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "validation_curves" not in names_drawn(quick_view, monkeypatch)
    first, second, *others = quick_view.variants
    curves = {"train_loss": (0.5,) * 3, "inner/mAP": (0.1, 0.4, 0.3)}
    broken = replace(second.runs[0], status="timeout", curves={"inner/mAP": (0.2,)})
    runs = (*(replace(run, curves=curves) for run in first.runs[:4]), broken)
    view = replace(quick_view, variants=(replace(first, runs=runs), second, *others))
    assert "validation_curves" in names_drawn(view, monkeypatch)
    with figure_style():
        drawing = validation(view)
        assert drawing.figure is not None and overlaps(drawing.figure) == []
    data = drawing.data[drawing.data["status"] == "ok"]
    assert list(data["mean"]) == pytest.approx([0.1, 0.4, 0.3]) and set(data["runs"]) == {4}
    assert list(drawing.data["status"]) == 3 * ["ok"] + ["timeout"]
    assert drawing.caption.startswith("The mAP on the") and "failed" in drawing.caption


def test_classes_are_compared_by_seed_and_each_by_itself(quick_view: StudyView) -> None:
    data = classes_data(quick_view).set_index(["compared", "group"])
    scores = [[run.per_class["mAP"] for run in v.ok_runs] for v in quick_view.variants[:2]]
    base, other = (np.mean([[s[c] for c in GROUPS["time"]] for s in own]) for own in scores)
    row = data.loc[(quick_view.variants[1].name, "time")]
    assert row["difference"] == pytest.approx(other - base)
    assert row["low"] < row["difference"] < row["high"] and row["blocks"] == 5
    assert data.loc[("frequency .75", "frequency"), "high"] < -0.3  # as it was written
    assert "none" not in data.index and "stride 2" not in data.index


def test_a_class_has_the_interval_of_a_contrast_by_itself(quick_view: StudyView) -> None:
    def alike(v: VariantView) -> VariantView:
        runs = (replace(run, per_class={"mAP": {"one": run.metrics["mAP"]}}) for run in v.ok_runs)
        return replace(v, runs=tuple(runs))

    study = replace(quick_view.study, fingerprint=fingerprint(1))
    view = replace(quick_view, study=study, variants=tuple(map(alike, quick_view.variants)))
    alone = replace(study, contrasts={"alone": {"one": {"time .5": 1.0, "none": -1.0}}})
    wanted = judge(alone, quick_view.results.cells).declared()["alone"][0]
    row = classes_data(view).set_index("compared").loc["time .5"]
    assert tuple(row[["low", "high"]]) == pytest.approx((wanted.low, wanted.high))


def test_fifty_classes_are_legible_in_a_small_file() -> None:
    middle, half = np.random.default_rng(0).random((2, 200)) / 10
    data = pd.DataFrame({"compared": np.repeat(KINDS[:4], 50), "group": 4 * built_in("esc50")})
    data = data.assign(difference=middle, low=middle - half)
    with figure_style():
        figure = draw_classes(data.assign(high=middle + half), of_groups=False, metric="mAP")
        assert overlaps(figure) == []
        assert len(to_svg(figure, "classes")) < 150_000


def test_the_map_has_the_intervals_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crossed = factorial({"stride": {"eight": {}, "six": {}}, "patchout": {"all": {}, "half": {}}})
    made = [Arm(v.name, effect=-0.05 * ("half" in v.name)) for v in crossed]
    made.append(Arm("eight, quarter", "time", 0.25))  # a column that the other row lacks
    write_study(tmp_path, made, session=False, rich=False)
    store = Store(tmp_path)
    study = store.study("quick")
    half = {"half": {"six, half": 1.0, "eight, half": -1.0}}
    families = effects(("eight", "six"), ("all", "half"))
    store.write_study(replace(study, contrasts={**families, "stride": half}))
    view = study_view(load_results("quick", [store]))
    data = interaction_data(view).set_index("variant")
    assert list(data.index) == ["eight, all", "eight, half", "six, all", "six, half"]
    assert list(data["reference"]) == 2 * ["eight, all", "eight, half"]
    own = view.results.declared["stride"][0]
    assert (data.loc["six, half", "low"], data.loc["six, half", "high"]) == (own.low, own.high)
    other = next(v for v in view.variants if v.name == "six, all").difference
    assert tuple(data.loc["six, all", ["difference", "low", "high"]]) == other
    assert data["low"][:2].isna().all() and (data["difference"][:2] == 0).all()
    with figure_style():
        drawing = interaction(view)
        assert drawing.figure is not None and overlaps(drawing.figure) == []
        # A page in dark mode turns shapes, not images: the bar would contradict the cells.
        assert "<image" not in to_svg(drawing.figure, "interaction")
    both, (main, _) = (view.results.declared[name] for name in ("interactions", "main effects"))
    assert (
        quoted(both[0].variant) in drawing.caption and quoted(main.variant) not in drawing.caption
    )
    undeclared = replace(view, study=replace(view.study, contrasts={}))
    assert interaction_data(undeclared).empty
    assert "interaction" in names_drawn(view, monkeypatch)
    assert "interaction" not in names_drawn(undeclared, monkeypatch)


def test_pictures_show_what_was_kept(quick_view: StudyView) -> None:
    data = patches_data(quick_view).set_index("variant")
    assert (data.loc["time .75", "kept"], data.loc["time .75", "of"]) == (16, 64)
    assert len({int(i) % 8 for i in data.loc["time .75", "indices"].split()}) == 2  # columns
    assert "CNN" not in data.index
    longer = replace(quick_view.variants[0], record=replace(quick_view.baseline.record, name="2x"))
    same = patches_data(replace(quick_view, variants=(*quick_view.variants, longer)))
    assert len(same) == len(data)
    assert dict(zip(same["variant"], same["alike"], strict=True))["none"] == "2x"
    blank = tuple(tuple(0 for _ in range(10)) for _ in range(8))
    picture = Picture(blank, kept=(4,), grid=(2, 3), patch=(4, 4), stride=(4, 3))
    mask = covered(picture)  # patch (1, 1) of the grid
    assert mask[4:8, 3:7].all()
    assert mask.sum() == 16
