"""Front ends: waveform to normalized log-mel, each as its authors compute it.

==========  ==================================================================================
``logmel``  PaSST: ``models/preprocess.py`` of the reference code
``kaldi``   AST: Kaldi's filter bank, as in ``src/dataloader.py`` of github.com/YuanGongND/ast
``panns``   PANNs: decibels over Slaney's mel filters, as torchlibrosa computes them
==========  ==================================================================================

Always computed in float32, also under autocast. In training the edges of the filters may be drawn
for each batch, see `draw_edges`. Another front end is a registered subclass of `FrontEnd`.

Shapes: B batch, T frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models.patchout import random_stream
from passt_bench.registry import FRONTENDS
from passt_bench.spec.recipe import FrontendSpec
from passt_bench.torchaudio_guard import kaldi, torchaudio

_JITTER = 0xF17E  # keeps this random stream apart from others with the same seed
_FLOOR = 1e-5  # added to PaSST's energies before the logarithm


def is_jittered(spec: FrontendSpec) -> bool:
    """Whether the filters' edges move in training, so that log-mels cannot be cached."""
    return spec.fmin_jitter > 0 or spec.fmax_jitter > 0


def draw_edges(spec: FrontendSpec, seed: int, salt: int, step: int) -> tuple[float, float]:
    """The lowest and highest filter edge of a training batch, a pure function of its arguments.

    The lower edge rises by 0 to ``fmin_jitter`` - 1 Hz, the upper is ``fmax`` and half of
    ``fmax_jitter`` less 0 to ``fmax_jitter`` - 1 Hz: for the published 10, 15000 and 2000, 0 to 9
    and 14001 to 16000 Hz (``models/preprocess.py`` of the reference code).
    """
    random = random_stream(_JITTER, seed, salt, step)
    low, high = spec.fmin, spec.fmax
    if spec.fmin_jitter:
        low += int(random.integers(spec.fmin_jitter))
    if spec.fmax_jitter:
        high += spec.fmax_jitter // 2 - int(random.integers(spec.fmax_jitter))
    return low, high


def mask_fill(spec: FrontendSpec) -> float:
    """SpecAugment's fill value in normalized log-mel (0 before normalization), as published."""
    return -spec.mean / spec.std


def at_least(spec: FrontendSpec, samples: int, minimum: int, why: str) -> None:
    """Refuses a clip of fewer samples than the minimum."""
    if samples < minimum:
        raise InputError(
            f"{samples} samples are too few for {why}",
            field="data.seconds",
            value=samples / spec.sampling_rate,
            remedy=f"Give at least {minimum / spec.sampling_rate:g} s.",
        )


def _check(spec: FrontendSpec, *, preemphasis: bool) -> None:
    half, jitter = spec.sampling_rate / 2, spec.fmax_jitter // 2
    inside = (
        f"Give more than frontend.fmin = {spec.fmin:g} and at most half of "
        f"frontend.sampling_rate = {spec.sampling_rate}."
    )
    room = f"Give at most 2 x ({half:g} - {spec.fmax:g}) = {2 * (half - spec.fmax):g} Hz."
    moved_out = spec.fmax + jitter > half or spec.fmax - jitter <= spec.fmin + spec.fmin_jitter
    longest = f"Give at most frontend.n_fft = {spec.n_fft}."
    for name, wrong, problem, remedy in (
        ("n_fft", spec.n_fft % 2, "must be even", "A power of two is best."),
        ("window", spec.window > spec.n_fft, "longer than the FFT", longest),
        ("mels", spec.mels < 4, "too few filters", "Give at least 4."),
        ("preemphasis", spec.preemphasis and not preemphasis, "this front end has none", "Give 0."),
        ("fmax", not spec.fmin < spec.fmax <= half, "outside the spectrum", inside),
        ("fmax_jitter", moved_out, "moves the edge out of the spectrum", room),
    ):
        if wrong:
            field, value = f"frontend.{name}", getattr(spec, name)
            raise InputError(problem, field=field, value=value, remedy=remedy)


class FrontEnd(nn.Module, ABC):
    """Waveform to normalized log-mel; nothing in it is trained or saved.

    A front end is a subclass that is registered in `registry.FRONTENDS`.

    Raises:
        InputError: sizes that do not fit each other, or filters beyond half the sampling rate.
    """

    periodic: ClassVar[bool] = False  # whether the Hann window is
    preemphasis: ClassVar[bool] = True  # whether it has one
    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, spec: FrontendSpec) -> None:
        super().__init__()
        _check(spec, preemphasis=self.preemphasis)
        self.spec = spec
        self.register_buffer("filters", self.banks(spec.fmin, spec.fmax), persistent=False)
        window = torch.hann_window(spec.window, periodic=self.periodic)
        self.register_buffer("window", window, persistent=False)

    @staticmethod
    @abstractmethod
    def frames(spec: FrontendSpec, samples: int) -> int:
        """Number of frames of a clip, before any padding; refuses a clip that is too short."""

    @abstractmethod
    def power(self, x: torch.Tensor) -> torch.Tensor:
        """Waveform (B, samples) → power spectrogram (B, n_fft // 2 + 1, T)."""

    @abstractmethod
    def compress(self, mel: torch.Tensor) -> torch.Tensor:
        """The logarithm, with its floor."""

    def banks(self, fmin: float, fmax: float) -> torch.Tensor:
        """Kaldi's mel filters between two edges in Hz, (mels, n_fft // 2 + 1)."""
        mels, n_fft, rate = self.spec.mels, self.spec.n_fft, self.spec.sampling_rate
        no_warping = (100.0, -500.0, 1.0)  # of the vocal tract: two edges and the factor
        banks, _ = kaldi.get_mel_banks(mels, n_fft, rate, fmin, fmax, *no_warping)
        return F.pad(banks.float(), (0, 1))  # the last bin stays empty

    def forward(self, waveform: torch.Tensor, filters: torch.Tensor | None = None) -> torch.Tensor:
        """Waveform (B, samples) → normalized log-mel (B, 1, mels, frames), float32.

        The waveform is mono, at the sampling rate of the recipe, within -1 and 1; ``filters`` are
        mel filters if their edges differ from the recipe's, see `banks` and `draw_edges`.
        """
        spec = self.spec
        self.frames(spec, waveform.shape[1])
        with torch.autocast(waveform.device.type, enabled=False):
            filters = self.filters if filters is None else filters
            mel = self.compress(filters @ self.power(waveform.float()))
            if spec.frames is not None:
                # Padding is 0 before normalization, as in AST.
                mel = F.pad(mel[..., : spec.frames], (0, max(0, spec.frames - mel.shape[2])))
            return ((mel - spec.mean) / spec.std).unsqueeze(1)


def centered_power(x: torch.Tensor, spec: FrontendSpec, window: torch.Tensor) -> torch.Tensor:
    """Power spectrogram, frame t centered on sample t * hop: (B, samples) → (B, bins, T)."""
    n_fft, hop, length = spec.n_fft, spec.hop, spec.window
    return torch.stft(x, n_fft, hop, length, window, return_complex=True).abs().square()


@FRONTENDS.register("logmel", version=1, summary="PaSST: Kaldi's mel filters, centered")
class LogMel(FrontEnd):
    """Pre-emphasis, centered power spectrogram, Kaldi mel filters, natural logarithm."""

    @staticmethod
    def frames(spec: FrontendSpec, samples: int) -> int:
        """Number of whole hops, so that 10 s at a hop of 10 ms are 1000 frames.

        A centered transform of n samples has n // hop + 1 frames; pre-emphasis removes one sample
        and with it, for whole hops, the last frame. Without it the last frame is dropped too.
        """
        # Half an FFT is mirrored at each end, and pre-emphasis needs one more sample.
        at_least(spec, samples, spec.n_fft // 2 + 2, f"an FFT of {spec.n_fft}")
        return (samples - 1) // spec.hop + 1

    def power(self, x: torch.Tensor) -> torch.Tensor:
        """(B, samples) → (B, bins, T)."""
        spec = self.spec
        frames = self.frames(spec, x.shape[1])
        if spec.preemphasis:
            x = x[:, 1:] - spec.preemphasis * x[:, :-1]
        return centered_power(x, spec, self.window)[..., :frames]

    def compress(self, mel: torch.Tensor) -> torch.Tensor:
        """Natural logarithm of energy + 1e-5."""
        return (mel + _FLOOR).log()


@FRONTENDS.register("kaldi", version=1, summary="AST: Kaldi's filter bank")
class KaldiFbank(FrontEnd):
    """Frames without mean, pre-emphasis in each frame, Kaldi mel filters, natural logarithm.

    What ``torchaudio.compliance.kaldi.fbank`` computes for one clip with a Hanning window and no
    dither, for a batch. The official code also subtracts the clip's mean, which the mean of each
    frame, subtracted in both, makes redundant.
    """

    @staticmethod
    def frames(spec: FrontendSpec, samples: int) -> int:
        """Number of whole windows within the clip: 998 for 10 s of 25 ms windows every 10 ms."""
        at_least(spec, samples, spec.window, f"a window of {spec.window}")
        return (samples - spec.window) // spec.hop + 1

    def power(self, x: torch.Tensor) -> torch.Tensor:
        """(B, samples) → (B, bins, T)."""
        spec = self.spec
        x_BTW = x.unfold(1, spec.window, spec.hop)
        x_BTW = x_BTW - x_BTW.mean(dim=2, keepdim=True)
        before = F.pad(x_BTW, (1, 0), mode="replicate")[..., :-1]
        x_BTW = (x_BTW - spec.preemphasis * before) * self.window
        spectrum = torch.fft.rfft(x_BTW, spec.n_fft)
        return spectrum.abs().square().transpose(1, 2)

    def compress(self, mel: torch.Tensor) -> torch.Tensor:
        """Natural logarithm, floored at the precision of float32."""
        return mel.clamp(min=torch.finfo(torch.float32).eps).log()


@FRONTENDS.register("panns", version=1, summary="PANNs: decibels over Slaney's mel filters")
class PannsLogMel(FrontEnd):
    """Centered power spectrogram, Slaney's filters of equal area, 10 log10 without a ceiling.

    ``Spectrogram`` and ``LogmelFilterBank`` of torchlibrosa with the settings of
    ``pytorch/models.py`` of github.com/qiuqiangkong/audioset_tagging_cnn. There is no
    normalization: the models begin with a batch norm over mels.
    """

    periodic, preemphasis = True, False

    @staticmethod
    def frames(spec: FrontendSpec, samples: int) -> int:
        """Number of hops plus one: 1001 for 10 s at a hop of 10 ms."""
        at_least(spec, samples, spec.n_fft // 2 + 1, f"an FFT of {spec.n_fft}")
        return samples // spec.hop + 1

    def banks(self, fmin: float, fmax: float) -> torch.Tensor:
        """Mel filters between two edges in Hz, (mels, bins)."""
        mels, bins, rate = self.spec.mels, self.spec.n_fft // 2 + 1, self.spec.sampling_rate
        filters: torch.Tensor = torchaudio.functional.melscale_fbanks(
            bins, fmin, fmax, mels, rate, norm="slaney", mel_scale="slaney"
        )
        return filters.T.contiguous()

    def power(self, x: torch.Tensor) -> torch.Tensor:
        """(B, samples) → (B, bins, T)."""
        return centered_power(x, self.spec, self.window)

    def compress(self, mel: torch.Tensor) -> torch.Tensor:
        """Decibels relative to 1."""
        return 10 * mel.clamp(min=1e-10).log10()


def make_frontend(spec: FrontendSpec) -> FrontEnd:
    """The front end of a recipe, without parameters: (B, samples) → (B, 1, mels, frames)."""
    net: FrontEnd = FRONTENDS.get(spec.name).build(spec)
    return net


def frame_count(spec: FrontendSpec, seconds: float) -> int:
    """Frames of a clip; refuses one that is too short."""
    kind: type[FrontEnd] = FRONTENDS.get(spec.name).build
    frames = kind.frames(spec, round(seconds * spec.sampling_rate))
    return spec.frames or frames
