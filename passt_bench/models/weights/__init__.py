"""Weights: reading without executing pickles, fitting, saving, and the published files."""

from __future__ import annotations

from passt_bench.models.weights.fetch import get, locate, weights_folder
from passt_bench.models.weights.load import load_weights
from passt_bench.models.weights.loaded import Loaded
from passt_bench.models.weights.saved import Model, export_model, read_model, save_model
from passt_bench.models.weights.table import PUBLISHED, Published, published

__all__ = [
    "PUBLISHED",
    "Loaded",
    "Model",
    "Published",
    "export_model",
    "get",
    "load_weights",
    "locate",
    "published",
    "read_model",
    "save_model",
    "weights_folder",
]
