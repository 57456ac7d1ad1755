"""The authors' models under the calling convention of passt-bench: to be measured, not trained.

Their weights are random: cost does not depend on them. The official PaSST draws its patchout itself
and is given amounts to drop; the others drop nothing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from passt_bench.errors import InputError
from passt_bench.models import AudioModel
from passt_bench.models.base import Positive, PositivePair, fill_normal
from passt_bench.models.patchout import resolve
from passt_bench.registry import MODELS
from passt_bench.spec import ast_frontend, panns_frontend
from passt_bench.spec.recipe import Pair, Patchout
from passt_bench_peers.loading import load

Amounts = tuple[int, int, int]  # single patches, time columns, frequency rows to drop


@dataclass(frozen=True)
class TransformerOptions:
    """Hyper-parameters that both transformers have."""

    stride: Annotated[PositivePair, Field(description="Patch stride (frequency, time).")] = (10, 10)
    depth: Annotated[Positive, Field(description="Blocks.")] = 12
    width: Annotated[Positive, Field(description="Embedding width.")] = 768
    heads: Annotated[Positive, Field(description="Attention heads.")] = 12


class Peer(AudioModel):
    """An authors' module, called as passt-bench calls a model; a subclass makes ``net``."""

    patch = (16, 16)
    stride = (10, 10)
    size: Pair | None = None  # of the patch grid, where the module has patches

    def grid(self, frames: int) -> Pair | None:
        """The patch grid that it was built for."""
        return self.size

    def step_inputs(
        self, setting: Patchout, frames: int, seed: int, step: int, batch: int
    ) -> dict[str, Any]:
        """What it takes beside its input in a training step: nothing.

        Raises:
            InputError: patches are to be dropped.
        """
        if setting.kind != "none":
            raise InputError(
                "this model drops no patches",
                field="patchout.kind",
                value=setting.kind,
                remedy="Use none.",
            )
        return {}

    def init_parameter(
        self, name: str, parameter: torch.Tensor, generator: torch.Generator
    ) -> None:
        """Small random weights, norms 1, biases 0: cost does not depend on them."""
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            fill_normal(parameter, 0.02, generator)

    def _set_grid(self, stride: Pair, frames: int) -> None:
        self.stride = stride
        self.size = (self.mels - 16) // stride[0] + 1, (frames - 16) // stride[1] + 1


def _make(module: Callable[..., nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    """Builds on the CPU, for foreign code may read values while it builds.

    The module then goes where torch builds by default, which is ``meta`` where costs are planned.
    """
    with torch.device("cpu"), contextlib.redirect_stdout(io.StringIO()):
        net = module(*arguments, **options)
    return net.to(torch.get_default_device())


def _refuse_kept(kept: torch.Tensor | None) -> None:
    if kept is not None:
        raise ValueError("this model does not take the patches to keep")


@MODELS.register(
    "hear21passt",
    version=1,
    summary="official PaSST (package hear21passt); to compare costs",
    packages=("hear21passt", "timm", "torchvision"),
)
class OfficialPaSST(Peer):
    """PaSST of the package ``hear21passt``, which draws its patchout itself."""

    Options = TransformerOptions
    special_tokens = 2

    def __init__(
        self, num_classes: int, options: TransformerOptions, *, mels: int, frames: int
    ) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self._set_grid(options.stride, frames)
        module = load("hear21passt.models.passt")
        module.first_RUN = False  # it prints every shape of its first run
        self.net = _make(
            module.PaSST,
            img_size=(mels, frames),
            stride=options.stride,
            num_classes=num_classes,
            embed_dim=options.width,
            depth=options.depth,
            num_heads=options.heads,
            distilled=True,
        )

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
            amounts: what it drops if it is in training; None is by its own ``patchout``.
        """
        _refuse_kept(kept)
        net: Any = self.net
        amounts = amounts or self.step_inputs(self.patchout, x.shape[3], 0, 0, 1)["amounts"]
        net.u_patchout, net.s_patchout_t, net.s_patchout_f = amounts
        logits: torch.Tensor = net(x)[0]
        return logits

    def step_inputs(
        self, setting: Patchout, frames: int, seed: int, step: int, batch: int
    ) -> dict[str, Any]:
        """What it takes beside its input in a training step: how much to drop.

        Raises:
            InputError: patchout that the official code does not have.
        """
        assert self.size is not None
        return {"amounts": _amounts(setting, self.size)}


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
            "the official code draws one pattern per batch",
            field="patchout.scope",
            value=setting.scope,
            remedy="Use batch.",
        )
    resolved = resolve(setting, grid)
    if setting.kind == "unstructured":
        return grid[0] * grid[1] - resolved.kept, 0, 0
    return 0, grid[1] - resolved.kept_columns, grid[0] - resolved.kept_rows


@MODELS.register(
    "transformers_ast",
    version=1,
    summary="Hugging Face's AST (package transformers); to compare costs",
    packages=("transformers",),
)
class HuggingFaceAST(Peer):
    """AST of the package ``transformers``."""

    Options = TransformerOptions
    frontend = ast_frontend()
    special_tokens = 2

    def __init__(
        self, num_classes: int, options: TransformerOptions, *, mels: int, frames: int
    ) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self._set_grid(options.stride, frames)
        module = load("transformers")
        config = module.ASTConfig(
            hidden_size=options.width,
            num_hidden_layers=options.depth,
            num_attention_heads=options.heads,
            intermediate_size=4 * options.width,
            frequency_stride=options.stride[0],
            time_stride=options.stride[1],
            max_length=frames,
            num_mel_bins=mels,
            num_labels=num_classes,
            attn_implementation="sdpa",
        )
        self.net = _make(module.ASTForAudioClassification, config)

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
)
class OfficialCnn14(Peer):
    """CNN14 of the package ``panns_inference``, behind its front end."""

    frontend = panns_frontend()

    def __init__(self, num_classes: int, options: Any, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self.net = _make(
            load("panns_inference.models").Cnn14,
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
            setattr(self.net, name, nn.Identity())

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, classes); ``kept`` must be None."""
        _refuse_kept(kept)
        probabilities = self.net(x.transpose(2, 3))["clipwise_output"]
        return torch.logit(probabilities.clamp(1e-6, 1 - 1e-6))
