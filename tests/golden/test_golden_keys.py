"""Keys of drawn recipes and of the committed records, as the first edition gave them."""

from __future__ import annotations

import json

import golden_records
import guards
from golden_recipes import COUNT, Entry, Leaves, keys_of, record_of, written

from passt_bench.spec import override, parse_assignments

ENTRIES: list[Entry] = guards.read("keys")["recipes"]
BASE: Leaves = guards.read("keys")["base"]
# Fields that came after the first edition, which gave these keys: at their defaults they stay out.
_ADDED = ("attention", "residual", "graph", "evaluate_precision", "recompute")
_ADDED += ("frontend", "accumulate")
_TRAINING = ("steps", "clips", "trained", "head_rate", "layer_decay", "validation_fold")
ADDED = {f"training.{name}" for name in _TRAINING} | {f"engine.{name}" for name in _ADDED}
ADDED |= {"measurement.restarts"}


def test_drawn_recipes_keep_their_keys() -> None:
    assert len(ENTRIES) == COUNT
    wanted = {str(n): {k: entry[k] for k in ("quality", "arm")} for n, entry in enumerate(ENTRIES)}
    found = {str(n): keys_of(entry, BASE) for n, entry in enumerate(ENTRIES)}
    assert guards.changed(found, wanted) == {}


def test_recipes_are_written_as_they_were_read() -> None:
    for entry in ENTRIES:
        given = ({} if entry["short"] else BASE) | entry["set"]
        there = written(record_of(entry, BASE))
        assert sorted(there) == sorted({*BASE, *ADDED})
        assert guards.changed({name: there[name] for name in given}, given) == {}


def test_the_names_on_disk_can_be_set_on_the_command_line() -> None:
    for entry in ENTRIES:
        words = [f"{name}={json.dumps(value)}" for name, value in entry["set"].items()]
        start = record_of({**entry, "set": {}}, BASE).recipe
        assert override(start, parse_assignments(words)) == record_of(entry, BASE).recipe


def test_committed_records_have_the_keys_of_what_they_hold() -> None:
    """With today's versions of components, or those when a record was made."""
    golden = guards.read("records")
    versions = [*golden["versions"], golden_records.versions_of_today()]
    told = {}
    for entries in zip(*map(golden_records.keys, versions), strict=True):
        name, told[name], _ = entries[0]
        assert told[name] in [found for _, _, found in entries], name
    known = {name: keys for name, keys in told.items() if name in golden["keys"]}
    assert guards.changed(known, golden["keys"]) == {}
