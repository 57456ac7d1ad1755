"""The parity session: the comparisons it notes, the golden files it writes, the table it prints."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

import golden_store
import peers
from golden_store import Outputs, differences, worst

PAGE = Path(__file__).parents[2] / "docs" / "parity.md"
KINDS = ("logits", "features", "log-mel", "gradient", "statistics")
MISTAKES = "Planted mistakes"


def by_kind(ours: Outputs, theirs: Outputs) -> dict[str, float]:
    """The largest difference of each kind of output, all gradients as one."""
    found: dict[str, float] = {}
    for part, value in differences(ours, theirs).items():
        kind = part.split("/")[0]
        kind = kind if kind in KINDS else "parameters"
        found[kind] = max(found.get(kind, 0.0), value)
    return found


class Table:
    def __init__(self) -> None:
        self.sections: dict[str, dict[str, str]] = {}  # Markdown rows by name

    def check(
        self, section: str, name: str, ours: Outputs, theirs: Outputs, tolerance: float
    ) -> None:
        """Ours must be theirs within the tolerance, part by part; a planted mistake must not be.

        Raises:
            AssertionError: the parts differ in name or shape, or a value too far.
        """
        found = by_kind(ours, theirs)
        if section == MISTAKES:
            assert max(found.values()) > tolerance, f"{name} passes: {found}"
        else:
            difference, part = worst(ours, theirs)
            assert difference <= tolerance, f"{name}: {part} differs by {difference:.2e}"
        values = ", ".join(f"{kind} {difference:.1e}" for kind, difference in found.items())
        self.sections.setdefault(section, {})[name] = f"| {name} | {values} | {tolerance:.0e} |"

    def text(self) -> list[str]:
        lines = []
        for section, rows in self.sections.items():
            last = "must exceed" if section == MISTAKES else "tolerance"
            lines += ["", f"### {section}", "", f"| case | largest difference | {last} |"]
            lines += ["|---|---|---|", *rows.values()]
        return lines

    def write(self) -> None:
        versions = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
        inside = "\n".join([f"Computed with {versions}.", *self.text()])
        marks = r"(<!-- tables: written by the session -->\n).*(\n<!-- end of tables -->)"
        text, count = re.subn(
            marks, lambda found: f"{found[1]}{inside}{found[2]}", PAGE.read_text(), flags=re.DOTALL
        )
        assert count == 1, f"{PAGE.name} has lost the marks of its tables"
        PAGE.write_text(text)


TABLE = pytest.StashKey[Table]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-golden",
        action="store_true",
        help="write tests/golden/*.safetensors and the tables of docs/parity.md",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = Table()
    torch.set_num_threads(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """A part of the session would write a part of the golden files."""
    whole = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    if session.config.getoption("--write-golden") and whole != {i.path.name for i in session.items}:
        raise pytest.UsageError("--write-golden needs the whole session: name no files or tests")


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and items[0].config.getoption("--write-golden"):
        raise pytest.UsageError("--write-golden needs the whole session: select nothing")


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash[TABLE]


class Golden:
    def __init__(self, writing: bool) -> None:
        self.writing = writing
        self.cases: dict[str, dict[str, Outputs]] = {}
        self.weights: dict[str, dict[str, str]] = {}

    def hold(
        self, family: str, case: str, outputs: Outputs, weights: str, tolerance: float
    ) -> None:
        """Keeps a peer's outputs for the file, or checks that the file holds the same."""
        if self.writing:
            self.cases.setdefault(family, {})[case] = outputs
            self.weights.setdefault(family, {})[case] = weights
            return
        difference, part = worst(outputs, golden_store.read(family, case))
        assert difference <= tolerance, (
            f"the peer's {part} of {case} is no longer the golden one ({difference:.1e}); "
            "run `nox -s parity -- --write-golden` and look at what changed"
        )


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """The golden files, written when all tests have passed."""
    found = Golden(request.config.getoption("--write-golden"))
    yield found
    if found.writing and not request.session.testsfailed:
        for family, cases in found.cases.items():
            metadata = peers.versions() | {"numpy": np.__version__}
            metadata["weights"] = json.dumps(found.weights[family], sort_keys=True)
            golden_store.write(family, cases, metadata)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    table = config.stash[TABLE]
    for line in table.text():
        terminalreporter.write_line(line)
    if config.getoption("--write-golden") and exitstatus == 0 and table.sections:
        table.write()
