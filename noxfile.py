"""The project's commands; ``nox --list`` describes each."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from itertools import takewhile
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.options.default_venv_backend = "none"
nox.options.sessions = ["tests"]

ROOT = Path(__file__).parent
# One environment for all sessions but one, because PyTorch takes 1.8 GB. Nox would make one per
# session, so the environments are made here.
ENVIRONMENT = ROOT / ".nox" / "passt-bench"
PARITY = ROOT / ".nox" / "parity"
PEERS = "examples/peers"
# Test files side by side: half of the time goes into waiting for the processes that tests start.
# A worker takes 1.2 GB. In the order of their names, those of many short tests come last; by
# default it would be the files of few and long tests, for the last of which the others wait.
SIDE_BY_SIDE = (
    "-n", str(min(4, (os.cpu_count() or 1) + 1)), "--dist", "loadfile", "--no-loadscope-reorder",
)  # fmt: skip
# Tests that have a longer form.
LONG = (
    "tests/drills/test_cluster.py",
    "tests/drills/test_kills.py",
    "tests/drills/test_mlflow.py",
    "tests/system/test_paper_rows.py",
)
SOURCES = ("passt_bench", "ablations", "docs", "examples", "tests", "noxfile.py")
SITE = "build/docs"


def binary(environment: Path, tool: str) -> str:
    """The path of an environment's tool."""
    return str(environment / ("Scripts" if os.name == "nt" else "bin") / tool)


def install(
    session: nox.Session,
    environment: Path = ENVIRONMENT,
    extras: str = "test,lint,types,docs",
    example: str | None = None,
) -> None:
    """Installs the tested versions, unless the environment has those of the project's files.

    ``example`` names a folder of `examples/`, which is installed as well. What its
    ``requirements.txt`` lists comes without further dependencies.
    """
    wanted = hashlib.sha256(sys.version.encode())
    files = [f"{example}/pyproject.toml", f"{example}/requirements.txt"] if example else []
    for name in ("pyproject.toml", "constraints.txt", *files):
        wanted.update((ROOT / name).read_bytes())
    stamp = environment / f"installed-{wanted.hexdigest()[:16]}"
    if stamp.exists():
        return
    session.log("setting up %s (about 2 GB; a few minutes the first time)", environment.name)
    session.run(sys.executable, "-m", "venv", "--clear", str(environment))
    pip = (binary(environment, "python"), "-m", "pip", "--disable-pip-version-check")
    session.run(*pip, "install", "-q", "-c", "constraints.txt", "-e", f".[{extras}]")
    if example:
        words = ("-r", f"{example}/requirements.txt", "-e", f"./{example}")
        session.run(*pip, "install", "-q", "--no-deps", *words)
    stamp.touch()


def run(session: nox.Session, tool: str, *words: str) -> None:
    """Runs a tool of the environment in the project's folder."""
    install(session)
    # MLflow reports its use to its makers by default; nothing here may call out.
    env = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    session.run(binary(ENVIRONMENT, tool), *words, env=env)


def bench(session: nox.Session, *words: str) -> None:
    """Runs a command of passt-bench, and says how to give others without nox."""
    install(session)
    try:
        run(session, "passt-bench", *words)
    finally:  # a run that failed or was stopped is looked at by other commands
        session.log("To put passt-bench on the PATH of this shell:")
        session.log("source %s", shlex.quote(binary(ENVIRONMENT, "activate")))


@nox.session
def ablate(session: nox.Session) -> None:
    """Runs a study and renders its report; without a name, the quick one."""
    words = session.posargs
    named = bool(words) and not words[0].startswith("-")
    bench(session, "run", *(words if named else ("quick", *words)))


@nox.session
def search(session: nox.Session) -> None:
    """Searches the best patchout with Optuna; without a name, on the quick study."""
    words = session.posargs
    named = bool(words) and not words[0].startswith("-")
    bench(session, "search", *(words if named else ("quick", *words)))


@nox.session
def report(session: nox.Session) -> None:
    """Renders the pages in reports/ anew; ``-- --adopt NAME`` brings a study in from runs/."""
    if session.posargs == ["--adopt"]:
        session.error("Name the studies: nox -s report -- --adopt NAME")
    # The pages in reports/ have their records beside them.
    runs = "runs" if "--adopt" in session.posargs else "reports"
    bench(session, "report", "--runs", runs, "--reports", "reports", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Checks and measures on one GPU and packs the records; ``-- --dry-run`` on a CPU."""
    install(session)
    session.run("bash", "gpu.sh", *session.posargs, external=True)


@nox.session
def ui(session: nox.Session) -> None:
    """Opens MLflow's page on 127.0.0.1."""
    bench(session, "ui", *session.posargs)


def pytest(session: nox.Session, *words: str) -> None:
    """Runs pytest."""
    run(session, "pytest", *words, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests: at most 5 minutes on two cores."""
    pytest(session, "tests", *SIDE_BY_SIDE)


@nox.session
def drills(session: nox.Session) -> None:
    """Kills and faults: at most 12 minutes on two cores."""
    pytest(session, "--override-ini=addopts=-q", "tests/drills", *SIDE_BY_SIDE)


@nox.session
def assurance(session: nox.Session) -> None:
    """Simulations, calibration, scale, servers, long drills; ``-- NAME…`` selects as -k does."""
    names = list(takewhile(lambda word: not word.startswith("-"), session.posargs))
    if names and names[0].startswith("tests/"):
        chosen = names
    else:
        chosen = ["tests/assurance", *LONG, *(["-k", " or ".join(names)] if names else [])]
    options = session.posargs[len(names) :]
    run(session, "pytest", "--override-ini=addopts=-v -rs", "-s", "--long", *chosen, *options)


@nox.session
def parity(session: nox.Session) -> None:
    """The models against their authors' packages; ``-- --write-golden`` freezes what those give."""
    try:
        install(session, PARITY, "test", PEERS)
    except CommandFailed:
        session.error(
            f"{PARITY} could not be set up; pip says above why. It needs a package index and 3 GB. "
            "Without it `nox -s tests` compares with what the packages computed once."
        )
    words = ("--override-ini=addopts=-q", "tests/parity", *session.posargs)
    session.run(binary(PARITY, "pytest"), *words, env={"HF_HUB_OFFLINE": "1"})


@nox.session(name="bench")
def benchmarks(session: nox.Session) -> None:
    """Benchmarks with pytest-benchmark, saved and compared with the last saved run."""
    words = ["--override-ini=addopts=-q", "tests/bench", "--benchmark-autosave"]
    if any(ROOT.glob(".benchmarks/*/*.json")):
        words.append("--benchmark-compare")
    pytest(session, *words)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and lint."""
    run(session, "ruff", "format", "--check", *SOURCES)
    run(session, "ruff", "check", *SOURCES)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site for the browser, in build/docs; warnings are errors."""
    options = ("-q", "-E", "-W", "--keep-going", "-d", "build/doctrees")
    run(session, "sphinx-build", *options, "docs", SITE, *session.posargs)
    session.log("%s", ROOT / SITE / "index.html")


@nox.session
def types(session: nox.Session) -> None:
    """Static types."""
    run(session, "mypy")
