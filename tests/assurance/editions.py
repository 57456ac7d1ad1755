"""Two editions of this package: the first, in a git worktree of its own, and this one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST_EDITION = "a9df4f38e8aae082e8dbc2adbac37fccf861b32d"  # on which the rebuild starts
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TREE = ROOT / ".nox" / "first-edition" / FIRST_EDITION[:12] / "tree"

# Options that this edition calls otherwise: (command, the first edition's word) → this edition's.
_KEEP_RECORDS = ("plan", "run", "status", "search", "evaluate", "records")
RENAMED: dict[tuple[str, str], str] = {
    **{(command, "--out"): "--runs" for command in _KEEP_RECORDS},
    ("report", "--out"): "--reports",
    ("data", "--out"): "--folder",  # of prepare; what check writes is not given here
    ("run", "--timeout"): "--run-timeout",
    ("search", "--minutes"): "--search-minutes",
}

Words = Sequence[str]


@dataclass(frozen=True)
class Edition:
    """One of the two, "first" or "now", with a cache of its own of what it knows of audio files."""

    name: str
    root: Path
    cache: Path

    def environment(self, **more: object) -> dict[str, str]:
        """The environment in which Python and all that it starts import this edition."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PASST_BENCH_", "MLFLOW_", "PYTHON", "COV"))
        }
        fixed = {
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "ignore",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "PASST_BENCH_CACHE": str(self.cache),
        }
        return kept | fixed | {name: str(value) for name, value in more.items()}

    def spelled(self, words: Words) -> list[str]:
        """A command of the first edition, as this one spells it."""
        if self.name == "first":
            return list(words)
        return [RENAMED.get((words[0], word), word) for word in words]

    def start(self, words: Words, folder: Path, log: Path, **more: object) -> subprocess.Popen[str]:
        """Starts Python with some words in a process group of its own."""
        with log.open("a") as file:
            return subprocess.Popen(
                [sys.executable, *words],
                cwd=folder,
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def python(
        self, words: Words, folder: Path, *, good: Sequence[int] = (0,), **more: object
    ) -> str:
        """Runs Python with some words; what it printed.

        Raises:
            AssertionError: its exit status is not among the ``good`` ones.
        """
        log = folder / "log.txt"
        process = self.start(words, folder, log, **more)
        try:
            status = process.wait(1200)
        except BaseException:  # it would outlive a Ctrl-C, which does not reach it
            os.killpg(process.pid, signal.SIGKILL)
            raise
        said = log.read_text()
        assert status in good, f"{self.name} edition: {' '.join(words)}: {status}\n{said}"
        return said

    def bench(
        self, words: Words, folder: Path, *, good: Sequence[int] = (0,), **more: object
    ) -> str:
        """Runs a command of passt-bench, as the first edition spells it; what it printed."""
        return self.python(["-m", "passt_bench", *self.spelled(words)], folder, good=good, **more)

    def check(self) -> None:
        """Makes sure that this edition is what Python imports, also beside an installed one."""
        with tempfile.TemporaryDirectory() as folder:
            words = ["-c", "import passt_bench; print(passt_bench.__file__)"]
            found = Path(self.python(words, Path(folder)).strip())
        wanted = self.root / "passt_bench" / "__init__.py"
        assert found.resolve() == wanted.resolve(), f"{found} is imported, and not {wanted}"


def git(*words: object) -> str:
    """Runs git in this repository; what it printed."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), *map(str, words)], capture_output=True, text=True, check=False
    )
    remedy = f"In a shallow clone, bring it: git fetch origin {FIRST_EDITION}"
    assert done.returncode == 0, f"the first edition is not at hand: {done.stderr}\n{remedy}"
    return done.stdout.strip()


def first_edition(cache: Path) -> Edition:
    """The first edition, checked out where it is not yet."""
    if not (TREE / ".git").exists():
        shutil.rmtree(TREE, ignore_errors=True)
        TREE.parent.mkdir(parents=True, exist_ok=True)
        # Forced, for git may still know a tree that was removed by hand.
        git("worktree", "add", "--force", "--detach", TREE, FIRST_EDITION)
    found = git("-C", TREE, "rev-parse", "HEAD"), git("-C", TREE, "status", "--porcelain")
    remedy = f"git worktree remove --force {TREE}"
    assert found == (FIRST_EDITION, ""), f"{TREE} was changed. Remove it: {remedy}"
    return Edition("first", TREE, cache)


@dataclass(frozen=True)
class Pair:
    """The two editions, and the folder that their results go to."""

    first: Edition
    now: Edition
    scratch: Path

    @property
    def inputs(self) -> Path:
        """What both read, see edition_inputs.py."""
        return self.scratch / "inputs"

    def both(self, name: str, work: Callable[[Edition, Path], object]) -> list[Path]:
        """Lets both editions do a named work in empty folders, at the same time; the folders."""
        editions = (self.first, self.now)
        folders = [self.scratch / edition.name / name for edition in editions]
        for folder in folders:
            folder.mkdir(parents=True)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, editions, folders))
        return folders


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what tells of time, machine and commit, and without sentences."""
    left_out = {"clocks", "finished", "machine", "versions", "commit", "message", "notes"}
    left_out |= {"command", "notebook", "seconds"}
    kept = {name: value for name, value in record.items() if name not in left_out}
    if "train" in kept:
        kept["train"] = {"epoch": kept["train"].get("epoch")}
    if "fingerprint" in kept:
        kept["fingerprint"] = {**kept["fingerprint"], "notes": None}
    return kept


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records and studies of a store, by study, variant, seed and fold where they have them."""
    found = {}
    names: dict[str, str] = {}
    for path in sorted(folder.glob("studies/*.json")):
        study = json.loads(path.read_text())
        found[path.stem] = plain(study)
        for variant in study["variants"]:
            for cell in variant["cells"]:
                parts = (path.stem, variant["name"], cell["seed"], cell["fold"])
                names[cell["key"]] = "/".join(str(part) for part in parts if part is not None)
    for path in sorted(folder.glob("records/*/record.json")):
        key = path.parent.name
        found[names.get(key, key)] = plain(json.loads(path.read_text()))
    return found


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """Where two JSON values differ, floats to their last bit; one line each."""
    if isinstance(one, dict) and isinstance(two, dict):
        return [
            line
            for name in sorted(one.keys() | two.keys())
            for line in differences(
                one.get(name, "absent"), two.get(name, "absent"), f"{where}/{name}"
            )
        ]
    if isinstance(one, str) and isinstance(two, str) and "\n" in one:
        one, two = one.splitlines(), two.splitlines()
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [line for n, (a, b) in pairs for line in differences(a, b, f"{where}/{n}")]
    if json.dumps(one) == json.dumps(two):
        return []
    return [f"{where}: {json.dumps(one)[:200]} in the first edition, now {json.dumps(two)[:200]}"]
