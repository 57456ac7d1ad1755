"""The keys of the committed records, made again from what the records hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import guards

from passt_bench.records.files import read
from passt_bench.records.run import RunRecord, StudyRecord
from passt_bench.records.session import SessionRecord
from passt_bench.registry import DATASETS, METRICS, MODELS, PATCHOUTS
from passt_bench.spec.key import arm_key, quality_key, session_key
from passt_bench.spec.recipe import Recipe

REPORTS = Path(__file__).parents[2] / "reports"
REGISTRIES = {"model": MODELS, "data": DATASETS, "patchout": PATCHOUTS, "metric": METRICS}
ATTEMPTS = 9  # a session that was measured again has a key of its own
Versions = Mapping[str, int]  # e.g. "model passt_tiny" → its version


def versions_of_today() -> dict[str, int]:
    return {
        f"{kind} {component.name}": component.version
        for kind, registry in REGISTRIES.items()
        for component in registry.all()
    }


def keys(versions: Versions) -> Iterator[tuple[str, list[str], list[str]]]:
    """Name, the keys that stand in it, and those of what it holds, for every record and study.

    Args:
        versions: of components, for cost sessions and studies, which do not hold them.
    """
    for path in sorted(REPORTS.glob("*/records/*/record.json")):
        if path.parts[-4] == "evaluations":  # their keys also cover the model files
            continue
        name = path.relative_to(REPORTS).as_posix()
        if b'"kind":"quality"' in path.read_bytes():
            run = read(RunRecord, path)
            of = (run.recipe, run.seed, run.fold, run.fingerprint.digest, run.components)
            yield name, [run.key], [quality_key(*of)]
        else:
            session = read(SessionRecord, path)
            arms = [arm_key(arm.recipe, _components(arm.recipe, versions)) for arm in session.arms]
            told = [session.key, *(arm.key for arm in session.arms)]
            yield name, told, [_session(session, arms), *arms]
    for path in sorted(REPORTS.glob("*/studies/*.json")):
        study = read(StudyRecord, path)
        for variant in study.variants:
            recipe, components = variant.recipe, _components(variant.recipe, versions)
            found = [arm_key(recipe, components)]
            for cell in variant.cells:
                digest = study.fingerprint.digest
                found.append(quality_key(recipe, cell.seed, cell.fold, digest, components))
            told = [variant.arm, *(cell.key for cell in variant.cells)]
            yield f"{path.relative_to(REPORTS).as_posix()} {variant.name}", told, found


def _session(record: SessionRecord, arms: list[str]) -> str:
    """The key of the attempt that the record is, or else of the first."""
    tries = [arms, *([*arms, f"attempt {number}"] for number in range(2, ATTEMPTS + 1))]
    found = [session_key(attempt, record.machine, record.versions) for attempt in tries]
    return record.key if record.key in found else found[0]


def _components(recipe: Recipe, versions: Versions) -> dict[str, int]:
    names = {kind: getattr(recipe, kind).name for kind in ("model", "data")}
    names["patchout"] = recipe.patchout.kind
    metrics = {f"metric {name}": versions[f"metric {name}"] for name in recipe.metrics}
    return {kind: versions[f"{kind} {name}"] for kind, name in names.items()} | metrics


def made() -> dict[str, Any]:
    """The keys that stand in the records, and the versions of components that give them."""
    versions = [*guards.read("records")["versions"]]
    versions += [today] if (today := versions_of_today()) not in versions else []
    return {"keys": {name: told for name, told, _ in keys(versions[-1])}, "versions": versions}
