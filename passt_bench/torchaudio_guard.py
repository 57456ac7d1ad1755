"""Imports torchaudio, without its extension where that cannot be loaded.

The wheel of torchaudio 2.11 is built for CUDA 13.0: with a CPU build of torch its extension fails
to load (OSError), with a later CUDA build it refuses (RuntimeError). What is used here, mel filter
banks and resampling, is plain Python. So if the import fails, the half-imported modules are
dropped, an empty module replaces the extension, and torchaudio is imported again.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def _import() -> Any:
    try:
        return importlib.import_module("torchaudio")
    except (OSError, RuntimeError, ImportError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        extension: Any = ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = extension
        return importlib.import_module("torchaudio")


torchaudio = _import()
resample = importlib.import_module("torchaudio.functional").resample
kaldi = importlib.import_module("torchaudio.compliance.kaldi")
