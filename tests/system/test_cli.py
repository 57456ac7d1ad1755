"""The command line end to end, on a study of seconds; the first run in a process of its own."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures import Cli
from small_study import ENVIRONMENT

from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store


@pytest.fixture(scope="module")
def ran(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the tiny study ran, and what the command printed."""
    folder = tmp_path_factory.mktemp("ran")
    command = [sys.executable, "-m", "passt_bench", "run", str(study_file), "--no-track"]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return folder, done.stdout


def test_a_run_says_what_it_does_and_ends_with_the_page(ran: tuple[Path, str]) -> None:
    folder, output = ran
    assert "3 variants x 2 seeds = 6 runs, none done yet" in output
    assert "2 runs failed; see the report page." in output
    assert "runs/reports/tiny/index.html" in output
    assert "diverged" in (folder / "runs" / "reports" / "tiny" / "index.html").read_text()
    assert {path.name for path in folder.iterdir()} == {"runs"}  # a clone stays clean


def test_records_hold_what_decides_and_no_path_of_the_machine(ran: tuple[Path, str]) -> None:
    statuses = []
    for record in Store(ran[0] / "runs").records():
        text = (ran[0] / "runs" / "records" / record.key / "record.json").read_text()
        assert str(ran[0]) not in text
        assert str(Path.home()) not in text
        if isinstance(record, SessionRecord):
            assert record.rounds == 6
            assert len(record.arms) == 2  # the diverging variant costs what the baseline does
            continue
        statuses.append(record.status)
        if record.status == "ok":
            assert set(record.metrics) == {"mAP"}
            assert set(record.clocks) == {"data", "build", "train", "evaluate"}
            assert (record.picture is not None) is (record.seed == 0)  # one of each variant
            assert set(record.occlusions) == {"none", "hide_frequency", "hide_time"}
    assert sorted(statuses) == ["diverged", "diverged", "ok", "ok", "ok", "ok"]


def test_a_finished_study_runs_nothing_but_costs_when_asked(
    ran: tuple[Path, str], study_file: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ran[0])
    before = sorted(Path("runs/records").iterdir())
    ended = "6 runs, 4 done, 2 failed (to retry: run --retry diverged)."
    said = cli("run", study_file, "--no-track")[1]
    assert f"{ended} Nothing to train. Finished in" in said, said
    assert sorted(Path("runs/records").iterdir()) == before
    status, said = cli("status", study_file)
    assert status == 0 and "diverges, seed 0: diverged: the loss is" in said
    assert said.rstrip().endswith(ended)
    keys = {session.key for session in Store(Path("runs")).sessions()}
    cli("run", study_file, "--no-track", "--remeasure")
    after = Store(Path("runs")).sessions()
    assert len(after) == len(keys) + 1
    assert after[-1].key not in keys


def test_one_variant_is_run_and_the_others_are_left(
    study_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = ("--variant", "time", "--no-track", "--seeds", "1")
    status, said = cli("run", study_file, *named)
    assert status == 0, said
    assert "2 of 3 variants x 1 seed = 2 runs, none done yet" in said
    assert "Trained models: 2 of 2 runs will be kept" in said
    assert "tiny:time:0" in said
    store = Store(Path("runs"))
    (session,) = store.sessions()
    assert len(session.arms) == 2
    # The store keeps the study as a whole, so that nothing that was run before is forgotten.
    study = store.study("tiny")
    assert [variant.name for variant in study.variants] == ["none", "time", "diverges"]
    assert [store.has(v.cells[0].key) for v in study.variants] == [True, True, False]
    assert study.command.endswith(" ".join(named))
    page = Path("runs/reports/tiny/index.html")
    assert "2 of the 3 variants of the study. Not run yet: “diverges”." in page.read_text()

    alone = ("--variant", "diverges", "--no-baseline", "--no-track", "--seeds", "1")
    status, said = cli("run", study_file, *alone, "--keep-models")
    assert status == 1, said  # it diverges
    assert "1 of 3 variants x 1 seed = 1 run, none done yet" in said
    assert "Costs are not measured: they are ratios to the baseline" in said
    assert len(store.sessions()) == 1
    asked = (("none", "time"), ("diverges",))
    # With the command that made more of it.
    assert store.study("tiny") == replace(study, asked=asked)
    assert "variants of the study. Not run yet" not in page.read_text()

    _, said = cli("status", study_file, "--variant", "time", "--seeds", "1")
    assert "2 of 3 variants x 1 seed = 2 runs, all done" in said
    assert "diverges" not in said
    assert "will be kept" not in cli("run", study_file, *named)[1]  # nothing left to train
    assert "diverges" in page.read_text()


def test_a_plan_predicts_costs_on_a_named_gpu(study_file: Path, tmp_path: Path, cli: Cli) -> None:
    runs = ("--runs", tmp_path / "runs")
    assert "Rough: not calibrated on this machine" in cli("plan", study_file, *runs)[1]
    _, said = cli("plan", study_file, *runs, "--gpu", "H100", "--utilization", "0.4")
    assert "H100 HBM3 from its data sheet, assuming 40 % of the peak" in said
    assert not (tmp_path / "runs").exists()  # nothing is measured


def test_an_unused_cuda_device_is_mentioned(
    study_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the machine's answer is made up: with a device the rest is the same."""
    monkeypatch.chdir(tmp_path)
    sentence = "A CUDA device is available but not used; to use it, add --device cuda."
    assert sentence not in cli("plan", study_file)[1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert sentence in cli("plan", study_file)[1]
    for asked in (("--device", "cpu"), ("--device", "cuda"), ("--set", "engine.device=cpu")):
        assert sentence not in cli("plan", study_file, *asked)[1]
