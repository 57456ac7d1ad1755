"""The paper's protocols and rows: values against its text and tables, and the page of them."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from passt_bench.ablations import engine_x_patchout
from passt_bench.errors import InputError
from passt_bench.models import create_model, resolve
from passt_bench.models.frontend import frame_count
from passt_bench.paper import (
    ALL_ROWS,
    PROTOCOLS,
    corpora,
    find_pace,
    protocol_recipe,
    published_numbers,
    published_rows,
    read_published,
    settings,
)
from passt_bench.published_weights import ENSEMBLES
from passt_bench.registry import DATASETS, METRICS
from passt_bench.spec import Recipe, override
from passt_bench.training.loop import ramp
from passt_bench.training.state import snapshot_epochs

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"
MARK = "## All settings\n"
PASST = ("PaSST-B", "PaSST-U", "PaSST-S", "PaSST-S-L", "PaSST-S-N")
ROWS = published_rows()


def tables() -> str:
    """Every setting with its source, in Markdown."""
    text = ""
    for protocol, lines in groupby(read_published("protocols"), lambda line: line["protocol"]):
        text += f"\n### {protocol}\n\n| row | field | value | source |\n|---|---|---|---|\n"
        for line in lines:
            source = "; ".join(filter(None, (line["source"], line["conflict"])))
            text += f"| {line['row']} | {line['field']} | {line['value']} | {source} |\n"
    return text


def test_the_page_shows_every_setting() -> None:
    """After a change: `python tests/unit/test_protocols.py` writes it anew."""
    assert PAGE.read_text(encoding="utf-8").endswith(MARK + tables())


def test_every_line_has_a_source_and_belongs_to_a_protocol_and_a_row() -> None:
    rows = {"", ALL_ROWS, *(row.name for row in ROWS)}
    parts = {"shared", *PROTOCOLS, *corpora()}
    lines = read_published("protocols")
    for line in lines:
        assert line["protocol"] in parts and line["row"] in rows
        source = line["source"]
        assert re.match("ours: |inferred: |paper", source) or re.search(r"\.(py|md)", source)
    assert len({(line["protocol"], line["row"], line["field"]) for line in lines}) == len(lines)


def test_a_conflict_names_the_value_of_the_other_publication() -> None:
    conflicts = {
        (line["protocol"], line["field"]): line["conflict"].split()[-1]
        for line in read_published("protocols")
        if line["conflict"]
    }
    fields = {"training.learning_rate", "training.epochs", "training.epoch_clips"}
    for one, other in (("paper", "code"), ("code", "paper")):
        found = {
            field: value for (of, field), value in conflicts.items() if of == f"audioset {one}"
        }
        values = settings(f"audioset {other}")
        assert found.keys() == fields and all(float(found[f]) == values[f] for f in fields)
    assert conflicts["esc50", "patchout"] == "275"
    assert (12 - 5) * (49 - 10) + 2 == 275


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_a_recipe_with_registered_components(name: str) -> None:
    recipe = protocol_recipe(name)
    assert recipe.data.name == name.split()[0] == DATASETS.get(recipe.data.name).name
    assert all(METRICS.get(metric) for metric in recipe.metrics)
    assert override(Recipe(), settings(name)) == recipe
    with pytest.raises(InputError) as caught:
        protocol_recipe(name[:-1])
    assert caught.value.value == name[:-1]


def test_audioset_by_the_paper_and_by_the_code() -> None:
    paper, code = (protocol_recipe(f"audioset {name}").training for name in ("paper", "code"))
    rates = [paper.learning_rate * ramp(paper, epoch) for epoch in (49, 100, 119)]
    assert rates == pytest.approx([1e-5, 1e-7, 1e-7])
    assert (paper.epochs, paper.epoch_clips) == (120, 200_000)
    assert not snapshot_epochs(paper)
    assert code.learning_rate * ramp(code, 129) == pytest.approx(2e-7)
    assert code.epochs * (code.epoch_clips or 0) == 13_000_000
    assert list(snapshot_epochs(code)) == list(range(49, 130, 5))
    for name, epochs in (("esc50", range(1, 10)), ("fsd50k", range(9, 50, 3))):
        assert list(snapshot_epochs(protocol_recipe(name).training)) == list(epochs)


@pytest.mark.parametrize(
    ("data", "row", "tokens"),
    [
        ("audioset", "B", 1190), ("audioset", "U", 790), ("audioset", "S", 474),
        ("audioset", "S-L", 474), ("audioset", "S-N", 254), ("esc50", "B", 590),
        ("esc50", "S", 353), ("esc50", "U", 353), ("openmic", "S", 474), ("openmic", "U", 474),
        ("fsd50k", "S", 714), ("fsd50k", "U", 714), ("fsd50k", "S-N", 366), ("dcase20", "U", 474),
    ],
)  # fmt: skip
def test_a_row_keeps_the_published_tokens(data: str, row: str, tokens: int) -> None:
    recipe = next(r.recipe for r in ROWS if (r.name, r.corpus.name) == (f"PaSST-{row}", data))
    assert recipe is not None
    net = create_model("passt_micro", 2, patch=16, stride=recipe.model.stride, mels=128, frames=998)
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    assert resolve(recipe.patchout, net.grid(frames)).kept + 2 == tokens  # type: ignore[operator]


def test_rows_have_the_numbers_of_the_published_tables() -> None:
    of = {(row.table, row.corpus.name, row.name, len(row.members)): row.published for row in ROWS}
    for line in read_published("table1"):
        assert of["table1", "audioset", line["model"], 0] == float(line["mAP"])
    for line in read_published("table2"):
        members = int(line["members"]) if line["system"].startswith("PaSST") else 0
        assert of["table2", "audioset", line["system"], members] == float(line["mAP"])
    columns = {"openmic": ("mAP", 1), "fsd50k": ("mAP", 1)}
    columns |= {"esc50": ("accuracy", 100), "dcase20": ("accuracy", 100)}
    for line in read_published("table3"):
        for data, (metric, scale) in columns.items():
            value = of["table3", data, line["model"], 0] * scale
            assert value == pytest.approx(float(line[f"{data}_{metric}"]))
    assert len(of) == 11 + 9 + 4 * 7


def test_what_is_trained_evaluated_and_cited() -> None:
    trained = {(row.corpus.name, row.name) for row in ROWS if row.study}
    others = {("audioset", name) for name in ("PANNs", "AST", "AST-N", "CNN (RF-CNN)")}
    assert trained == others | {(data, name) for data in corpora() for name in PASST}
    assert published_numbers("paper_table3_esc50")["PaSST-S"] == 0.968
    assert published_numbers("quick") == {}
    names = ("ensemble_s16_14", "ensemble_4", "ensemble_5", "ensemble_many")
    assert [row.members for row in ROWS if row.members] == [ENSEMBLES[name] for name in names]
    assert {row.name for row in ROWS if row.cited} == {
        "Baseline (Gemmeke 2017)", "AST (paper)", "PSLA Ensemble-S", "PSLA Ensemble-M",
        "AST Ensemble-S", "AST Ensemble-M", "Baseline", "State of the art then",
    }  # fmt: skip


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(MARK)] + MARK + tables(), encoding="utf-8")


def test_steps_of_cost_studies_have_the_pace_of_their_row() -> None:
    study = engine_x_patchout.STUDY
    paces = [find_pace(study.recipe(variant)) for variant in study.variants[:3]]
    assert [pace.clips_per_second for pace in paces if pace] == [23.1, 88.7, 184.2]
    other = override(study.base, {"patchout.kind": "time", "patchout.rate": 0.6})
    assert find_pace(other) is None
