"""Occlusion at evaluation: what is left when a part of the input is hidden."""

from __future__ import annotations

import torch


def hide_frequency(x: torch.Tensor) -> torch.Tensor:
    """Every row becomes the mean over frequency: no spectral position is left, all timing is.

    Args:
        x: log-mel (B, 1, mels, frames).
    """
    return x.mean(dim=2, keepdim=True).expand_as(x)


def hide_time(x: torch.Tensor) -> torch.Tensor:
    """Every column becomes the mean over time: no timing is left, the mean spectrum is.

    Args:
        x: log-mel (B, 1, mels, frames).
    """
    return x.mean(dim=3, keepdim=True).expand_as(x)
