"""Weights: reading without executing pickles, fitting, saving, and the published files."""

from __future__ import annotations

from passt_bench.models.weights.fetch import get
from passt_bench.models.weights.load import Loaded, load_weights
from passt_bench.models.weights.model_file import Model, export_model, read_model, save_model
from passt_bench.published_weights import (
    PUBLISHED,
    Published,
    find_published,
    locate,
    weights_folder,
)

__all__ = [
    "PUBLISHED",
    "Loaded",
    "Model",
    "Published",
    "export_model",
    "find_published",
    "get",
    "load_weights",
    "locate",
    "read_model",
    "save_model",
    "weights_folder",
]
