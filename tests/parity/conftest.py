"""The parity session: what it notes, what it writes, what it prints at the end."""

from __future__ import annotations

import json
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
from golden_store import Outputs
from parity_table import Table

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
    """Where every comparison is noted."""
    return request.config.stash[TABLE]


class Golden:
    """The golden outputs: compared with what the peers give now, or written."""

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
        difference, part = golden_store.worst(outputs, golden_store.read(family, case))
        assert difference <= tolerance, (
            f"the peer's {part} of {case} is no longer the golden one ({difference:.1e}); "
            "run `nox -s parity -- --write-golden` and look at what changed"
        )

    def write(self) -> None:
        """Writes the files of all families that ran."""
        for family, cases in self.cases.items():
            metadata = peers.versions() | {"numpy": np.__version__}
            metadata["weights"] = json.dumps(self.weights[family], sort_keys=True)
            golden_store.write(family, cases, metadata)


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """The golden files, written when all is done and well."""
    found = Golden(request.config.getoption("--write-golden"))
    yield found
    if found.writing and not request.session.testsfailed:
        found.write()


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    table = config.stash[TABLE]
    if not table.rows:
        return
    for line in table.text():
        terminalreporter.write_line(line)
    whole = config.getoption("--write-golden") and exitstatus == 0
    if whole:
        table.write(Path(__file__).parents[2] / "docs" / "parity.md", peers.versions())
