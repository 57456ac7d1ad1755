"""The model of CONTRIBUTING.md, as printed there: a package of its own, its tests, and a study."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import small_study

ROOT = Path(__file__).parents[2]
TWICE = """
from passt_bench.errors import InputError
from passt_bench.registry import PATCHOUTS

for ask in (PATCHOUTS.all, lambda: PATCHOUTS.get("time")):
    try:
        ask()
    except InputError as error:
        print(error.field, error.value)
"""


def blocks() -> list[tuple[str, str]]:
    """Language and text of each block of code under "Add a model"."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Add a model")[1].split("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", section, flags=re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the example and what installing them leaves: a list of entry points."""
    folder = tmp_path_factory.mktemp("package")
    (model_kind, model), (toml_kind, project), (test_kind, test) = blocks()
    assert (model_kind, toml_kind, test_kind) == ("python", "toml", "python")
    (folder / "bag_of_patches.py").write_text(model, encoding="utf-8")
    (folder / "test_bag.py").write_text(test, encoding="utf-8")
    changes = small_study.QUICK + '"model": ModelSpec("bag_of_patches", width=16)'
    small_study.write(folder, "bags", changes=changes, variants=small_study.TIME)
    installed = folder / "bag_of_patches-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bag-of-patches\nVersion: 1\n")
    (group, entries), *others = tomllib.loads(project)["project"]["entry-points"].items()
    assert not others
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def call(package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=package,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def run(package: Path, *words: str) -> str:
    done = call(package, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_keeps_the_contract(package: Path) -> None:
    out = run(package, "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_bag.py")
    assert "10 passed" in out


def test_it_is_listed(package: Path) -> None:
    assert "bag_of_patches" in run(package, "passt_bench", "list", "models")


def test_a_study_runs_with_it(package: Path) -> None:
    options = "--seeds 1 --workers 1 --no-cost --no-track --runs runs --reports reports"
    run(package, "passt_bench", "run", "bags.py", *options.split())
    records = [json.loads(p.read_text()) for p in package.glob("runs/records/*/record.json")]
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert {record["recipe"]["model"]["name"] for record in records} == {"bag_of_patches"}
    assert {record["tokens"] for record in records} == {32, 64}
    assert (package / "reports" / "bags" / "index.html").is_file()


def test_a_broken_plug_in_is_named_each_time(tmp_path: Path) -> None:
    (tmp_path / "torn.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "twice.py").write_text(TWICE)
    installed = tmp_path / "torn-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[passt_bench.patchout]\nmy_kind = torn\n")
    done = call(tmp_path, "passt_bench", "list", "patchout")
    assert done.returncode == 2
    assert "ModuleNotFoundError" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert run(tmp_path, "twice").split() == ["my_kind", "torn"] * 2
