"""The cases of both comparisons, live with the authors' code and frozen, on our side.

Small cases go into the golden files, full-size ones are compared live alone (but for one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import known_weights
import numpy as np
import torch
from golden_store import Outputs
from torch import nn

from passt_bench.models import build_model

MELS = 128
PATCH = 16
_HEADS = {"ast": "mlp_head", "cnn14": "fc_audioset", "mobilenetv3": "classifier.3"}


class Case:
    precision = torch.float32

    @property
    def tolerance(self) -> float:
        return 1e-4 if self.training else 1e-5

    def targets(self) -> torch.Tensor | None:
        if not self.training:
            return None
        return known_weights.targets(self.name, self.batch, self.classes).to(self.precision)


@dataclass(frozen=True)
class BaselineCase(Case):
    name: str
    family: str  # the model, and its golden file
    mels: int
    frames: int
    classes: int = 527
    batch: int = 2
    options: Mapping[str, int | float] = field(default_factory=dict)
    training: bool = False
    # Batch statistics multiply rounding: gradients of two layouts differ by 7e-3 in float32.
    precision: torch.dtype = torch.float32

    def build(self) -> nn.Module:
        size = {"mels": self.mels, "frames": self.frames, **self.options}
        net = build_model(self.family, self.classes, **size)
        known_weights.fill(net)
        return net.to(self.precision)

    def input(self) -> torch.Tensor:
        x = known_weights.spectrogram(self.name, self.batch, self.mels, self.frames)
        return x.to(self.precision)

    def ours(self, net: nn.Module) -> Outputs:
        head = net.get_submodule(_HEADS[self.family])
        return known_weights.compute(net, head, (self.input(),), self.targets())


@dataclass(frozen=True)
class PasstCase(Case):
    """A PaSST, its input, and in training what is dropped; names are the official ones."""

    name: str
    stride: int = 10
    frames: int = 998  # that the time encodings cover
    classes: int = 527
    depth: int = 12
    width: int = 768
    heads: int = 12
    batch: int = 1
    given: int | None = None  # frames of the input, where they are others
    s_patchout_t: int = 0
    s_patchout_f: int = 0
    u_patchout: int = 0
    offset: int | None = None  # of the time encodings, for shorter input in training
    family = "passt"

    @property
    def training(self) -> bool:
        dropped = self.s_patchout_t or self.s_patchout_f or self.u_patchout
        return bool(dropped) or self.offset is not None

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (frequency, time) of the input."""
        frames = self.given or self.frames
        return (MELS - PATCH) // self.stride + 1, (frames - PATCH) // self.stride + 1

    def build(self) -> nn.Module:
        size = {"width": self.width, "depth": self.depth, "heads": self.heads}
        net = build_model("passt_b", self.classes, stride=self.stride, frames=self.frames, **size)
        known_weights.fill(net)
        return net

    def input(self) -> torch.Tensor:
        return known_weights.spectrogram(self.name, self.batch, MELS, self.given or self.frames)

    def permutations(self) -> list[np.ndarray]:
        """What the official code's calls of ``torch.randperm`` are to return, in their order."""
        rows, columns = self.grid
        left = (rows - self.s_patchout_f) * (columns - self.s_patchout_t)
        draws = (
            ("time", self.s_patchout_t, columns),
            ("frequency", self.s_patchout_f, rows),
            ("patches", self.u_patchout, left),
        )
        name = self.name
        return [known_weights.permutation(f"{name}/{axis}", n) for axis, some, n in draws if some]

    def kept(self) -> torch.Tensor | None:
        """The same choice as flat frequency-major indices; None where nothing is dropped."""
        rows, columns = self.grid
        draws = iter(self.permutations())
        time, frequency = np.arange(columns), np.arange(rows)
        if self.s_patchout_t:
            time = np.sort(next(draws)[: columns - self.s_patchout_t])
        if self.s_patchout_f:
            frequency = np.sort(next(draws)[: rows - self.s_patchout_f])
        flat = (frequency[:, None] * columns + time).ravel()
        if self.u_patchout:
            flat = flat[np.sort(next(draws)[: len(flat) - self.u_patchout])]
        return None if len(flat) == rows * columns else torch.from_numpy(flat)

    def ours(self, net: nn.Module) -> Outputs:
        given = (self.input(), self.kept(), self.offset)
        return known_weights.compute(net, net.head, given, self.targets())


_SMALL = {"width": 96, "heads": 3, "depth": 2}
_ALL = {"s_patchout_t": 20, "s_patchout_f": 2, "u_patchout": 100}
_TRAINED = {"training": True, "precision": torch.float64}
SMALL: tuple[PasstCase | BaselineCase, ...] = (
    PasstCase("s10", classes=527, batch=2, **_SMALL),
    PasstCase("s12", stride=12, classes=200, given=1000, **_SMALL),
    PasstCase("s12-998", stride=12, classes=50, **_SMALL),
    PasstCase("s14", stride=14, classes=50, **_SMALL),
    PasstCase("s16", stride=16, classes=20, given=1000, **_SMALL),
    *(PasstCase(str(n), frames=n, classes=50, **_SMALL) for n in (2000, 3000, 3200)),
    PasstCase("depth7", classes=50, **{**_SMALL, "depth": 7}),
    PasstCase("shorter", classes=50, given=501, **_SMALL),
    PasstCase("s16-full", stride=16, classes=527),
    PasstCase("training-s", classes=50, batch=2, s_patchout_t=40, s_patchout_f=4, **_SMALL),
    PasstCase("training-u", classes=50, batch=2, u_patchout=400, **_SMALL),
    PasstCase("training-all", classes=50, batch=2, **_ALL, **_SMALL),
    PasstCase("training-offset", classes=50, given=500, offset=23, s_patchout_t=10, **_SMALL),
    BaselineCase("stride 10", "ast", 128, 1024, options={"stride": 10, **_SMALL}),
    BaselineCase("stride 16", "ast", 128, 1024, 35, options={"stride": 16, **_SMALL}),
    BaselineCase("training", "ast", 128, 256, 50, options=_SMALL, training=True),
    BaselineCase("2 s", "cnn14", 64, 201),
    BaselineCase("training", "cnn14", 64, 101, 50, batch=3, **_TRAINED),
    BaselineCase("width 1", "mobilenetv3", 128, 200),
    BaselineCase("width 0.4", "mobilenetv3", 128, 200, 50, options={"width_mult": 0.4}),
    BaselineCase("width 2", "mobilenetv3", 64, 100, 10, options={"width_mult": 2.0}),
    BaselineCase("training", "mobilenetv3", 128, 200, 50, batch=4, **_TRAINED),
)
# As released by the authors: strides, clip lengths, data sets, depth.
RELEASED = (
    PasstCase("AudioSet, stride 10"),
    PasstCase("AudioSet, stride 10, 1000 frames in", given=1000),
    PasstCase("AudioSet, stride 12", stride=12),
    PasstCase("AudioSet, stride 12, 1000 frames in", stride=12, given=1000),
    PasstCase("AudioSet, stride 14", stride=14),
    PasstCase("AudioSet, stride 16", stride=16, batch=2),
    PasstCase("AudioSet, 2000 frames", frames=2000),
    PasstCase("AudioSet, 3000 frames", frames=3000),
    PasstCase("AudioSet, 3200 frames", frames=3200),
    PasstCase("AudioSet, depth 7", depth=7),
    PasstCase("FSD50K, stride 10, 200 classes", classes=200),
    PasstCase("FSD50K, stride 16, 200 classes", stride=16, classes=200),
    PasstCase("ESC-50, 50 classes, 5 s in", classes=50, given=500),
    PasstCase("OpenMIC, 20 classes", classes=20),
)
TRAINING = (
    PasstCase("PaSST-S: 40 columns, 4 rows", batch=2, s_patchout_t=40, s_patchout_f=4),
    PasstCase("PaSST-U: 400 patches", u_patchout=400),
    PasstCase("PaSST-S-N", stride=16, batch=2, s_patchout_t=20, s_patchout_f=2),
    PasstCase("PaSST-S-L", depth=7, s_patchout_t=40, s_patchout_f=4),
    PasstCase("both kinds at once", 16, 998, 50, s_patchout_t=20, s_patchout_f=1, u_patchout=50),
    PasstCase("5 s in, offset 37", classes=50, given=500, offset=37, s_patchout_t=10),
)
BASELINES = (
    BaselineCase("AudioSet, stride 10", "ast", 128, 1024, batch=1),
    BaselineCase("AudioSet, stride 16", "ast", 128, 1024, options={"stride": 16}),
    BaselineCase("ESC-50, 512 frames", "ast", 128, 512, 50),
    BaselineCase("Speech Commands, 128 frames", "ast", 128, 128, 35, batch=4),
    BaselineCase("AudioSet, 10 s", "cnn14", 64, 1001),
    BaselineCase("AudioSet, 10 s", "mobilenetv3", 128, 1000),
)
