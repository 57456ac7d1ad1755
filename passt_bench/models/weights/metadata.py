"""What this package writes into a safetensors file beside the tensors: one JSON text.

One text rather than several: safetensors writes several in an order that changes from process to
process, and then the same model would not give the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from passt_bench.errors import InputError
from passt_bench.models.weights.files import TensorFile

_NAME = "passt_bench"
SCHEMA = 1


def pack(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as the metadata of a safetensors file."""
    text = json.dumps(
        {"schema": SCHEMA, **facts}, sort_keys=True, allow_nan=False, ensure_ascii=False
    )
    return {_NAME: text}


def unpack(file: TensorFile) -> dict[str, Any] | None:
    """The facts of a file; None where it is not this package's.

    Raises:
        InputError: they are no JSON, or of a newer schema.
    """
    if _NAME not in file.metadata:
        return None
    try:
        facts = json.loads(file.metadata[_NAME])
    except ValueError:
        facts = None
    schema = facts.get("schema") if isinstance(facts, dict) else None
    if not isinstance(schema, int) or schema > SCHEMA:
        raise InputError(
            "not the facts that this version writes into a model file",
            source=file.path,
            field="schema",
            value=schema,
            remedy=f"This version reads schemas up to {SCHEMA}; install a newer passt-bench, or "
            "save the model again.",
        )
    return dict(facts)
