"""What became of each tensor of a weight file, by name."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

_LOG = logging.getLogger("passt_bench.weights")
_SHOWN = 6  # names in one line


@dataclass
class Loaded:
    """A report on loaded weights.

    Attributes:
        source: the file's name.
        format: whose parameter names the file has.
        taken: parameters that hold the file's values as they are.
        adapted: parameter → how the file's values were changed to fit.
        remade: parameter that keeps its initial values → why.
        dropped: tensor of the file that the model has no place for → why.
        notes: choices that concern the whole file.
    """

    source: str
    format: str
    taken: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    remade: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> tuple[str, ...]:
        """The report as sentences; parameters with one reason share a line."""
        out = [f"{self.source}: {self.format}, {len(self.taken)} tensors taken as they are"]
        out += self.notes
        for what, table in (
            ("adapted", self.adapted),
            ("re-made", self.remade),
            ("dropped", self.dropped),
        ):
            reasons: dict[str, list[str]] = {}
            for name, why in table.items():
                reasons.setdefault(why, []).append(name)
            out += [f"{what}: {_listed(names)}: {why}" for why, names in reasons.items()]
        return tuple(out)

    def log(self) -> None:
        """Writes every line to the log ``passt_bench.weights``."""
        for line in self.lines():
            _LOG.info(line)


def _listed(names: list[str]) -> str:
    """Names for a line: the tensors of a block as one."""
    short = list(dict.fromkeys(re.sub(r"^((?:v\.)?blocks\.\d+)\..*", r"\1", n) for n in names))
    rest = len(short) - _SHOWN
    return ", ".join(short[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
