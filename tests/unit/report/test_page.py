import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from on_disk import files
from page_reader import read
from study_on_disk import SMALL, Arm, write_study

from passt_bench.analysis.results import load_results
from passt_bench.records.store import Store
from passt_bench.report.build import build_study, render


def test_the_page_is_well_formed_and_self_contained(small: Path) -> None:
    page = read(small / "index.html")
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "iframe", "img", "object"} & page.tags
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
            continue
        if link.startswith("data:") or link == "../index.html":  # the index of all reports
            continue
        assert "://" not in link and not link.startswith("/")
        assert (small / link).is_file(), link
    text = (small / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)", text)
    links = [link for link in page.links if link.startswith("records/")]
    assert len(links) == 16  # three variants, five seeds, one session


def test_records_that_are_not_beside_the_page_are_named(small: Path, tmp_path: Path) -> None:
    page = read(render(load_results("quick", [Store(small)]), tmp_path))
    assert not any(link.startswith("records/") for link in page.links)
    assert any(Store(small).record_keys()[0] in word for word in page.words)


def test_another_process_writes_the_same_bytes(small: Path, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "quick"
    for part in ("records", "studies"):
        shutil.copytree(small / part, again / part)
    code = (
        "import sys; from pathlib import Path; from passt_bench.records.store import Store\n"
        "from passt_bench.analysis.results import load_results\n"
        "from passt_bench.report.build import render\n"
        "root = Path(sys.argv[1]); render(load_results('quick', [Store(root)]), root)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo", "LANG": "C"}
    subprocess.run([sys.executable, "-c", code, str(again)], check=True, env=environment)
    first, second = files(small), files(again)
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert {f"tables/verdicts.{kind}" for kind in ("csv", "md", "tex")} <= first.keys()
    drawn = [name for name in first if name.endswith(".svg")]
    assert len(drawn) == 6 and {name.replace(".svg", ".csv") for name in drawn} <= first.keys()
    for name, data in first.items():
        if not name.startswith(("records", "studies")):  # no path of this machine
            assert str(small).encode() not in data and f"{Path.home()}/".encode() not in data, name
    summary = json.loads(first["summary.json"])
    assert (summary["study"], summary["variants"]) == ("quick", 3)
    assert summary["finished"] == "2026-11-24"
    assert summary["headline"].startswith("Against “none” (mAP 0.8")


def test_the_page_has_answers_failures_machine_and_notebook(small: Path) -> None:
    words = " ".join(" ".join(read(small / "index.html").words).split())
    for sentence in (
        "What do kind, rate and overlap of patchout do?",
        "too large : no result (5 × oom); its step could not be timed (oom)",
        "CUDA out of memory: tried to allocate 2.50 GiB",
        "Other processes keep 0.4 of 2 cores busy.",
        "Imaginary 3000, 2 cores, 8 GiB, Python 3.11.4",
        "digest 5f2c9a1be04d7733",
        "passt-bench run quick --seeds 5",
        "Question: does <patchout> pay?",
    ):
        assert sentence in words, sentence


def test_text_of_users_is_escaped_and_folds_and_metric_are_named(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script> & \"y\""
    arms = (Arm("none"), Arm(evil, "time", 0.5, statuses={0: "error"}))
    store = write_study(
        tmp_path, arms, seeds=(0, 1), folds=(1, 2), metric="accuracy", session=False, rich=False
    )
    page = render(load_results("quick", [store]), tmp_path)
    reader = read(page)
    assert "script" not in reader.tags and reader.open == []
    words = " ".join(" ".join(reader.words).split())
    for shown in (
        evil, "accuracy on the test split", "2 seeds (0, 1), 2 folds each (1, 2)", "seed 0, fold 2"
    ):  # fmt: skip
        assert shown in words
    assert "mAP" not in words


def test_a_study_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    gone = dict.fromkeys(range(5), "missing")
    arms = [Arm("none", statuses=gone), Arm("time", "time", 0.5, statuses=gone)]
    store = write_study(tmp_path, arms, session=False)
    reader = read(render(load_results("quick", [store]), tmp_path))
    words = " ".join(reader.words)
    assert "The baseline “none” has no result" in words
    assert words.count("5 of 5 runs") == 2
    assert "The costs of this study have not been measured yet." in words
    assert words.count("Left out: ") == 7
    assert "nan" not in words.split()


def test_runs_that_other_studies_have_too_are_named(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    store = write_study(runs, SMALL[:2], seeds=(0, 1), session=False, rich=False)
    study = store.study("quick")
    text = "of these runs"
    assert text not in build_study("quick", runs, reports).read_text(encoding="utf-8")
    none, time = study.variants
    store.write_study(replace(study, name="half", variants=(none,)))
    (runs / "studies" / "broken.json").write_text(time.cells[1].key, encoding="utf-8")
    page = build_study("quick", runs, reports)
    wanted = "1 of these runs is also part of “broken”. 2 of these runs are also part of “half”."
    assert wanted in page.read_text(encoding="utf-8")
    other = build_study("half", runs, reports)
    shutil.rmtree(runs)  # a report keeps its study
    assert build_study("half", runs, reports) == other
    assert "2 of these runs are also part of “quick”." in other.read_text(encoding="utf-8")
