"""The page of evaluations: its table in four forms, its records, and where it is linked."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from passt_bench import load_frame
from passt_bench.records.evaluation import (
    Against,
    Decided,
    Difference,
    DroppedPatches,
    EvaluationRecord,
    Member,
    PublishedResult,
)
from passt_bench.records.files import to_json
from passt_bench.records.run import Fingerprint
from passt_bench.records.store import Store
from passt_bench.report.build import build_evaluations, render_index
from passt_bench.report.evaluations import heading, readable, verdicts_sentence
from passt_bench.report.terminal import print_decisions
from passt_bench.runner.evaluation import _key
from passt_bench.spec import Patchout, Recipe

NOTES = ("2 clips resampled",)
RECORD = EvaluationRecord(
    key="a" * 16,
    name="passt-s.pt",
    members=(Member("passt-s.pt", "0" * 64, Recipe()),),
    fingerprint=Fingerprint("audioset", "d1", 20371, 18887, ("a", "b", "c"), True, notes=NOTES),
    split="test",
    fold=None,
    clips=18887,
    seconds=10.0,
    sampling_rate=32000,
    device="cpu",
    metrics={"mAP_official": 0.4712, "AUC": 0.9731},
    intervals={"mAP_official": (0.4652, 0.4772), "AUC": (0.9711, 0.9751)},
    resamples=2000,
    scored={"mAP_official": 3, "AUC": 2},
    published=(PublishedResult("mAP_official", 0.476, "released weights"),),
    notes=("published on 18951 clips, 18887 here",),
)
FOLD = replace(
    RECORD,
    key="b" * 16,
    name="<i>mine",
    fingerprint=replace(RECORD.fingerprint, dataset="esc50"),
    fold=3,
    metrics={"accuracy": 0.9},
    intervals={},
    scored={"accuracy": 3},
    published=(),
    notes=(),
)


def test_the_page_its_table_and_the_link_to_it(tmp_path: Path) -> None:
    store, reports = Store(tmp_path / "runs"), tmp_path / "reports"
    assert build_evaluations(store.root, reports) == [] and not reports.exists()
    store.write(RECORD)
    store.write(FOLD)
    (page,) = build_evaluations(store.root, reports)
    with (page.parent / "tables" / "evaluations.csv").open(newline="") as file:
        area, known, fold = csv.DictReader(file)
    assert [row["metric"] for row in (area, known, fold)] == ["AUC", "mAP_official", "accuracy"]
    ends = [known[f"value{end}"] for end in ("", "_low", "_high")]
    assert ends == ["0.4712", "0.4652", "0.4772"]
    assert (known["published"], known["source"]) == ("0.476", "released weights")
    shown = page.read_text(encoding="utf-8")  # notes on the data, and on the evaluation
    assert "2 clips resampled" in shown and "published on 18951 clips" in shown
    differences = [float(known[f"difference{end}"]) for end in ("", "_low", "_high")]
    assert differences == pytest.approx([-0.0048, -0.0108, 0.0012])
    assert (area["published"], area["difference"], fold["value_low"]) == ("", "", "")
    assert (fold["data"], area["scored"]) == ("esc50, test, fold 3", "2 of 3")

    before = {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    assert {path.suffix for path in before} == {".html", ".csv", ".md", ".tex", ".json"}
    # Also where the runs no longer have them.
    assert build_evaluations(tmp_path / "elsewhere", reports) == [page]
    assert before == {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    index = render_index(reports).read_text(encoding="utf-8")
    assert 'href="evaluations/index.html">Checkpoint results next to published numbers<' in index
    assert heading([FOLD]) == "Checkpoint results"  # of own data
    assert "2 evaluations; no two models are compared on the same clips, so there is" in index
    text = page.read_text(encoding="utf-8")
    assert "&lt;i&gt;mine" in text and "<i>mine" not in text
    assert f'href="records/{RECORD.key}/record.json"' in text and RECORD.notes[0] in text


def test_models_compared_on_the_same_clips(tmp_path: Path) -> None:
    store, reports = Store(tmp_path / "runs"), tmp_path / "reports"
    store.write(FOLD)
    (page,) = build_evaluations(store.root, reports)
    assert not (page.parent / "tables" / "comparisons.csv").exists()
    assert "against" not in to_json(FOLD)  # the bytes of records that were made before
    other = Member("other.pt", "1" * 64, Recipe())
    gap = Difference(0.0125, -0.01, 0.035, "not worse", 12, 7, 0.359)
    against = Against("other.pt", (other,), 5.0, 16000, 0.02, {"accuracy": 0.8875})
    area = Difference(0.001, -0.003, 0.005, "undecided")
    against = replace(against, differences={"accuracy": gap, "AUC": area})
    record = replace(FOLD, key="c" * 16, name="mine.pt", against=against)
    record = replace(
        record, metrics={"accuracy": 0.9, "AUC": 0.99}, scored={"accuracy": 3, "AUC": 3}
    )
    store.write(record)
    store.write(replace(FOLD, key="d" * 16, name="mine.pt"))  # alone: the same row
    assert store.evaluation(record.key) == record
    (page,) = build_evaluations(store.root, reports)
    with (page.parent / "tables" / "comparisons.csv").open(newline="") as file:
        of_area, row = csv.DictReader(file)
    assert (of_area["margin"], of_area["verdict"]) == ("", "undecided")
    assert [row[name] for name in ("first", "second", "data", "clips", "metric")] == [
        "mine.pt", "other.pt", "esc50, test, fold 3", "18887", "accuracy"
    ]  # fmt: skip
    ends = [row[f"difference{end}"] for end in ("", "_low", "_high")]
    assert ends == ["0.0125", "-0.01", "0.035"]
    rest = ("only_first", "only_second", "p", "margin", "verdict")
    assert [row[name] for name in rest] == ["12", "7", "0.359", "0.02", "not worse"]
    with (page.parent / "tables" / "evaluations.csv").open(newline="") as file:
        names = [row["checkpoints"] for row in csv.DictReader(file)]
    assert sorted(names) == ["<i>mine", "mine.pt", "mine.pt"]  # AUC and accuracy
    assert verdicts_sentence([record, FOLD]) == (
        "In 2 comparisons on the same clips, the first model is not worse in 1 (mine.pt against "
        "other.pt in accuracy) and undecided in 1 (mine.pt against other.pt in AUC): about these "
        "weights, not about retraining."
    )
    several = [replace(record, name=f"{n}.pt", fold=n) for n in range(3)]
    assert "is not worse in 3 and undecided in 3: about" in verdicts_sentence(several)
    text = page.read_text(encoding="utf-8")
    assert "not about retraining" in " ".join(text.split()) and "mine.pt against other.pt" in text


def test_decisions_are_on_the_page_and_in_the_terminal(tmp_path: Path) -> None:
    store, reports = Store(tmp_path / "runs"), tmp_path / "reports"
    assert not {"decisions", "confusion"} & {*json.loads(to_json(FOLD))}  # as before there were any
    decisions = {
        "a": Decided(10, 8, 6, 0.75, 0.6, 2 / 3),
        "b": Decided(5, 7, 3, 3 / 7, 0.6, 0.5),
        "c": Decided(0, 0, 0, None, None, None),
    }
    confusion = {"a": {"a": 6, "b": 4}, "b": {"b": 3, "a": 2}}
    record = replace(FOLD, decisions=decisions, confusion=confusion)
    store.write(record)
    assert store.evaluation(record.key) == record
    (page,) = build_evaluations(store.root, reports)
    with (page.parent / "tables" / "evaluations.csv").open(newline="") as file:
        values = {row["metric"]: (row["value"], row["scored"]) for row in csv.DictReader(file)}
    assert values["F1"] == ("0.583333", "2 of 3") and values["recall"][0] == "0.6"
    with (page.parent / "tables" / "decisions.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["b", "a", "c"]
    assert "Confusion matrix: &lt;i&gt;mine, esc50" in page.read_text(encoding="utf-8")
    console = Console(width=80, file=io.StringIO())
    print_decisions(console, record)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Most often mistaken: a for b (4 of 10), b for a (2 of 5)." in text
    assert "1 a    6  4  –" in text and max(map(len, text.splitlines())) <= 80


def test_the_key_has_patchout_only_where_patches_were_dropped() -> None:
    columns = np.arange(3)
    assert _key(RECORD, columns) == "f01261f25ef7fba1"  # as before patches could be dropped
    settings = [Patchout(kind, rate=rate) for kind in ("time", "structured") for rate in (0.5, 0.6)]
    dropped = [DroppedPatches(setting, ((34, 66),)) for setting in settings]
    keys = {_key(replace(RECORD, patchout=each), columns) for each in dropped}
    assert len(keys) == 4 and _key(RECORD, columns) not in keys


def test_dropped_patches_are_on_the_page(tmp_path: Path) -> None:
    store, reports = Store(tmp_path / "runs"), tmp_path / "reports"
    assert "patchout" not in json.loads(to_json(FOLD))  # as in records that were made before
    setting = Patchout("time", rate=0.5, scope="sample")
    record = replace(
        FOLD,
        name="mine.pt",
        patchout=DroppedPatches(setting, ((34, 66),)),
        clocks={"score": 19.0, "intervals": 1.0, "clip": 0.00123},
    )
    gap = Difference(0.0125, -0.01, 0.035, "not worse")
    against = Against("mine.pt", FOLD.members, 5.0, 16000, 0.02, {"accuracy": 0.8875})
    against = replace(against, differences={"accuracy": gap})
    for item in (record, replace(record, key="c" * 16, against=against)):
        store.write(item)
        assert store.evaluation(item.key) == item
    (page,) = build_evaluations(store.root, reports)
    title = "mine.pt (patchout time:0.5, 34 of 66 tokens kept)"
    with (page.parent / "tables" / "evaluations.csv").open(newline="") as file:
        assert [row["checkpoints"] for row in csv.DictReader(file)] == [title]
    with (page.parent / "tables" / "comparisons.csv").open(newline="") as file:
        assert [(r["first"], r["second"]) for r in csv.DictReader(file)] == [(title, "mine.pt")]
    text = page.read_text(encoding="utf-8")
    assert f"{title} against mine.pt" in text and "20 s (1.2 ms per clip)" in text
    frame = load_frame(store.root)
    assert set(frame["inference_patchout.kind"]) == {"time"}
    assert set(zip(frame["tokens"], frame["tokens_full"], strict=True)) == {(34, 66)}


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("mine:none, 4x:0", "“none, 4x” of mine, seed 0"),
        ("mine:a:1:2 (patchout x:0.5)", "“a” of mine, seed 1, fold 2 (patchout x:0.5)"),
        ("mine:a:0, mine:a:1", "mine:a:0, mine:a:1"),
        ("passt-s.pt", "passt-s.pt"),
    ],
)  # fmt: skip
def test_a_kept_model_is_named_by_study_variant_and_seed(title: str, shown: str) -> None:
    assert readable(title) == shown
