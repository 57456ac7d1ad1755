"""What a comparison of costs leaves behind: which arm of which session is which model.

Layout under an output folder: ``comparisons/NAME.json`` beside ``records/``, where the sessions
stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from passt_bench import documents
from passt_bench.names import Key, Name
from passt_bench.record import SCHEMA, VariantRecord

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

    name: Name
    baseline: str
    variants: tuple[VariantRecord, ...]
    sessions: tuple[Key, ...]
    command: str = ""
    packages: tuple[tuple[str, str], ...] = ()
    kind: Literal["comparison"] = "comparison"
    schema: int = SCHEMA


def comparison_names(root: Path) -> list[str]:
    """The comparisons under an output folder."""
    return documents.names(root / FOLDER)


def write_comparison(record: ComparisonRecord, root: Path) -> Path:
    """Writes a comparison under an output folder; a new one takes the place of its namesake."""
    return documents.write(record, root / FOLDER)


def read_comparison(name: str, root: Path) -> ComparisonRecord:
    """Reads a comparison.

    Raises:
        InputError: there is none of that name, or its file is broken or of a newer schema.
    """
    return documents.read(
        ComparisonRecord,
        name,
        root / FOLDER,
        field="comparison",
        make="Make it first: passt-bench compare A B … --name NAME",
        again="Remove the file and compare again; the sessions are not lost.",
    )
