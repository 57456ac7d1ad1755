"""A package of somebody else brings one of everything, and a study is made of all of it.

`pond/` is installed by pip without a network, and the commands run in processes of their own, so
that nothing but its entry points tells passt-bench of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "plugin"
ROOT = HERE.parents[1]
LISTS = {
    "models": "lily",
    "frontends": "amplitude",
    "datasets": "tones",
    "patchout": "checkerboard",
    "metrics": "wrong_labels",
    "figures": "ripples",
}


def install(package: Path, folder: Path) -> Path:
    """Installs a package into a folder of its own; what building leaves stays out of the source."""
    source = shutil.copytree(
        package, folder / "source", ignore=shutil.ignore_patterns("*.egg-info")
    )
    target = folder / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True, cwd=folder)
    return target


class Commands:
    """Commands of a shell in which a plug-in is installed."""

    def __init__(self, installed: Path, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join([str(installed), str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def run(self, *words: object, status: int = 0) -> str:
        """What a module prints, on one line."""
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    folder = tmp_path_factory.mktemp("pond")
    shutil.copy(HERE / "still_water.py", folder)
    shutil.copy(HERE / "pond" / "contract.py", folder)
    return Commands(install(HERE / "pond", folder), folder)


def records(pond: Commands) -> list[dict]:
    """What the study recorded of its runs."""
    paths = sorted(pond.folder.glob("runs/records/*/record.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [record for record in found if record["kind"] == "quality"]


@pytest.fixture(scope="module")
def studied(pond: Commands) -> Commands:
    words = "--seeds 2 --workers 1 --no-track --runs runs --reports reports"
    pond.run("passt_bench", "run", "still_water.py", *words.split())
    return pond


@pytest.mark.parametrize("kind", LISTS)
def test_it_is_listed(kind: str, pond: Commands) -> None:
    assert f"{LISTS[kind]} " in pond.run("passt_bench", "list", kind)


def test_it_keeps_the_contract(pond: Commands) -> None:
    told = pond.run("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "contract.py")
    assert "36 passed" in told


def test_records_hold_what_it_brings(studied: Commands) -> None:
    found = records(studied)
    assert [record["status"] for record in found] == ["ok"] * 4
    for record in found:
        assert record["recipe"]["model"]["name"] == "lily"
        assert record["recipe"]["model"]["petals"] == 4
        assert record["recipe"]["frontend"]["name"] == "amplitude"
        assert record["fingerprint"]["dataset"] == "tones"
        assert 0 <= record["metrics"]["wrong_labels"] <= 1
        assert set(record["per_class"]["wrong_labels"]) == {"low", "middle", "high"}
        assert record["recipe"]["patchout"].get("share") in (None, 1.0)
    kinds = {record["recipe"]["patchout"]["kind"]: record["tokens"] for record in found}
    assert kinds["checkerboard"] == kinds["none"] // 2 > 0


def test_versions_enter_the_keys(studied: Commands) -> None:
    """A raised version of any of them makes another key, a front end's too."""
    code = (
        "from passt_bench.runner.studies import load_study\n"
        "from passt_bench.spec.key import component_versions\n"
        "study = load_study('still_water.py').study\n"
        "recipe = study.recipe(study.variant('lily, chess'))\n"
        "print(sorted(component_versions(recipe).items()))"
    )
    (studied.folder / "versions.py").write_text(code, encoding="utf-8")
    wanted = {"model": 2, "frontend": 3, "patchout": 4, "data": 5, "metric wrong_labels": 6}
    wanted["metric mAP"] = 1
    assert str(sorted(wanted.items())) in studied.run("versions")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.petlas=8", "model.petlas = 8: the model does not take it. Did you mean 'petals'?"),
        ("model.petals=0", "model.petals = 0"),
        ("patchout.shore=1", "patchout.shore = 1: unknown field"),
    ],
)
def test_its_options_are_checked_when_a_study_is_planned(
    setting: str, message: str, pond: Commands
) -> None:
    assert message in pond.run("passt_bench", "plan", "still_water.py", "--set", setting, status=2)


def test_its_options_are_set_like_any_other(pond: Commands) -> None:
    assert "lily" in pond.run("passt_bench", "plan", "still_water.py", "--set", "model.petals=8")


def test_the_page_shows_what_it_brings(studied: Commands) -> None:
    folder = studied.folder / "reports" / "still_water"
    page = (folder / "index.html").read_text(encoding="utf-8")
    for name in ("lily, chess", "tones", "checkerboard", "wrong_labels"):
        assert name in page
    assert '<figure id="ripples">' in page
    assert {path.suffix for path in folder.glob("figures/ripples.*")} == {".csv", ".svg"}
    table = (folder / "tables" / "quality.csv").read_text(encoding="utf-8")
    assert "wrong_labels" in table.splitlines()[0]


def test_costs_are_compared_on_its_own_front_end(pond: Commands) -> None:
    words = "--batch 2 --seconds 0.5 --classes 3 --session-limit 1 --steps 1 --name ponds"
    items = ["lily", "lily:patchout.kind=checkerboard"]
    pond.run("passt_bench", "compare", *items, *words.split())
    path = pond.folder / "runs" / "comparisons" / "ponds.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["packages"] == [["passt-bench-pond", "1.2.3"]]
    whole, half = record["variants"]
    assert whole["recipe"]["frontend"]["name"] == "amplitude"
    assert half["tokens"] == whole["tokens"] // 2
    page = pond.folder / "runs" / "reports" / "ponds" / "comparison.html"
    assert "passt-bench-pond 1.2.3" in page.read_text(encoding="utf-8")


def test_without_it_its_study_says_what_is_missing(tmp_path: Path) -> None:
    shutil.copy(HERE / "still_water.py", tmp_path)
    told = Commands(tmp_path, tmp_path).run("passt_bench", "plan", "still_water.py", status=2)
    assert "unknown" in told
    assert "Traceback" not in told


def test_the_authors_models_are_listed_and_name_their_packages(tmp_path: Path) -> None:
    """The worked example, where the packages that it wraps are not installed."""
    peers = Commands(install(ROOT / "examples" / "peers", tmp_path), tmp_path)
    told = peers.run("passt_bench", "list", "models")
    assert all(name in told for name in ("hear21passt", "transformers_ast", "panns_inference"))
    told = peers.run("passt_bench", "compare", "passt_s", "hear21passt", status=2)
    assert "model = 'hear21passt': needs packages that are not installed: hear21passt" in told
    assert "Install hear21passt" in peers.run("passt_bench", "doctor")
