"""Two records side by side: what makes their keys differ, and what else does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from passt_bench.errors import InputError
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import Fingerprint, RunRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Record, Store, read_record
from passt_bench.spec.key import decisive
from passt_bench.spec.recipe import Recipe

ABSENT = "-"


@dataclass(frozen=True)
class Difference:
    """One field in which two records differ, as text."""

    field: str
    first: str
    second: str


@dataclass(frozen=True)
class RecordDiff:
    """What differs between two records.

    Attributes:
        first: key of one.
        second: key of the other.
        decides: fields that enter the key.
        context: fields that do not: the recipe's free ones, machine, library versions, outcome.
    """

    first: str
    second: str
    decides: tuple[Difference, ...]
    context: tuple[Difference, ...]


def find_record(name: str, store: Store) -> Record:
    """The record that a key, the beginning of one, or a path means.

    Args:
        name: a key of the store, as many of its first characters as are needed, or the path of a
            record or of its folder.
        store: where keys are looked for.

    Raises:
        InputError: there is none, or several keys begin like that.
    """
    path = Path(name)
    if path.is_dir() and (path / "record.json").is_file():
        return read_record(path / "record.json", in_store=False)
    if path.is_file():
        return read_record(path, in_store=False)
    found = [key for key in store.record_keys() if name and key.startswith(name)]
    if len(found) == 1:
        return read_record(store.folder(found[0]) / "record.json")
    raise InputError(
        f"{len(found)} records begin like that" if found else "no such record",
        source=store.root,
        field="record",
        value=name,
        remedy=f"Known: {', '.join(found[:5])}."
        if found
        else "Give a key, its beginning, or the path of a record.json.",
    )


def compare_records(first: Record, second: Record) -> RecordDiff:
    """What differs between two records of the same kind.

    Raises:
        InputError: they are of different kinds.
    """
    if first.kind != second.kind:
        raise InputError(
            "records of different kinds share no fields",
            field="kind",
            value=f"{first.kind}, {second.kind}",
            remedy="Give two keys of the same kind.",
        )
    (decides_a, context_a), (decides_b, context_b) = _fields(first), _fields(second)
    # A field of a later version stands in a key only where it is not at its default: it is then
    # absent on one side, whose value is the default, which the whole recipe has.
    both = {**context_a, **decides_a}, {**context_b, **decides_b}
    names = dict.fromkeys([*decides_a, *decides_b])
    others = dict.fromkeys(name for name in (*context_a, *context_b) if name not in names)
    return RecordDiff(
        first.key, second.key, tuple(_differing(*both, names)), tuple(_differing(*both, others))
    )


def _differing(
    first: Mapping[str, str], second: Mapping[str, str], names: Mapping[str, None]
) -> Iterator[Difference]:
    for name in names:
        a, b = first.get(name, ABSENT), second.get(name, ABSENT)
        if a != b:
            yield Difference(name, a, b)


def _fields(record: Record) -> tuple[dict[str, str], dict[str, str]]:
    """Fields that decide the key, and the others."""
    if isinstance(record, RunRecord):
        return _of_run(record)
    return _of_session(record) if isinstance(record, SessionRecord) else _of_evaluation(record)


def _of_run(record: RunRecord) -> tuple[dict[str, str], dict[str, str]]:
    data = record.fingerprint
    decides: dict[str, Any] = {
        "recipe": decisive(record.recipe),
        "seed": record.seed,
        "fold": record.fold,
        "data fingerprint": data.digest,
        "version of": record.components,
    }
    context: dict[str, Any] = {
        "recipe": _plain(record.recipe),
        "data": _data(data),
        **_surroundings(record),
        "status": record.status,
        "attempt": record.attempt,
        "metric": record.metrics,
    }
    return _flat(decides), _flat(context)


def _of_session(record: SessionRecord) -> tuple[dict[str, str], dict[str, str]]:
    surroundings = _surroundings(record)
    commit = {"commit": surroundings.pop("commit")}
    decides = {"arms": sorted(arm.key for arm in record.arms), **surroundings}
    context = {**commit, "baseline": record.baseline, "rounds": record.rounds}
    return _flat(decides), _flat(context)


def _of_evaluation(record: EvaluationRecord) -> tuple[dict[str, str], dict[str, str]]:
    members = sorted(record.members, key=lambda member: member.sha256)
    decides: dict[str, Any] = {
        "checkpoints": {
            member.sha256: {name: decisive(member.recipe)[name] for name in ("model", "frontend")}
            for member in members
        },
        "data fingerprint": record.fingerprint.digest,
        "clips": {name: getattr(record, name) for name in ("split", "fold", "seconds")},
        "sampling rate": record.sampling_rate,
        "device": record.device,
        "version of": record.components,
    }
    context: dict[str, Any] = {
        "name": record.name,
        "data": _data(record.fingerprint),
        **_surroundings(record),
        "metric": record.metrics,
        "interval": {name: list(ends) for name, ends in record.intervals.items()},
    }
    return _flat(decides), _flat(context)


def _data(data: Fingerprint) -> dict[str, Any]:
    return {
        "clips": data.found,
        "expected": data.expected,
        "classes": list(data.classes),
        "sampling rates": data.sampling_rates,
        "notes": list(data.notes),
    }


def _surroundings(record: Record) -> dict[str, Any]:
    return {
        "machine": record.machine,
        "library": record.versions,
        "commit": record.commit,
    }


def _plain(recipe: Recipe) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted names and values as JSON."""
    out: dict[str, str] = {}
    for name, value in node.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = json.dumps(value, ensure_ascii=False)
    return out
