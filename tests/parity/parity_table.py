"""The table of the parity session: the largest difference of each row, and what mistakes gave."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from golden_store import Outputs, differences, worst

KINDS = ("logits", "features", "log-mel", "gradient", "statistics")


@dataclass(frozen=True)
class Row:
    """One comparison: where, of what, how far apart, how far it may be, and whether by mistake."""

    section: str
    name: str
    part: str
    difference: float
    tolerance: float


def by_kind(ours: Outputs, theirs: Outputs) -> dict[str, float]:
    """The largest difference of each kind of output, all gradients as one."""
    found: dict[str, float] = {}
    for part, value in differences(ours, theirs).items():
        kind = part.split("/")[0]
        kind = kind if kind in KINDS else "parameters"
        found[kind] = max(found.get(kind, 0.0), value)
    return found


@dataclass
class Table:
    """Notes every comparison and raises where one is outside its tolerance."""

    rows: list[Row] = field(default_factory=list)

    def note(self, section: str, name: str, found: dict[str, float], tolerance: float) -> None:
        """Adds rows."""
        self.rows += [Row(section, name, part, found[part], tolerance) for part in found]

    def check(
        self, section: str, name: str, ours: Outputs, theirs: Outputs, tolerance: float
    ) -> None:
        """Ours must be theirs within the tolerance, part by part.

        Raises:
            AssertionError: the parts differ in name or shape, or a value too far.
        """
        difference, part = worst(ours, theirs)
        assert difference <= tolerance, f"{name}: {part} differs by {difference:.2e}"
        self.note(section, name, by_kind(ours, theirs), tolerance)

    def mistake(self, name: str, ours: Outputs, theirs: Outputs, tolerance: float) -> None:
        """A planted mistake: the same comparison must fail.

        Raises:
            AssertionError: it passes.
        """
        found = by_kind(ours, theirs)
        assert max(found.values()) > tolerance, f"{name} passes: {found}"
        self.note("Planted mistakes", name, found, tolerance)

    def sections(self) -> dict[str, list[list[str]]]:
        """Sections of Markdown rows: name, differences, tolerance."""
        found: dict[str, dict[str, list[Row]]] = {}
        for row in self.rows:
            found.setdefault(row.section, {}).setdefault(row.name, []).append(row)
        return {
            section: [
                [
                    name,
                    ", ".join(f"{row.part} {row.difference:.1e}" for row in rows),
                    f"{rows[0].tolerance:.0e}",
                ]
                for name, rows in names.items()
            ]
            for section, names in found.items()
        }

    def text(self) -> list[str]:
        """Lines for a terminal and for Markdown alike."""
        lines = []
        for section, rows in self.sections().items():
            last = "must exceed" if section == "Planted mistakes" else "tolerance"
            lines += ["", f"### {section}", "", f"| case | largest difference | {last} |"]
            lines += ["|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
        return lines

    def write(self, page: Path, versions: dict[str, str]) -> None:
        """Puts the tables between the two marks of the page."""
        stand = ", ".join(f"{name} {version}" for name, version in versions.items())
        inside = "\n".join([f"Computed with {stand}.", *self.text()])
        marks = r"(<!-- tables: written by the session -->\n).*(\n<!-- end of tables -->)"
        text, count = re.subn(
            marks, lambda found: f"{found[1]}{inside}{found[2]}", page.read_text(), flags=re.DOTALL
        )
        assert count == 1, f"{page.name} has lost the marks of its tables"
        page.write_text(text)
