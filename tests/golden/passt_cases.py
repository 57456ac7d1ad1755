"""PaSST: the cases of both comparisons, live with the official code and frozen, on our side.

Small cases go into the golden files, full-size ones are compared live alone (but for one).
"""

from __future__ import annotations

from dataclasses import dataclass

import known_weights
import numpy as np
import torch
from computing import compute, targets
from golden_store import Outputs
from torch import nn

from passt_bench.models import build_model

MELS = 128
PATCH = 16


@dataclass(frozen=True)
class PasstCase:
    """A configuration, its input, and in training what is dropped; names are the official ones."""

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

    @property
    def training(self) -> bool:
        """Whether anything happens that happens in training alone."""
        dropped = self.s_patchout_t or self.s_patchout_f or self.u_patchout
        return bool(dropped) or self.offset is not None

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (frequency, time) of the input."""
        frames = self.given or self.frames
        return (MELS - PATCH) // self.stride + 1, (frames - PATCH) // self.stride + 1

    def input(self) -> torch.Tensor:
        """(B, 1, 128, frames)."""
        return known_weights.spectrogram(self.name, self.batch, MELS, self.given or self.frames)

    def targets(self) -> torch.Tensor | None:
        """Zeros and ones for the loss, in training."""
        return targets(self.name, self.batch, self.classes) if self.training else None

    def permutations(self) -> list[np.ndarray]:
        """What the official code's calls of ``torch.randperm`` are to return, in their order."""
        rows, columns = self.grid
        found = []
        if self.s_patchout_t:
            found.append(known_weights.permutation(f"{self.name}/time", columns))
        if self.s_patchout_f:
            found.append(known_weights.permutation(f"{self.name}/frequency", rows))
        if self.u_patchout:
            left = (rows - self.s_patchout_f) * (columns - self.s_patchout_t)
            found.append(known_weights.permutation(f"{self.name}/patches", left))
        return found

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

    def build(self) -> nn.Module:
        """Our model with known weights."""
        net = build_model(
            "passt_b",
            self.classes,
            stride=self.stride,
            frames=self.frames,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
        )
        known_weights.fill(net)
        return net

    def ours(self, net: nn.Module) -> Outputs:
        """What ours computes."""
        return compute(net, net.head, (self.input(), self.kept(), self.offset), self.targets())


_SMALL = {"width": 96, "heads": 3, "depth": 2}
SMALL = (
    PasstCase("s10", classes=527, batch=2, **_SMALL),
    PasstCase("s12", stride=12, classes=200, given=1000, **_SMALL),
    PasstCase("s12-998", stride=12, classes=50, **_SMALL),
    PasstCase("s14", stride=14, classes=50, **_SMALL),
    PasstCase("s16", stride=16, classes=20, given=1000, **_SMALL),
    PasstCase("2000", frames=2000, classes=50, **_SMALL),
    PasstCase("3000", frames=3000, classes=50, **_SMALL),
    PasstCase("3200", frames=3200, classes=50, **_SMALL),
    PasstCase("depth7", classes=50, **{**_SMALL, "depth": 7}),
    PasstCase("shorter", classes=50, given=501, **_SMALL),
    PasstCase("s16-full", stride=16, classes=527),
    PasstCase("training-s", classes=50, batch=2, s_patchout_t=40, s_patchout_f=4, **_SMALL),
    PasstCase("training-u", classes=50, batch=2, u_patchout=400, **_SMALL),
    PasstCase(
        "training-all",
        classes=50,
        batch=2,
        s_patchout_t=20,
        s_patchout_f=2,
        u_patchout=100,
        **_SMALL,
    ),
    PasstCase("training-offset", classes=50, given=500, offset=23, s_patchout_t=10, **_SMALL),
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
    PasstCase(
        "both kinds at once", stride=16, classes=50, s_patchout_t=20, s_patchout_f=1, u_patchout=50
    ),
    PasstCase("5 s in, offset 37", classes=50, given=500, offset=37, s_patchout_t=10),
)
