"""Three hundred recipes as they stand on disk, and the keys that the first edition gave them.

A recipe is a base, written out in full, with some fields set to other values. Every seventh is
``short``: what is not set is absent, as in a record that is older than its fields, and has its
default. The versions of the components are part of the file: raising one touches no key in it.
"""

from __future__ import annotations

import json
from typing import Any

import guards

from passt_bench.records.files import to_json
from passt_bench.records.run import RunRecord
from passt_bench.spec.codec import from_json
from passt_bench.spec.key import arm_key, quality_key
from passt_bench.spec.study import flatten

COUNT = 300
Leaves = dict[str, Any]  # dotted name on disk → value
Entry = dict[str, Any]


def record_of(entry: Entry, base: Leaves) -> RunRecord:
    recipe: dict[str, Any] = {}
    for name, value in (({} if entry["short"] else base) | entry["set"]).items():
        *parts, last = name.split(".")
        node = recipe
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    data = {"dataset": "", "expected": None, "found": 0, "classes": [], "multi_label": True}
    record = {"key": "0" * 16, "status": "ok", "seed": entry["seed"], "fold": entry["fold"]}
    record |= {"recipe": recipe, "fingerprint": data | {"digest": entry["fingerprint"]}}
    return from_json(RunRecord, json.dumps(record).encode())


def written(record: RunRecord) -> Leaves:
    return flatten(json.loads(to_json(record))["recipe"])


def keys_of(entry: Entry, base: Leaves) -> dict[str, str]:
    run, versions = record_of(entry, base), entry["versions"]
    of = (run.recipe, run.seed, run.fold, run.fingerprint.digest, versions)
    return {"quality": quality_key(*of), "arm": arm_key(run.recipe, versions)}


def made() -> dict[str, Any]:
    """The content of the golden file: the recipes stay, their keys are computed again."""
    old = guards.read("keys")
    base, entries = old["base"], old["recipes"]
    return {"base": base, "recipes": [entry | keys_of(entry, base) for entry in entries]}
