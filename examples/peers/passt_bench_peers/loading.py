"""Imports the authors' packages without their prints, warnings and downloads."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import passt_bench.torchaudio_guard  # noqa: F401  # packages shall find torchaudio as it runs here

_libraries: list[torch.library.Library] = []  # what it declares is gone with the object


def load(module: str) -> Any:
    """Imports a module of an authors' package.

    torchvision's wheel is built for CUDA: beside a CPU build of torch its operators are missing,
    and its import asks for two of them by name; declared, they need not be there.
    panns_inference downloads a list of labels into the home folder when it is imported, unless a
    file of that name is there.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with tempfile.TemporaryDirectory() as home:
            labels = Path(home) / "panns_data" / "class_labels_indices.csv"
            labels.parent.mkdir()
            labels.write_text("index,mid,display_name\n", encoding="utf-8")
            with mock.patch.dict(os.environ, HOME=home, HF_HUB_OFFLINE="1"):
                _declare_operators()
                return importlib.import_module(module)


def _declare_operators() -> None:
    if _libraries or torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    _libraries.append(library)
