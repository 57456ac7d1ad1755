"""The authors' own models as subjects of `passt-bench compare`, where their packages are installed.

They are measured, not trained: their weights are random. ``hear21passt`` is the official PaSST,
``transformers`` has an AST, ``panns_inference`` the official CNN14. The official PaSST draws its
patchout itself, so it is told how much to drop instead of which patches to keep.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

import passt_bench.torchaudio_guard  # noqa: F401  # peers shall find torchaudio as it runs here
from passt_bench.errors import InputError
from passt_bench.models.init import fill_normal
from passt_bench.models.passt import SPECIAL_TOKENS
from passt_bench.models.patchout import resolve
from passt_bench.registry import MODELS
from passt_bench.spec.recipe import Pair, Patchout

# Registered name → package that must be installed.
PEERS = {
    "hear21passt": "hear21passt",
    "transformers_ast": "transformers",
    "panns_inference": "panns_inference",
}
# What is compared of them by default: the official PaSST without patchout and as PaSST-S.
PEER_ITEMS = (
    "hear21passt",
    "hear21passt:patchout.kind=structured,patchout.time=40,patchout.frequency=4",
    "transformers_ast",
    "panns_inference",
)
Call = Callable[[nn.Module, torch.Tensor], torch.Tensor]
_libraries: list[torch.library.Library] = []  # what it declares is gone with the object


def load_peer(module: str) -> Any:
    """Imports a peer's module without its prints, warnings and downloads.

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


class Peer(nn.Module):
    """A foreign module under the calling convention of the models here.

    Args:
        net: the foreign module.
        call: log-mel through it, to logits.
        grid: its patch grid; None for a CNN.
        patchout: what it drops by itself in training.
    """

    draws_patchout = True

    def __init__(
        self, net: nn.Module, call: Call, grid: Pair | None = None, patchout: Patchout | None = None
    ) -> None:
        super().__init__()
        self.net, self._call, self._grid = net, call, grid
        self.patchout = patchout or Patchout()
        self.patch: Pair = (16, 16)
        self.stride: Pair = (10, 10)

    @property
    def special_tokens(self) -> int:
        """Tokens beside the patches."""
        return SPECIAL_TOKENS if self._grid else 0

    def grid(self, frames: int) -> Pair | None:
        """The patch grid that it was built for."""
        return self._grid

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, classes); ``kept`` must be None."""
        if kept is not None:
            raise ValueError("a peer draws its patches itself")
        return self._call(self.net, x)

    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        """Small random weights, norms 1, biases 0: cost does not depend on them."""
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            fill_normal(parameter, 0.02, generator)


def _call_passt(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = net(x)[0]
    return logits


def _call_ast(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = net(x[:, 0].transpose(1, 2)).logits
    return logits


def _call_cnn14(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    probabilities = net(x.transpose(2, 3))["clipwise_output"]
    return torch.logit(probabilities.clamp(1e-6, 1 - 1e-6))


def _passt(
    num_classes: int,
    *,
    mels: int,
    frames: int,
    stride: Pair = (10, 10),
    depth: int = 12,
    width: int = 768,
    heads: int = 12,
    patchout: Patchout | None = None,
) -> Peer:
    module = load_peer("hear21passt.models.passt")
    module.first_RUN = False  # it prints every shape of its first run
    patchout = patchout or Patchout()
    grid = (mels - 16) // stride[0] + 1, (frames - 16) // stride[1] + 1
    dropped = resolve(patchout, grid)
    if patchout.kind not in ("none", "unstructured", "structured", "time", "frequency"):
        raise InputError(
            "the official code has no such kind",
            field="patchout.kind",
            value=patchout.kind,
            remedy="Use none, unstructured, structured, time or frequency.",
        )
    single = patchout.kind == "unstructured"
    with contextlib.redirect_stdout(io.StringIO()):
        net = module.PaSST(
            img_size=(mels, frames),
            stride=stride,
            num_classes=num_classes,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            distilled=True,
            u_patchout=grid[0] * grid[1] - dropped.kept if single else 0,
            s_patchout_t=0 if single else grid[1] - dropped.time,
            s_patchout_f=0 if single else grid[0] - dropped.frequency,
        )
    peer = Peer(net, _call_passt, grid, patchout)
    peer.stride = stride
    return peer


def _ast(
    num_classes: int,
    *,
    mels: int,
    frames: int,
    stride: Pair = (10, 10),
    depth: int = 12,
    width: int = 768,
    heads: int = 12,
    patchout: Patchout | None = None,
) -> Peer:
    _refuse_patchout(patchout)
    module = load_peer("transformers")
    config = module.ASTConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        frequency_stride=stride[0],
        time_stride=stride[1],
        max_length=frames,
        num_mel_bins=mels,
        num_labels=num_classes,
        attn_implementation="sdpa",
    )
    grid = (mels - 16) // stride[0] + 1, (frames - 16) // stride[1] + 1
    peer = Peer(module.ASTForAudioClassification(config), _call_ast, grid)
    peer.stride = stride
    return peer


def _cnn14(num_classes: int, *, mels: int, frames: int, patchout: Patchout | None = None) -> Peer:
    _refuse_patchout(patchout)
    net = load_peer("panns_inference.models").Cnn14(
        sample_rate=32000,
        window_size=1024,
        hop_size=320,
        mel_bins=mels,
        fmin=50,
        fmax=14000,
        classes_num=num_classes,
    )
    # Its own front end is measured apart, as everybody's; SpecAugment is no part of the network.
    for name in ("spectrogram_extractor", "logmel_extractor", "spec_augmenter"):
        setattr(net, name, nn.Identity())
    return Peer(net, _call_cnn14)


def _refuse_patchout(patchout: Patchout | None) -> None:
    if patchout is not None and patchout.kind != "none":
        raise InputError(
            "this peer drops no patches",
            field="patchout.kind",
            value=patchout.kind,
            remedy="Use none.",
        )


_BUILDERS = {
    "hear21passt": (_passt, "official PaSST, where hear21passt is installed; to compare costs"),
    "transformers_ast": (_ast, "Hugging Face's AST, where transformers is; to compare costs"),
    "panns_inference": (_cnn14, "official CNN14, where panns_inference is; to compare costs"),
}


def _anywhere(build: Callable[..., Peer]) -> Callable[..., Peer]:
    """Lets a builder work on the meta device: foreign code reads values while it builds."""

    @wraps(build)
    def built(*arguments: Any, **options: Any) -> Peer:
        device = torch.get_default_device()
        with torch.device("cpu"):
            peer = build(*arguments, **options)
        return peer.to(device)

    return built


def register_peers() -> None:
    """Registers the peers whose packages are installed."""
    for name, (build, summary) in _BUILDERS.items():
        if find_spec(PEERS[name]) is not None:
            MODELS.register(name, version=1, summary=summary)(_anywhere(build))
