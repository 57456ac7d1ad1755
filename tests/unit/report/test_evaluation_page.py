"""The page of evaluations: its table in four forms, its records, and where it is linked."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from passt_bench.errors import InputError
from passt_bench.records.evaluation import EvaluationRecord, Member, PublishedResult
from passt_bench.records.run import Fingerprint
from passt_bench.records.store import Store
from passt_bench.report.build import build_evaluations, render_index
from passt_bench.spec import Recipe

CLAIM = PublishedResult("mAP_official", 0.476, "released weights")
RECORD = EvaluationRecord(
    key="a" * 16,
    name="passt-s.pt",
    members=(Member("passt-s.pt", "0" * 64, Recipe()),),
    fingerprint=Fingerprint("audioset", "d1", 20371, 18887, ("a", "b", "c"), True),
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
    published=(CLAIM,),
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


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    store = Store(tmp_path / "runs")
    store.write(RECORD)
    store.write(FOLD)
    return store.root


def test_the_published_number_and_the_difference_are_in_the_table(
    runs: Path, tmp_path: Path
) -> None:
    build_evaluations(runs, tmp_path / "reports")
    text = (tmp_path / "reports" / "evaluations" / "tables" / "evaluations.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["metric"] for row in rows] == ["AUC", "mAP_official", "accuracy"]
    known = rows[1]
    ends = [known[f"value{end}"] for end in ("", "_low", "_high")]
    assert ends == ["0.4712", "0.4652", "0.4772"]
    assert (known["published"], known["source"]) == ("0.476", "released weights")
    assert float(known["difference"]) == pytest.approx(-0.0048)
    assert float(known["difference_low"]) == pytest.approx(-0.0108)
    assert float(known["difference_high"]) == pytest.approx(0.0012)
    assert (rows[0]["published"], rows[0]["difference"], rows[2]["value_low"]) == ("", "", "")
    assert (rows[2]["data"], rows[0]["scored"]) == ("esc50, test, fold 3", "2 of 3")


def test_all_formats_are_written_and_are_reproducible(runs: Path, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    assert build_evaluations(tmp_path / "nothing", reports) == [] and not reports.exists()
    (page,) = build_evaluations(runs, reports)
    folder = reports / "evaluations"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path.suffix for path in before} == {".html", ".csv", ".md", ".tex", ".json"}
    # Also where the runs no longer have them.
    assert build_evaluations(runs.parent / "elsewhere", reports) == [page]
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert 'href="evaluations/index.html"' in render_index(reports).read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert "0.4712" in text and "−0.0048" in text
    assert "&lt;i&gt;mine" in text and "<i>mine" not in text
    assert f'href="records/{RECORD.key}/record.json"' in text
    assert RECORD.notes[0] in text


def test_a_broken_record_is_named(runs: Path, tmp_path: Path) -> None:
    path = Store(runs).folder(RECORD.key) / "record.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError) as refused:
        build_evaluations(runs, tmp_path / "reports")
    assert refused.value.source == path
