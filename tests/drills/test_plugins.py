"""Packages of others bring components of every kind: `pond/`, the peers, and what is documented.

They are installed by pip without a network, and commands run in processes of their own, so that
nothing but entry points tells passt-bench of them.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import small_study
from commands import ROOT, give_all, python

from passt_bench.errors import InputError
from passt_bench.registry import Registry

PLUGIN = ROOT / "tests" / "plugin"
LISTS = {
    "models": (
        "lily ",
        "tiny_cnn ",
        "bag_of_patches ",
        "hear21passt",
        "transformers_ast",
        "panns_inference",
    ),
    "frontends": ("amplitude ",),
    "datasets": ("tones ",),
    "patchout": ("checkerboard ",),
    "metrics": ("top_two ", "wrong_labels "),
    "figures": ("ripples ",),
}
FEW = "--workers 1 --no-track --runs runs --reports reports"
COMPARE = "compare lily lily:patchout.kind=checkerboard --batch 2 --seconds 0.5"
COMMANDS = {
    "study": f"run still_water.py --seeds 1 --no-cost {FEW}",
    "bags": f"run bags.py --seeds 1 --no-cost {FEW}",
    "compare": f"{COMPARE} --set measurement.seconds=1 --set measurement.steps=1 --name ponds",
    "set": "plan still_water.py --set model.petals=8",
    "missing": "compare passt_s hear21passt",
    "doctor": "doctor",
}
WRONG = {
    "model.petlas=8": ("model.petlas", "8"),
    "model.petals=0": ("model.petals", "0"),
    "patchout.shore=1": ("patchout.shore", "1"),
}
Results = dict[str, dict[str, Any]]


def printed(section: str) -> list[str]:
    text = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    text = text.split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```\w+\n(.*?)```", text, flags=re.DOTALL)


def write_entry_points(folder: Path, name: str, groups: dict[str, dict[str, str]]) -> None:
    installed = folder / f"{name}-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages below ``installed``, and with studies and tests of theirs."""
    folder = tmp_path_factory.mktemp("plugins")
    target = folder / "installed"
    sources = []
    for source in (PLUGIN / "pond", ROOT / "examples" / "peers"):  # what building leaves stays out
        ignored = shutil.ignore_patterns("*.egg-info")
        sources.append(
            str(shutil.copytree(source, folder / "sources" / source.name, ignore=ignored))
        )
    options = "-q --no-index --no-deps --no-build-isolation --target"
    words = ["-m", "pip", "--disable-pip-version-check", "install", *options.split(), str(target)]
    cnn, project, initial, cnn_test, bag, bag_test = printed("Add a model")
    own = folder / "sources" / "own"
    own.mkdir()
    (own / "tiny_cnn.py").write_text(f"{cnn}\n{indent(initial, '    ')}", encoding="utf-8")
    (own / "bag_of_patches.py").write_text(bag, encoding="utf-8")
    (own / "pyproject.toml").write_text(project, encoding="utf-8")
    python([*words, *map(str, (*sources, own))], folder)
    for path in (PLUGIN / "still_water.py", PLUGIN / "pond" / "contract.py"):
        shutil.copy(path, folder)
    (folder / "test_own.py").write_text(f"{cnn_test}\n\n{bag_test}", encoding="utf-8")
    metric, test = printed("Add a metric")
    (target / "wrong_labels.py").write_text(metric, encoding="utf-8")
    write_entry_points(target, "wrong-labels", {"passt_bench.metric": {"wrong": "wrong_labels"}})
    (folder / "test_wrong.py").write_text(test, encoding="utf-8")
    changes = small_study.QUICK + '"model": ModelSpec("bag_of_patches", width=16)'
    small_study.write(folder, "bags", changes=changes, variants=small_study.TIME)
    return folder


@pytest.fixture(scope="module")
def given(folder: Path) -> Results:
    plans = {change: f"plan still_water.py --set {change}" for change in WRONG}
    lists = {kind: f"list {kind}" for kind in LISTS}
    commands = {**lists, **plans, **COMMANDS}
    found = give_all(list(commands.values()), folder, folder / "installed")
    return {name: found[command] for name, command in commands.items()}


def records(folder: Path, model: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in folder.glob("runs/records/*/record.json")]
    quality = [record for record in found if record["kind"] == "quality"]
    return [record for record in quality if record["recipe"]["model"]["name"] == model]


def test_they_are_listed(given: Results) -> None:
    for kind, names in LISTS.items():
        assert all(name in given[kind]["printed"] for name in names), kind


def test_they_keep_the_contracts(folder: Path) -> None:
    tests = ["contract.py", "test_own.py", "test_wrong.py"]
    words = ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *tests]
    assert "65 passed" in python(words, folder, folder / "installed")


def test_records_hold_what_they_bring(folder: Path, given: Results) -> None:
    versions = {"model": 2, "frontend": 3, "data": 5}
    versions |= {"metric mAP": 1, "metric wrong_labels": 1, "metric top_two": 6}
    assert given["study"]["status"] == 0, given["study"]["printed"]
    found = records(folder, "lily")
    assert [record["status"] for record in found] == ["ok"] * 2
    for record in found:
        assert record["recipe"]["model"]["petals"] == 4
        assert record["recipe"]["frontend"]["name"] == "amplitude"
        assert record["fingerprint"]["dataset"] == "tones"
        for metric in ("wrong_labels", "top_two"):
            assert 0 <= record["metrics"][metric] <= 1
            assert set(record["per_class"][metric]) == {"low", "middle", "high"}
        share = record["recipe"]["patchout"].get("share")
        assert share in (None, 1.0)
        assert record["components"] == versions | {"patchout": 4 if share else 1}
    kinds = {record["recipe"]["patchout"]["kind"]: record["tokens"] for record in found}
    assert kinds["checkerboard"] == kinds["none"] // 2 > 0


def test_options_are_checked_when_a_study_is_planned(given: Results) -> None:
    assert "lily" in given["set"]["printed"]
    for change, wanted in WRONG.items():
        result = given[change]
        assert (result["status"], result["field"], result["value"]) == (2, *wanted)
    assert "Did you mean 'petals'?" in given["model.petlas=8"]["printed"]


def test_the_page_shows_what_they_bring(folder: Path, given: Results) -> None:
    report = folder / "reports" / "still_water"
    page = (report / "index.html").read_text(encoding="utf-8")
    for name in ("lily, chess", "tones", "top_two", "wrong_labels"):
        assert name in page
    assert "checkerboard" in (report / "figures" / "learning_curves.csv").read_text(
        encoding="utf-8"
    )
    assert '<figure id="ripples">' in page
    assert {path.suffix for path in report.glob("figures/ripples.*")} == {".csv", ".svg"}
    table = (report / "tables" / "quality.csv").read_text(encoding="utf-8")
    assert "top_two" in table.splitlines()[0]


def test_costs_are_compared_on_its_own_front_end(folder: Path, given: Results) -> None:
    assert given["compare"]["status"] == 0, given["compare"]["printed"]
    record = json.loads((folder / "runs" / "studies" / "ponds.json").read_text())
    whole, half = record["variants"]
    assert whole["recipe"]["frontend"]["name"] == "amplitude"
    assert half["tokens"] == whole["tokens"] // 2
    page = folder / "runs" / "reports" / "ponds" / "index.html"
    assert "passt-bench-pond 1.2.3" in page.read_text(encoding="utf-8")


def test_a_study_runs_with_the_printed_model(folder: Path, given: Results) -> None:
    assert given["bags"]["status"] == 0, given["bags"]["printed"]
    found = records(folder, "bag_of_patches")
    assert [record["status"] for record in found] == ["ok", "ok"]
    assert {record["tokens"] for record in found} == {32, 64}
    assert (folder / "reports" / "bags" / "index.html").is_file()


def test_the_authors_models_name_their_packages(given: Results) -> None:
    result = given["missing"]
    assert (result["status"], result["field"], result["value"]) == (2, "model", "hear21passt")
    assert "needs packages that are not installed: hear21passt" in result["printed"]
    assert "Install hear21passt" in given["doctor"]["printed"]


def test_without_it_its_study_says_what_is_missing(mistake: Any) -> None:
    assert mistake("plan", PLUGIN / "still_water.py").value == "lily"


def test_a_broken_plug_in_is_always_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torn.py").write_text("import nothing_of_that_name\n")
    write_entry_points(tmp_path, "torn", {"passt_bench.test": {"my_kind": "torn"}})
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[Any] = Registry("kind", "errors", "test", "kind")
    for ask in (registry.all, lambda: registry.get("my_kind")):
        with pytest.raises(InputError, match="ModuleNotFoundError") as caught:
            ask()
        assert (caught.value.field, caught.value.value) == ("my_kind", "torn")
    assert "torn" not in sys.modules
