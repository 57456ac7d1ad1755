"""`gpu.sh` on a CPU: it measures, and its archive becomes a page on another machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _gpu(out: Path, **variables: str) -> tuple[int, str]:
    # Without .nox it takes the python3 of the path; there are no wheels in an empty folder.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", ROOT / "gpu.sh", "--dry-run"],
        env={**os.environ, "PATH": path, "OUT": str(out), "WHEELS": str(out), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,  # usually half a minute
    )
    return done.returncode, done.stdout


def test_the_archive_of_a_dry_run_becomes_a_page(
    tmp_path: Path, cli: Callable[..., tuple[int, str]]
) -> None:
    status, said = _gpu(tmp_path / "out")
    assert (status, said.splitlines()[-1].partition(" s. ")[2]) == (0, "All passed."), said
    archive = tmp_path / "out" / "gpu-records.tar.gz"
    assert [*archive.parent.iterdir()] == [archive]
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    runs, name = tmp_path / "runs", "engine_x_patchout_dry"
    status, said = cli("records", "merge", tmp_path / "gpu-records", "--runs", runs)
    assert (status, said) == (0, f"1 record copied, 0 existed already. Studies: {name}.")
    pages = tmp_path / "reports"
    assert cli("report", name, "--adopt", "--runs", runs, "--reports", pages)[0] == 0
    assert "today, 254 tokens" in (pages / name / "index.html").read_text()


def test_what_the_time_does_not_suffice_for_is_named(tmp_path: Path) -> None:
    status, said = _gpu(tmp_path, SECONDS_LIMIT="0")
    assert status == 1
    assert said.endswith("Failed or skipped: instruments,engine_x_patchout,archive\n")
    assert [*tmp_path.iterdir()] == []
