"""The one-way flow: who may import whom, held by the source itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "passt_bench"
BASE = (
    *("console", "errors", "processes", "registry", "spec", "records", "intervals"),
    *("vocabulary", "published_weights", "paper"),
)
# Each part may import itself and what stands here.
ALLOWED = {
    "errors": (),
    "processes": ("errors", "registry"),
    "registry": ("errors",),
    "spec": ("errors", "registry"),
    "records": ("errors", "registry", "spec"),
    "intervals": ("records", "registry"),
    "torchaudio_guard": (),
    "vocabulary": (),
    "published_weights": ("console", "errors", "records", "spec", "vocabulary"),
    "paper": ("errors", "spec", "published_weights"),
    "models": (*BASE, "torchaudio_guard"),
    "data": (*BASE, "torchaudio_guard"),
    "measure": BASE,
    "training": (*BASE, "models", "data", "measure"),
    "analysis": BASE,
    "console": (),
    "runner": (*BASE, "models", "data", "measure", "training", "analysis"),
    "report": (*BASE, "analysis"),
    "ablations": (),
    "study_run": (*BASE, "analysis", "runner", "report"),
}
FREE = ("cli", "__main__", "__init__")


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
PARTS = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    part = _part(path)
    if part not in FREE:
        names = (name.split(".") for name in _imports(path) if name.startswith("passt_bench."))
        wrong = {own for _, own, *_ in names} & PARTS - {part, *ALLOWED[part]}
        assert not wrong, f"{part} must not import {sorted(wrong)}"


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("mlflow", "runner/tracking.py"),
        ("optuna", "runner/trials.py"),
        ("torchaudio", "torchaudio_guard.py"),
    ],
)
def test_a_library_has_one_home(library: str, home: str) -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.split(".")[0] == library for name in _imports(path))
    }
    assert users <= {home}


SHARED = ("passt_bench.spec", "passt_bench.paper", "recipes")


def test_studies_import_specs_and_recipes_alone() -> None:
    for path in (ROOT / "ablations").glob("*.py"):
        libraries = ("__future__", "collections", "dataclasses", "typing")
        own = {name for name in _imports(path) if not name.startswith(libraries)}
        assert all(name.startswith(SHARED) for name in own), path


def test_nothing_imports_the_studies() -> None:
    for path in FILES:
        assert not any(name.startswith("passt_bench.ablations") for name in _imports(path)), path
