"""AST, CNN14 and MobileNetV3: the cases of both comparisons, on our side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import known_weights
import torch
from computing import compute, targets
from golden_store import Outputs
from torch import nn

from passt_bench.models import build_model

HEADS = {"ast": "mlp_head", "cnn14": "fc_audioset", "mobilenetv3": "classifier.3"}


@dataclass(frozen=True)
class BaselineCase:
    """A model, its options and its input."""

    name: str
    model: str
    mels: int
    frames: int
    classes: int = 527
    batch: int = 2
    options: Mapping[str, int | float] = field(default_factory=dict)
    training: bool = False
    # Batch statistics multiply rounding: gradients of two layouts differ by 7e-3 in float32.
    precision: torch.dtype = torch.float32

    def build(self) -> nn.Module:
        """Our model with known weights."""
        net = build_model(
            self.model, self.classes, mels=self.mels, frames=self.frames, **self.options
        )
        known_weights.fill(net)
        return net.to(self.precision)

    def input(self) -> torch.Tensor:
        """(B, 1, mels, frames)."""
        x = known_weights.spectrogram(self.name, self.batch, self.mels, self.frames)
        return x.to(self.precision)

    def targets(self) -> torch.Tensor | None:
        """Zeros and ones for the loss, in training."""
        if not self.training:
            return None
        return targets(self.name, self.batch, self.classes).to(self.precision)

    def ours(self, net: nn.Module) -> Outputs:
        """What ours computes."""
        head = net.get_submodule(HEADS[self.model])
        return compute(net, head, (self.input(),), self.targets())


_TRAINED = {"training": True, "precision": torch.float64}
_TINY = {"width": 96, "depth": 2, "heads": 3}
SMALL = (
    BaselineCase("stride 10", "ast", 128, 1024, options={"stride": 10, **_TINY}),
    BaselineCase("stride 16", "ast", 128, 1024, 35, options={"stride": 16, **_TINY}),
    BaselineCase("training", "ast", 128, 256, 50, options={**_TINY}, training=True),
    BaselineCase("2 s", "cnn14", 64, 201),
    BaselineCase("training", "cnn14", 64, 101, 50, batch=3, **_TRAINED),
    BaselineCase("width 1", "mobilenetv3", 128, 200),
    BaselineCase("width 0.4", "mobilenetv3", 128, 200, 50, options={"width_mult": 0.4}),
    BaselineCase("width 2", "mobilenetv3", 64, 100, 10, options={"width_mult": 2.0}),
    BaselineCase("training", "mobilenetv3", 128, 200, 50, batch=4, **_TRAINED),
)
FULL = (
    BaselineCase("AudioSet, stride 10", "ast", 128, 1024, batch=1),
    BaselineCase("AudioSet, stride 16", "ast", 128, 1024, options={"stride": 16}),
    BaselineCase("ESC-50, 512 frames", "ast", 128, 512, 50),
    BaselineCase("Speech Commands, 128 frames", "ast", 128, 128, 35, batch=4),
    BaselineCase("AudioSet, 10 s", "cnn14", 64, 1001),
    BaselineCase("AudioSet, 10 s", "mobilenetv3", 128, 1000),
)
