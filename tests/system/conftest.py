import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
import small_study
from tracked_study import write_all

from passt_bench.runner.executor import fork_server
from passt_bench.runner.tracking import sync


@pytest.fixture(autouse=True, scope="session")
def _complete_fork_server() -> None:
    """Starts the one that serves all tests; begun by any other module, it lacks what cells import.

    Each cell would then import for seconds.
    """
    fork_server()


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_study.write(tmp_path_factory.mktemp("study"))


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small study, synced."""
    root = tmp_path_factory.mktemp("with space ä")
    write_all(root)
    assert sync(root).runs == {"created": 12}
    return root


@pytest.fixture
def synced(template: Path, tmp_path: Path) -> Path:
    """A folder of its own, already synced; a fresh database would cost seconds a test."""
    root = Path(shutil.copytree(template, tmp_path / "runs"))
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (template.as_uri(), root.as_uri()),
            )
    return root
