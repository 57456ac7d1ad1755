"""Three hundred recipes as they stand on disk, and the keys that the first edition gave them.

A recipe is a base, written out in full, with some fields set to other values. Every seventh is
``short``: what is not set is absent, as in a record that is older than its fields, and has its
default. The versions of the components are part of the file: raising one touches no key in it.
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import guards

from passt_bench.records.files import to_json
from passt_bench.records.run import RunRecord
from passt_bench.registry import DATASETS, METRICS, MODELS, PATCHOUTS
from passt_bench.spec.codec import from_json, to_plain
from passt_bench.spec.key import arm_key, quality_key
from passt_bench.spec.recipe import Recipe

COUNT, SHARE, OFTEN, SHORT = 300, 0.2, 0.8, 7
HEX = "0123456789abcdef"
BOUNDS = ("ge", "gt", "le", "lt")
AMOUNTS = ("rate", "time", "frequency", "patches")
REGISTRIES = {"model.name": MODELS, "data.name": DATASETS, "patchout.kind": PATCHOUTS}
TEXTS = {
    "frontend.name": ["logmel", "kaldi", "panns"],
    "init.checkpoint": ["passt_s_swa_p16_128_ap476", "models/Bär 2.pt"],
}
Leaves = dict[str, Any]  # dotted name on disk → value
Entry = dict[str, Any]


def flat(node: dict[str, Any], prefix: str = "") -> Leaves:
    """A nested recipe by dotted names."""
    found: Leaves = {}
    for name, value in node.items():
        nested = isinstance(value, dict)
        found |= flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return found


def record_of(entry: Entry, base: Leaves) -> RunRecord:
    """An entry read as a record of a run is read."""
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
    return from_json(RunRecord, json.dumps(record))


def written(record: RunRecord) -> Leaves:
    """The recipe of a record as it is written."""
    return flat(json.loads(to_json(record))["recipe"])


def keys_of(entry: Entry, base: Leaves) -> dict[str, str]:
    run, versions = record_of(entry, base), entry["versions"]
    of = (run.recipe, run.seed, run.fold, run.fingerprint.digest, versions)
    return {"quality": quality_key(*of), "arm": arm_key(run.recipe, versions)}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """Name in Python, annotation, default and value of every field below a recipe."""
    hints, usual = _hints(type(node)), type(node)()
    for item in fields(node):
        value, name = getattr(node, item.name), prefix + item.name
        if is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            yield name, hints[item.name], getattr(usual, item.name), value


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def parts_of(hint: Any) -> tuple[list[Any], dict[str, float]]:
    """The types that a field takes, and its bounds by the names ge, gt, le, lt."""
    bounds: dict[str, float] = {}
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        for bound in (bound for note in notes for bound in getattr(note, "metadata", ())):
            bounds |= {name: getattr(bound, name) for name in BOUNDS if hasattr(bound, name)}
    whole = get_origin(hint) in (tuple, Literal) or not get_args(hint)
    return [hint] if whole else list(get_args(hint)), bounds


def made() -> dict[str, Any]:
    """The content of the golden file: recipes stay, and fields that they lack are drawn."""
    there = (guards.HERE / "keys.json").is_file()
    old = guards.read("keys") if there else {"base": {}, "recipes": map(_entry, range(COUNT))}
    usual = flat(to_plain(Recipe()))  # in the order of the fields
    base, entries = usual | old["base"], list(old["recipes"])
    for number, entry in enumerate(entries):
        for name, (_, hint, _, _) in zip(usual, leaves(Recipe()), strict=True):
            chance = random.Random(f"{number} {name}")
            share = OFTEN if name in ("model.name", "patchout.kind") else SHARE
            if name not in old["base"] and chance.random() < share:
                entry["set"][name] = _value(name, hint, base[name], chance)
        if not there:
            _make_sensible(entry["set"], number)
        entry |= keys_of(entry, base)
    return {"base": base, "recipes": entries}


def _entry(number: int) -> Entry:
    chance = random.Random(f"entry {number}")
    names = ("model", "data", "patchout", "metric mAP")
    return {
        "short": number % SHORT == 0,
        "set": {},
        "seed": chance.choice((0, 1, 2, 17, 2**31)),
        "fold": chance.choice((None, 0, 1, 5)),
        "fingerprint": "".join(chance.choices(HEX, k=16)),
        "versions": {name: chance.randint(1, 4) for name in names},
    }


def _value(name: str, hint: Any, usual: Any, chance: random.Random) -> Any:
    """One other than the usual value."""
    kinds, bounds = parts_of(hint)
    kind = next(kind for kind in kinds if kind is not NoneType)
    while (value := _any(name, kind, bounds, chance)) == usual:
        pass
    return value


def _any(name: str, kind: Any, bounds: dict[str, float], chance: random.Random) -> Any:
    if get_origin(kind) is Literal:
        return chance.choice(get_args(kind))
    if kind is bool:
        return chance.random() < 0.5
    if name == "metrics":
        return chance.sample([c.name for c in METRICS.all()], chance.randint(1, 3))
    if get_origin(kind) is tuple:
        return [chance.randint(1, 32), chance.randint(1, 32)]
    if name in REGISTRIES:
        return chance.choice([component.name for component in REGISTRIES[name].all()])
    if kind is str:
        return chance.choice(TEXTS.get(name) or ["".join(chance.choices(HEX, k=64))])
    least = bounds.get("ge", bounds.get("gt", -10 if not bounds else 0))
    spread = 10 ** chance.uniform(0.5 if kind is int else -4, 4)
    most = bounds.get("le", bounds.get("lt", least + spread))
    if kind is int:
        return chance.randint(int(least) + ("gt" in bounds), int(most))
    ends = [float(bounds[end]) for end in ("ge", "le") if end in bounds]
    inside = float(f"{least + (most - least) * chance.uniform(0.01, 0.99):.3g}")
    return chance.choice([inside, inside, inside, *ends])


def _make_sensible(changes: Leaves, number: int) -> None:
    """Leaves out what a model or a kind of patchout does not take: no run ever had it."""
    model = MODELS.get(changes.get("model.name", "passt_tiny")).build
    taken = ["name", "overlong", *inspect.signature(model).parameters]
    kind = PATCHOUTS.get(changes.get("patchout.kind", "none")).build
    amounts = [name for name in AMOUNTS if name in kind.fields]
    if len(amounts) > 1:  # a share, or counts
        amounts = amounts[1:] if number % 2 else amounts[:1]
    for name in list(changes):
        part, _, field = name.partition(".")
        strange = part == "model" and field not in taken
        if strange or (part == "patchout" and field in set(AMOUNTS).difference(amounts)):
            del changes[name]
