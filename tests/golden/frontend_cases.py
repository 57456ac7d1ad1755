"""Front ends: waveforms that can be made again, and the cases of both comparisons, on our side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from unittest import mock

import known_weights
import numpy as np
import torch
from golden_store import Outputs

from passt_bench.models.frontend import FrontEnd, make_frontend
from passt_bench.spec.frontends import ast_frontend, panns_frontend, passt_frontend
from passt_bench.spec.recipe import FrontendSpec

PASST = passt_frontend()
SPECS: dict[str, FrontendSpec] = {
    "passt": PASST,
    "passt, hop 100": replace(PASST, hop=100),
    "passt, hop 160": replace(PASST, hop=160),
    "ast": ast_frontend(),
    "panns": panns_frontend(),
}
# How far a log-mel may be from one that another processor computed: where a filter is nearly empty,
# the rounding of its Fourier transform shows. On one machine the tolerance is 1e-4.
ACROSS_MACHINES = 1e-3
SIGNALS = ("noise", "tones", "chirp and clicks", "faint noise", "silence")


def waveform(signal: str, rate: int, seconds: float) -> np.ndarray:
    """A known signal within -1 and 1, float32, (samples,)."""
    samples = round(rate * seconds)
    time = np.arange(samples) / rate
    noise = known_weights.numbers(f"waveform/{signal}", (samples,))
    if signal == "silence":
        return np.zeros(samples, dtype=np.float32)
    if signal == "noise":
        return noise / 2
    if signal == "faint noise":
        return noise / 10_000
    if signal == "tones":
        notes = (55, 440, 1000, 3520, 7040)
        found = sum(np.sin(2 * np.pi * note * time) for note in notes) / 8
    else:
        found = np.sin(2 * np.pi * (50 + 0.2 * rate * time / seconds) * time) / 2
        found[:: rate // 4] += 0.4
    # With no noise at all the emptiest filters would hold what rounding leaves, nothing to compare.
    return (found + noise / 1000).astype(np.float32)


@dataclass(frozen=True)
class FrontendCase:
    """A front end on a signal, and for PaSST's in training the draws of both filter edges."""

    frontend: str
    signal: str
    seconds: float = 10.0
    jitter: tuple[int, int] | None = None  # what the official code draws for fmin and for fmax

    @property
    def name(self) -> str:
        jitter = f", jitter {self.jitter[0]} and {self.jitter[1]}" if self.jitter else ""
        return f"{self.frontend}, {self.signal}, {self.seconds:g} s{jitter}"

    @property
    def spec(self) -> FrontendSpec:
        return SPECS[self.frontend]

    def waveform(self) -> np.ndarray:
        """(samples,)."""
        return waveform(self.signal, self.spec.sampling_rate, self.seconds)

    def filters(self, net: FrontEnd) -> torch.Tensor | None:
        """The mel filters between the edges that the official code makes of its draws."""
        if self.jitter is None:
            return None
        fmin, fmax = self.jitter
        edges = self.spec.fmin + fmin, self.spec.fmax + self.spec.fmax_jitter // 2 - fmax
        return net.banks(*edges)

    def ours(self, wave: np.ndarray | None = None, *, double: bool = False) -> Outputs:
        """Log-mel (mels, frames) as ours computes it, or would in double precision."""
        x = torch.from_numpy(self.waveform() if wave is None else wave)[None]
        net = make_frontend(self.spec)
        if double:
            with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
                found = net.double()(x, self.filters(net))
        else:
            found = net(x, self.filters(net))
        return {"log-mel": found[0, 0].numpy()}


def thinned_frames(outputs: Outputs) -> Outputs:
    return {part: np.append(x[:, ::11], x[:, -1:], axis=1) for part, x in outputs.items()}


SMALL = (
    *(FrontendCase(name, s, 2.0) for name in ("passt", "ast", "panns") for s in SIGNALS),
    FrontendCase("ast", "noise", 10.5),
    FrontendCase("passt, hop 100", "noise", 1.0),
    FrontendCase("passt, hop 160", "noise", 1.0),
    FrontendCase("passt", "noise", 1.0, jitter=(9, 0)),
    FrontendCase("passt", "tones", 1.0, jitter=(3, 1999)),
)
FULL = (
    *(FrontendCase(name, s) for name in ("passt", "ast", "panns") for s in SIGNALS),
    FrontendCase("passt, hop 100", "tones"),
    FrontendCase("passt, hop 160", "tones"),
    *(FrontendCase("passt", "noise", jitter=j) for j in ((0, 0), (9, 1999), (4, 1000))),
)
