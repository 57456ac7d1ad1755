"""Weights: reading without executing pickles, fitting and saving."""

from __future__ import annotations

from passt_bench.models.weights.load import Loaded, load_weights
from passt_bench.models.weights.model_file import (
    Model,
    check_published,
    read_model,
    save_model,
)

__all__ = [
    "Loaded",
    "Model",
    "check_published",
    "load_weights",
    "read_model",
    "save_model",
]
