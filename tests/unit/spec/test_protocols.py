"""The protocols of the paper: values against its text, sources, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from passt_bench.ablations.protocols import OURS, PATCHOUTS, PROTOCOLS

from passt_bench.ablations import protocol_page, protocols
from passt_bench.models import create_model, resolve
from passt_bench.models.frontend import frame_count
from passt_bench.registry import DATASETS, METRICS
from passt_bench.spec import Recipe, override
from passt_bench.spec.key import key_fields
from passt_bench.training.loop import ramp
from passt_bench.training.state import snapshot_epochs

PAGE = Path(__file__).parents[3] / "docs" / "protocols.md"
RECIPES: dict[str, Recipe] = {
    "audioset, as the paper says": protocols.audioset("paper"),
    "audioset, as the code does": protocols.audioset("code"),
    "esc50": protocols.esc50(),
    "openmic": protocols.openmic(),
    "fsd50k": protocols.fsd50k(),
    "dcase20": protocols.dcase20(),
}


def test_every_protocol_is_a_recipe() -> None:
    assert set(RECIPES) == set(PROTOCOLS)
    assert protocols.audioset() == protocols.audioset("code")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_value_has_one_place_and_a_source(name: str) -> None:
    names = [setting.field for setting in PROTOCOLS[name]]
    assert len(set(names)) == len(names)
    for setting in PROTOCOLS[name]:
        assert (
            setting.source.startswith(OURS) or "paper" in setting.source or ".py" in setting.source
        )
        assert len(setting.source.removeprefix(OURS)) > 4


def test_what_the_authors_give_differently_is_the_other_ones_value() -> None:
    paper, code = (
        {setting.field: setting for setting in PROTOCOLS[f"audioset, as the {name}"]}
        for name in ("paper says", "code does")
    )
    fields = {"training.learning_rate", "training.epochs", "training.epoch_clips"}
    for one, other in ((paper, code), (code, paper)):
        assert {field for field, setting in one.items() if setting.conflicting_source} == fields
        for field in fields:
            assert float(one[field].conflicting_source.split()[-1]) == other[field].value
    esc = PATCHOUTS["esc50"]["s"].conflicting_source
    assert esc == "the README's command has t10 f5: 275"
    assert (12 - 5) * (49 - 10) + 2 == 275
    others = [s for rows in PATCHOUTS.values() for s in rows.values() if s.conflicting_source]
    assert others == [PATCHOUTS["esc50"]["s"]]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_nothing_of_a_recipe_comes_from_elsewhere(name: str) -> None:
    """What a protocol does not name is as it is in any recipe."""
    again = override(Recipe(), {setting.field: setting.value for setting in PROTOCOLS[name]})
    assert key_fields(RECIPES[name]) == key_fields(again)
    for setting in PROTOCOLS[name]:
        node: object = RECIPES[name]
        for part in setting.field.split("."):
            node = getattr(node, part)
        assert node == setting.value


@pytest.mark.parametrize("name", PROTOCOLS)
def test_its_components_are_registered(name: str) -> None:
    recipe = RECIPES[name]
    assert DATASETS.get(recipe.data.name).name == name.split(",")[0]
    for metric in recipe.metrics:
        METRICS.get(metric)


def test_audioset_by_the_paper_and_by_the_code() -> None:
    paper, code = protocols.audioset("paper").training, protocols.audioset("code").training
    rates = [paper.learning_rate * ramp(paper, epoch) for epoch in (49, 100, 119)]
    assert rates == pytest.approx([1e-5, 1e-7, 1e-7])
    assert (paper.epochs, paper.epoch_clips) == (120, 200_000)
    assert not snapshot_epochs(paper)
    assert code.learning_rate * ramp(code, 129) == pytest.approx(2e-7)
    assert code.epochs * (code.epoch_clips or 0) == 13_000_000
    assert len(snapshot_epochs(code)) == 17
    assert (snapshot_epochs(code)[0], snapshot_epochs(code)[-1]) == (49, 129)


def test_fine_tuning_averages_as_published() -> None:
    assert list(snapshot_epochs(protocols.esc50().training)) == list(range(1, 10))
    assert list(snapshot_epochs(protocols.fsd50k().training)) == list(range(9, 50, 3))


@pytest.mark.parametrize(
    ("data", "row", "tokens"),
    [
        ("audioset", "b", 1190), ("audioset", "u", 790), ("audioset", "s", 474),
        ("audioset", "s_l", 474), ("audioset", "s_n", 254), ("esc50", "b", 590),
        ("esc50", "s", 353), ("esc50", "u", 353), ("openmic", "s", 474), ("openmic", "u", 474),
        ("fsd50k", "s", 714), ("fsd50k", "u", 714), ("fsd50k", "s_n", 366), ("dcase20", "u", 474),
    ],
)  # fmt: skip
def test_a_row_keeps_the_published_tokens(data: str, row: protocols.Row, tokens: int) -> None:
    recipe = RECIPES.get(data) or protocols.audioset()
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    stride = 16 if row == "s_n" else 10
    net = create_model("passt_micro", 2, patch=16, stride=stride, mels=128, frames=998)
    assert resolve(protocols.patchout(data, row), net.grid(frames)).kept + 2 == tokens  # type: ignore[operator]


def test_every_data_set_has_every_row() -> None:
    assert set(PATCHOUTS) == {name.split(",")[0] for name in PROTOCOLS}
    assert all(list(rows) == ["b", "u", "s", "s_l", "s_n"] for rows in PATCHOUTS.values())


def test_the_page_shows_them() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.endswith(protocol_page.tables()), "python -m passt_bench.ablations.protocol_page"
