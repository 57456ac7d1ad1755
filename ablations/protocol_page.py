"""Prints the tables of docs/protocols.md: ``python -m passt_bench.ablations.protocol_page``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from passt_bench.spec import FrontendSpec, Patchout

from .protocols import PATCHOUTS, PROTOCOLS, Setting

_ROWS = {"b": "PaSST-B", "u": "PaSST-U", "s": "PaSST-S", "s_l": "PaSST-S-L", "s_n": "PaSST-S-N"}


def tables() -> str:
    """Every value of every protocol with its source, in Markdown."""
    # Nothing is published for DCASE20, so its shared settings have another source.
    first, *others = (protocol for name, protocol in PROTOCOLS.items() if name != "dcase20")
    shared = [setting for setting in first if all(setting in other for other in others)]
    parts = [
        "## Shared by all but DCASE20\n\n" + _table(shared, "field", (s.field for s in shared))
    ]
    for name, protocol in PROTOCOLS.items():
        own = [setting for setting in protocol if setting not in shared]
        parts.append(f"## {name}\n\n" + _table(own, "field", (s.field for s in own)))
    for name, rows in PATCHOUTS.items():
        labels = (_ROWS[row] for row in rows)
        parts.append(f"## Patchout on {name}\n\n" + _table(rows.values(), "row", labels))
    return "\n\n".join(parts) + "\n"


def _table(settings: Iterable[Setting], head: str, labels: Iterable[str]) -> str:
    lines = [f"| {head} | value | source |", "|---|---|---|"]
    for label, setting in zip(labels, settings, strict=True):
        text = "; ".join(filter(None, (setting.source, setting.conflicting_source)))
        lines.append(f"| {label} | {_value(setting.value)} | {text} |")
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, FrontendSpec | Patchout):
        plain = Patchout(scope=value.scope) if isinstance(value, Patchout) else None
        values = {item.name: getattr(value, item.name) for item in fields(value)}
        shown = [
            f"{name} {number}"
            for name, number in values.items()
            if number is not None and (plain is None or number != getattr(plain, name))
        ]
        return ", ".join(shown) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


if __name__ == "__main__":
    print(tables(), end="")
