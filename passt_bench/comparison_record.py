"""What a comparison of costs leaves behind: which arm of which session is which model.

Layout under an output folder: ``comparisons/NAME.json`` beside ``records/``, where the sessions
stand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from passt_bench.errors import InputError
from passt_bench.record import SCHEMA, VariantRecord, write_atomically

FOLDER = "comparisons"


@dataclass(frozen=True)
class ComparisonRecord:
    """Models or settings whose cost was measured side by side.

    Attributes:
        name: of the file and of the report.
        baseline: the first; ratios are taken to it.
        variants: in the order that was asked for; they have no cells.
        sessions: keys of the sessions that measured them.
        command: what was typed.
        packages: versions of installed packages that serve as peers.
    """

    name: str
    baseline: str
    variants: tuple[VariantRecord, ...]
    sessions: tuple[str, ...]
    command: str = ""
    packages: tuple[tuple[str, str], ...] = ()
    kind: Literal["comparison"] = "comparison"
    schema: int = SCHEMA


def comparison_names(root: Path) -> list[str]:
    """The comparisons under an output folder."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.json"))


def write_comparison(record: ComparisonRecord, root: Path) -> Path:
    """Writes a comparison under an output folder; a new one takes the place of its namesake."""
    plain = TypeAdapter(ComparisonRecord).dump_python(record, mode="json")
    text = json.dumps(plain, sort_keys=True, allow_nan=False, separators=(",", ":"))
    path = root / FOLDER / f"{record.name}.json"
    write_atomically(path, f"{text}\n".encode())
    return path


def read_comparison(name: str, root: Path) -> ComparisonRecord:
    """Reads a comparison.

    Raises:
        InputError: there is none of that name, or its file is broken or of a newer schema.
    """
    path = root / FOLDER / f"{name}.json"
    if not path.is_file():
        raise InputError(
            "no such comparison was made here",
            source=root,
            field="comparison",
            value=name,
            remedy="Make it first: passt-bench compare A B … --name NAME",
        )
    try:
        record = TypeAdapter(ComparisonRecord).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            first["msg"],
            source=path,
            field=".".join(map(str, first["loc"])) or None,
            remedy="Remove the file and compare again; the sessions are not lost.",
        ) from None
    if record.schema > SCHEMA:
        raise InputError(
            "a comparison of another schema",
            source=path,
            field="schema",
            value=record.schema,
            remedy=f"This version reads schemas up to {SCHEMA}; install a newer passt-bench.",
        )
    return record
