"""The commands and the Python of the README, run as they are printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from layouts import write_esc50, write_manifest
from readme import NOT_RUN, ROOT, STUDY, blocks, commands
from small_model import write_model

from passt_bench.models import create_model

ACTIVATE = "source .nox/passt-bench/bin/activate"
ENVIRONMENT = Path(sys.prefix)
SECONDS = 600  # against a test that never ends; a busy machine takes many times the usual
PYTHON = [text for language, text in blocks() if language == "python"]  # a study file, a script
needs_environment = pytest.mark.skipif(
    not (ENVIRONMENT / "bin" / "activate").is_file(), reason="not in an environment of its own"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as somebody has it who gave the first command, with what the others name."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("noxfile.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "reports", folder / "reports")
    shutil.copytree(ROOT / "reports" / "quick", folder / "runs")  # as if it had been run
    environment = folder / ".nox" / "passt-bench"
    environment.mkdir(parents=True)
    for path in ENVIRONMENT.iterdir():  # links each, so that nothing here can harm the real one
        (environment / path.name).symlink_to(path)
    (folder / "stride.py").write_text(PYTHON[0], encoding="utf-8")
    write_esc50(folder / "esc50", each=2)
    data = write_manifest(folder / "manifest")
    write_model(folder / "FILE", data.classes, loss="ce")
    for name in ("owl", "fox"):
        (folder / "divided" / name).mkdir(parents=True)
        for number in range(12):
            noise = torch.rand(800).numpy() - 0.5
            soundfile.write(folder / "divided" / name / f"{number}.wav", noise, 16000)
    soundfile.write(folder / "a.wav", torch.rand(16000).numpy() - 0.5, 16000)
    return folder


def run(folder: Path, *words: str) -> str:
    own = str(ENVIRONMENT / "bin")
    path = [entry for entry in os.environ["PATH"].split(os.pathsep) if entry != own]
    done = subprocess.run(
        words,
        cwd=folder,
        # If nox took the environment for an old one, it must not install another.
        env={
            **os.environ, "PATH": os.pathsep.join(path), "PYTHONPATH": str(ROOT),
            "PIP_NO_INDEX": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def shell(folder: Path, command: str) -> str:
    """A command in a shell in which what the README says about the PATH has been done.

    ``DIR`` is a folder of the data set that the command names.
    """
    (folder / "DIR").unlink(missing_ok=True)
    own = "divided" if "data split" in command else "manifest"
    (folder / "DIR").symlink_to("esc50" if "esc50=DIR" in command else own)
    return run(folder, "bash", "-e", "-c", f"{ACTIVATE}\n{command}")


@needs_environment
@pytest.mark.parametrize("command", [line for line in commands() if line not in NOT_RUN])
def test_a_command_runs_as_printed(folder: Path, command: str) -> None:
    if command.startswith("nox") and shutil.which("nox") is None:
        pytest.skip("no nox on the PATH")
    out = shell(folder, command)
    if command == ACTIVATE:
        assert Path(shell(folder, "command -v passt-bench").strip()).parent.samefile(
            ENVIRONMENT / "bin"
        )
        return
    assert out.strip()
    if command.startswith("nox"):
        *_, said, how, _ = out.splitlines()  # the last line is nox's own
        assert "To put passt-bench on the PATH" in said
        told = how.removeprefix("nox > ")
        found = run(folder, "bash", "-e", "-c", f"{told}\ncommand -v passt-bench")
        assert found.strip().endswith("bin/passt-bench")


@needs_environment
def test_a_study_is_brought_into_the_committed_reports(folder: Path) -> None:
    if shutil.which("nox") is None:
        pytest.skip("no nox on the PATH")
    shutil.rmtree(folder / "reports" / "quick")
    shell(folder, "nox -s report -- --adopt quick")
    assert (folder / "reports" / "quick" / "index.html").is_file()
    shell(folder, "nox -s report")


@needs_environment
@pytest.mark.parametrize("command", [line for line, why in NOT_RUN.items() if why is STUDY])
def test_a_study_that_is_too_long_can_be_planned(folder: Path, command: str) -> None:
    words = re.sub("nox -s ablate --|passt-bench run", "passt-bench plan", command)
    assert shell(folder, words).strip()


def test_the_python_runs_as_printed(folder: Path) -> None:
    code = PYTHON[1]
    state = create_model("passt_s", num_classes=527, stride=10, seed=1).state_dict()
    file = folder / "passt-s-f128-p16-s10-ap.476-swa.pt"  # the published one's names and shapes
    torch.save(state, file)
    same = f"\nimport torch\nassert torch.equal(net.state_dict()[{list(state)[-1]!r}],"
    same += f" torch.load({file.name!r})[{list(state)[-1]!r}])\n"
    run(folder, sys.executable, "-c", code + same)
