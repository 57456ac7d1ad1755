"""The front ends that models were published with, as specs."""

from __future__ import annotations

from passt_bench.registry import MODELS
from passt_bench.spec.recipe import FrontendSpec


def passt_frontend(*, jitter: bool = True) -> FrontendSpec:
    """PaSST's front end: 128 Kaldi filters up to 15 kHz at 32 kHz, a frame every 10 ms.

    As in ``models/preprocess.py`` of the reference code with the settings of its experiments, also
    for CP-ResNet and MobileNetV3.

    Args:
        jitter: whether the filters' edges vary in training, as published; log-mels then cannot be
            cached between epochs.
    """
    return FrontendSpec(
        name="logmel",
        sampling_rate=32000,
        n_fft=1024,
        window=800,
        hop=320,
        mels=128,
        fmin=0.0,
        fmax=15000.0,
        preemphasis=0.97,
        mean=-4.5,
        std=5.0,
        fmin_jitter=10 if jitter else 0,
        fmax_jitter=2000 if jitter else 0,
    )


def ast_frontend() -> FrontendSpec:
    """AST's front end: Kaldi's filter bank at 16 kHz, 1024 frames, normalized to AudioSet.

    As in ``src/dataloader.py`` and ``egs/audioset/run.sh`` of the official code: clips are cut or
    padded, the mean is subtracted, and the result is divided by twice the standard deviation.
    """
    return FrontendSpec(
        name="kaldi",
        sampling_rate=16000,
        n_fft=512,
        window=400,
        hop=160,
        mels=128,
        fmin=20.0,
        fmax=8000.0,
        preemphasis=0.97,
        mean=-4.2677393,
        std=2 * 4.5689974,
        frames=1024,
    )


def panns_frontend() -> FrontendSpec:
    """PANNs' front end: 64 Slaney filters from 50 Hz to 14 kHz at 32 kHz, in decibels, 10 ms hop.

    It has the settings of the released CNN14 (``README.md`` of the official code).
    """
    return FrontendSpec(
        name="panns",
        sampling_rate=32000,
        n_fft=1024,
        window=1024,
        hop=320,
        mels=64,
        fmin=50.0,
        fmax=14000.0,
        preemphasis=0.0,
        mean=0.0,
        std=1.0,
    )


def frontend_of(model: str) -> FrontendSpec:
    """The front end that a registered model was published with."""
    frontend: FrontendSpec = MODELS.get(model).build.frontend
    return frontend
