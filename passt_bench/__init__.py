"""Benchmarks and controlled ablations of patchout for audio transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_frame"]

if TYPE_CHECKING:
    from passt_bench.analysis.frame import load_frame


def __getattr__(name: str) -> Any:
    # pandas takes a second to import; only who asks for the frame pays for it.
    if name == "load_frame":
        from passt_bench.analysis.frame import load_frame

        return load_frame
    raise AttributeError(name)
