"""Front ends: waveform to normalised log-mel, each as its authors compute it.

==========  ==================================================================================
``logmel``  PaSST: ``models/preprocess.py`` of the reference code
``kaldi``   AST: Kaldi's filter bank, as in ``src/dataloader.py`` of github.com/YuanGongND/ast
``panns``   PANNs: decibels over Slaney's mel filters, as torchlibrosa computes them
==========  ==================================================================================

Always float32, whatever the autocast. In training the edges of the filters may be drawn anew for
each batch, see `draw_edges`. Another front end is a registered subclass of `FrontEnd`.
"""

from __future__ import annotations

from passt_bench.models.frontend.base import FrontEnd, draw_edges, is_jittered, mask_fill
from passt_bench.models.frontend.kaldi import KaldiFbank
from passt_bench.models.frontend.logmel import LogMel
from passt_bench.models.frontend.panns import PannsLogMel
from passt_bench.registry import FRONTENDS
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


def make_frontend(spec: FrontendSpec) -> FrontEnd:
    """The front end of a recipe, a module without parameters: (B, samples) → (B, 1, mels, frames).

    Raises:
        InputError: an unknown name, or sizes that do not fit each other.
    """
    net: FrontEnd = FRONTENDS.get(spec.name).build(spec)
    return net


def frame_count(spec: FrontendSpec, seconds: float) -> int:
    """Frames of a clip.

    Raises:
        InputError: an unknown front end, or a clip too short for one frame.
    """
    kind: type[FrontEnd] = FRONTENDS.get(spec.name).build
    found = kind.frames(spec, round(seconds * spec.sampling_rate))
    return spec.frames or found
