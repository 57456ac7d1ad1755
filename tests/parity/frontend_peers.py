"""The peers of the front ends: hear21passt's, transformers', and torchlibrosa's in CNN14."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from frontend_cases import FrontendCase
from golden_store import Outputs
from peers import load, quiet


def passt_module(case: FrontendCase, masks: tuple[int, int] = (0, 0)) -> Any:
    """The official front end with the settings of the authors' experiments."""
    spec = case.spec
    with quiet():
        return load("hear21passt.models.preprocess").AugmentMelSTFT(
            n_mels=spec.mels,
            sr=spec.sampling_rate,
            win_length=spec.window,
            hopsize=spec.hop,
            n_fft=spec.n_fft,
            freqm=masks[0],
            timem=masks[1],
            fmin=0.0,
            fmax=None,
            fmin_aug_range=10,
            fmax_aug_range=2000,
        )


def _passt(case: FrontendCase, wave: np.ndarray) -> torch.Tensor:
    peer = passt_module(case).train(case.jitter is not None)
    draws = list(case.jitter or (0, 0))
    with quiet(), mock.patch.object(torch, "randint", lambda *_: torch.tensor([draws.pop(0)])):
        found = peer(torch.from_numpy(wave)[None])
    assert not draws
    return found[0]


def _ast(case: FrontendCase, wave: np.ndarray) -> torch.Tensor:
    with quiet():
        extractor = load("transformers").ASTFeatureExtractor()
        found = extractor(wave, sampling_rate=case.spec.sampling_rate, return_tensors="pt")
    return found["input_values"][0].T


def _panns(case: FrontendCase, wave: np.ndarray) -> torch.Tensor:
    """In double precision, for its Fourier transform by convolution rounds more than ours."""
    spec = case.spec
    torch.set_default_dtype(torch.float64)
    try:
        with quiet():
            peer = load("panns_inference.models").Cnn14(
                sample_rate=spec.sampling_rate,
                window_size=spec.window,
                hop_size=spec.hop,
                mel_bins=spec.mels,
                fmin=50,
                fmax=14000,
                classes_num=1,
            )
            power = peer.spectrogram_extractor(torch.from_numpy(wave).double()[None])
            return peer.logmel_extractor(power)[0, 0].T
    finally:
        torch.set_default_dtype(torch.float32)


_PEERS: dict[str, Callable[[FrontendCase, np.ndarray], torch.Tensor]] = {
    "passt": _passt,
    "ast": _ast,
    "panns": _panns,
}


def frontend_outputs(case: FrontendCase, wave: np.ndarray | None = None) -> Outputs:
    """Log-mel (mels, frames) as the peer computes it."""
    wave = case.waveform() if wave is None else wave
    found = _PEERS[case.frontend.split(",")[0]](case, wave)
    return {"log-mel": found.detach().numpy()}
