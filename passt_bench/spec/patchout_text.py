"""Reads and writes patchout as text: ``structured:0.5``."""

from __future__ import annotations

from collections.abc import Iterable

from passt_bench.errors import InputError, check_known
from passt_bench.registry import PATCHOUTS
from passt_bench.spec.codec import own_options
from passt_bench.spec.recipe import Patchout


def parse_patchout(text: str, field: str = "--patchout") -> Patchout:
    """Patchout from ``KIND:RATE``, or no patchout from ``none``; ``field`` is for messages.

    Raises:
        InputError: the kind is unknown, or the rate is missing or not from 0 to below 1.
    """
    kind, _, rate = text.partition(":")
    kinds = [component.name for component in PATCHOUTS.all()]
    check_known(kind, kinds, "unknown patchout kind", field=field)
    if text == "none":
        return Patchout()
    try:
        if 0 <= float(rate) < 1:
            return Patchout(kind, rate=float(rate))
    except ValueError:
        pass  # no number
    raise InputError(
        "the rate is missing or not from 0 to below 1",
        field=field,
        value=text,
        remedy="Write KIND:RATE with the share of patches to drop, e.g. structured:.5, or none.",
    )


def patchout_text(setting: Patchout, tokens: Iterable[tuple[int, int]]) -> str:
    """``patchout structured:0.5, 34 of 66 tokens kept``; tokens kept and all, of each model."""
    amounts = {"time": setting.time, "frequency": setting.frequency, "patches": setting.patches}
    named = {name: value for name, value in amounts.items() if value is not None}
    parts = [f"{name}={value}" for name, value in {**named, **own_options(setting)}.items()]
    parts += [f"{setting.rate:g}"] if setting.rate is not None else []
    kept = dict.fromkeys(f"{some} of {every}" for some, every in tokens)
    return f"patchout {setting.kind}:{','.join(parts)}, {' and '.join(kept)} tokens kept"
