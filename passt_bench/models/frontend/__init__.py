"""Front ends: waveform to normalised log-mel, each as its authors compute it.

==========  ==================================================================================
``logmel``  PaSST: ``models/preprocess.py`` of the reference code
``kaldi``   AST: Kaldi's filter bank, as in ``src/dataloader.py`` of github.com/YuanGongND/ast
``panns``   PANNs: decibels over Slaney's mel filters, as torchlibrosa computes them
==========  ==================================================================================

Always float32, whatever the autocast. In training the edges of the filters may be drawn anew for
each batch, see `draw_edges`.
"""

from __future__ import annotations

from passt_bench.errors import InputError
from passt_bench.models.frontend.base import FrontEnd, draw_edges, is_jittered, mask_fill
from passt_bench.models.frontend.kaldi import KaldiFbank
from passt_bench.models.frontend.logmel import LogMel
from passt_bench.models.frontend.panns import PannsLogMel
from passt_bench.spec.recipe import FrontendSpec

__all__ = [
    "FrontEnd",
    "KaldiFbank",
    "LogMel",
    "PannsLogMel",
    "draw_edges",
    "frame_count",
    "is_jittered",
    "make_frontend",
    "mask_fill",
]

_KINDS: dict[str, type[FrontEnd]] = {kind.name: kind for kind in (LogMel, KaldiFbank, PannsLogMel)}


def _kind(spec: FrontendSpec) -> type[FrontEnd]:
    if spec.name not in _KINDS:
        raise InputError(
            "unknown front end",
            field="frontend.name",
            value=spec.name,
            remedy=f"Known: {', '.join(_KINDS)}.",
        )
    return _KINDS[spec.name]


def make_frontend(spec: FrontendSpec) -> FrontEnd:
    """The front end of a recipe, a module without parameters: (B, samples) → (B, 1, mels, frames).

    Raises:
        InputError: an unknown name, or sizes that do not fit each other.
    """
    return _kind(spec)(spec)


def frame_count(spec: FrontendSpec, seconds: float) -> int:
    """Frames of a clip.

    Raises:
        InputError: an unknown front end, or a clip too short for one frame.
    """
    found = _kind(spec).frames(spec, round(seconds * spec.sampling_rate))
    return spec.frames or found
