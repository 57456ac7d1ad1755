"""The authors' models under the calling convention of passt-bench: to be measured, not trained.

Their weights are random: cost does not depend on them. The official PaSST draws its patchout itself
and is given amounts to drop; the others drop nothing.
"""

from __future__ import annotations

import contextlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from passt_bench.errors import InputError
from passt_bench.models.base import fill_normal
from passt_bench.models.patchout import resolve
from passt_bench.registry import MODELS
from passt_bench.spec import ast_frontend, panns_frontend
from passt_bench.spec.recipe import Pair, Patchout
from passt_bench_peers.loading import load

Amounts = tuple[int, int, int]  # single patches, time columns, frequency rows to drop
_NOTHING = Patchout()
_PATCH: Pair = (16, 16)


class Peer(nn.Module, ABC):
    """An authors' module, called as passt-bench calls a model.

    Args:
        make: builds the module. On the CPU, for foreign code may read values while it builds; the
            module then goes where torch builds by default, which is ``meta`` where costs are
            planned.
        grid: of its patches; None for a model without.
        stride: of its patches.
        patchout: what it drops in training unless a step says otherwise.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        grid: Pair | None = None,
        stride: Pair = (10, 10),
        patchout: Patchout | None = None,
    ) -> None:
        super().__init__()
        with torch.device("cpu"), contextlib.redirect_stdout(io.StringIO()):
            net = make()
        self.net = net.to(torch.get_default_device())
        self._grid, self.patch, self.stride = grid, _PATCH, stride
        self.patchout = patchout or _NOTHING

    @property
    def special_tokens(self) -> int:
        """Tokens beside the patches: class and distillation token."""
        return 2 if self._grid else 0

    def grid(self, frames: int) -> Pair | None:
        """The patch grid that it was built for."""
        return self._grid

    @abstractmethod
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, classes); ``kept`` must be None."""

    def step_inputs(
        self, setting: Patchout, frames: int, seed: int, step: int, batch: int
    ) -> dict[str, Any]:
        """What it takes beside its input in a training step: nothing.

        Raises:
            InputError: patches are to be dropped.
        """
        _refuse_patchout(setting)
        return {}

    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        """Small random weights, norms 1, biases 0: cost does not depend on them."""
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            fill_normal(parameter, 0.02, generator)


def _refuse_kept(kept: torch.Tensor | None) -> None:
    if kept is not None:
        raise ValueError("this model does not take the patches to keep")


def _refuse_patchout(setting: Patchout | None) -> None:
    if setting is not None and setting.kind != "none":
        raise InputError(
            "this model drops no patches",
            field="patchout.kind",
            value=setting.kind,
            remedy="Use none.",
        )


def _grid_of(mels: int, frames: int, stride: Pair) -> Pair:
    return (mels - _PATCH[0]) // stride[0] + 1, (frames - _PATCH[1]) // stride[1] + 1


@MODELS.register(
    "hear21passt",
    version=1,
    summary="official PaSST (package hear21passt); to compare costs",
    packages=("hear21passt", "timm", "torchvision"),
    beside_paper=(
        "hear21passt",
        "hear21passt:patchout.kind=structured,patchout.time=40,patchout.frequency=4",
    ),
)
class OfficialPaSST(Peer):
    """PaSST of the package ``hear21passt``, which draws its patchout itself."""

    def __init__(
        self,
        num_classes: int,
        *,
        mels: int,
        frames: int,
        stride: Pair = (10, 10),
        depth: int = 12,
        width: int = 768,
        heads: int = 12,
        patchout: Patchout | None = None,
    ) -> None:
        module = load("hear21passt.models.passt")
        module.first_RUN = False  # it prints every shape of its first run
        grid = _grid_of(mels, frames, stride)
        own = _amounts(patchout or _NOTHING, grid)
        super().__init__(
            lambda: module.PaSST(
                img_size=(mels, frames),
                stride=stride,
                num_classes=num_classes,
                embed_dim=width,
                depth=depth,
                num_heads=heads,
                distilled=True,
            ),
            grid,
            stride,
            patchout,
        )
        self._own = own

    def forward(
        self,
        x: torch.Tensor,
        kept: torch.Tensor | None = None,
        amounts: Amounts | None = None,
    ) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, classes).

        Args:
            x: log-mel.
            kept: must be None.
            amounts: what it drops if it is in training; None is what it was built with.
        """
        _refuse_kept(kept)
        net: Any = self.net
        net.u_patchout, net.s_patchout_t, net.s_patchout_f = amounts or self._own
        logits: torch.Tensor = net(x)[0]
        return logits

    def step_inputs(
        self, setting: Patchout, frames: int, seed: int, step: int, batch: int
    ) -> dict[str, Any]:
        """What it takes beside its input in a training step: how much to drop.

        Raises:
            InputError: patchout that the official code does not have.
        """
        assert self._grid is not None
        return {"amounts": _amounts(setting, self._grid)}


def _amounts(setting: Patchout, grid: Pair) -> Amounts:
    """A setting in the counts of the official code.

    Raises:
        InputError: patchout that the official code does not have.
    """
    if setting.kind not in ("none", "unstructured", "structured", "time", "frequency"):
        raise InputError(
            "the official code has no such kind",
            field="patchout.kind",
            value=setting.kind,
            remedy="Use none, unstructured, structured, time or frequency.",
        )
    if setting.scope != "batch":
        raise InputError(
            "the official code draws one pattern a batch",
            field="patchout.scope",
            value=setting.scope,
            remedy="Use batch.",
        )
    kept = resolve(setting, grid)
    if setting.kind == "unstructured":
        return grid[0] * grid[1] - kept.kept, 0, 0
    return 0, grid[1] - kept.time, grid[0] - kept.frequency


@MODELS.register(
    "transformers_ast",
    version=1,
    summary="Hugging Face's AST (package transformers); to compare costs",
    packages=("transformers",),
    frontend=ast_frontend(),
    beside_paper=("transformers_ast",),
)
class HuggingFaceAST(Peer):
    """AST of the package ``transformers``."""

    def __init__(
        self,
        num_classes: int,
        *,
        mels: int,
        frames: int,
        stride: Pair = (10, 10),
        depth: int = 12,
        width: int = 768,
        heads: int = 12,
        patchout: Patchout | None = None,
    ) -> None:
        _refuse_patchout(patchout)
        module = load("transformers")
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
        grid = _grid_of(mels, frames, stride)
        super().__init__(lambda: module.ASTForAudioClassification(config), grid, stride)

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, classes); ``kept`` must be None."""
        _refuse_kept(kept)
        logits: torch.Tensor = self.net(x[:, 0].transpose(1, 2)).logits
        return logits


@MODELS.register(
    "panns_inference",
    version=1,
    summary="official CNN14 (package panns_inference); to compare costs",
    packages=("panns_inference", "torchlibrosa"),
    frontend=panns_frontend(),
    beside_paper=("panns_inference",),
)
class OfficialCnn14(Peer):
    """CNN14 of the package ``panns_inference``, behind its front end."""

    def __init__(
        self, num_classes: int, *, mels: int, frames: int, patchout: Patchout | None = None
    ) -> None:
        _refuse_patchout(patchout)
        module = load("panns_inference.models")

        def make() -> nn.Module:
            net: nn.Module = module.Cnn14(
                sample_rate=32000,
                window_size=1024,
                hop_size=320,
                mel_bins=mels,
                fmin=50,
                fmax=14000,
                classes_num=num_classes,
            )
            # passt-bench measures front ends apart; SpecAugment is no part of the network.
            for name in ("spectrogram_extractor", "logmel_extractor", "spec_augmenter"):
                setattr(net, name, nn.Identity())
            return net

        super().__init__(make)

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, classes); ``kept`` must be None."""
        _refuse_kept(kept)
        probabilities = self.net(x.transpose(2, 3))["clipwise_output"]
        return torch.logit(probabilities.clamp(1e-6, 1 - 1e-6))
