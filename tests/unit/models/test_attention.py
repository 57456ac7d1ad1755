"""Attention by heads: the same as one kernel, in groups of any size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from passt_bench.models import attention
from passt_bench.models.attention import attend_by_heads


def _inputs(read: int | None, dtype: torch.dtype) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 5, 4, generator=random, dtype=torch.float64).to(dtype)
    return [part.detach().requires_grad_() for part in (q[:, :, :read], k, v)]


@pytest.mark.parametrize("entries", [1, 50, 10**6])  # one head at a time, two, all six
@pytest.mark.parametrize("read", [None, 2, 1])
def test_outputs_and_gradients(
    read: int | None, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_ENTRIES", entries)
    parts = _inputs(read, torch.float64)
    torch.testing.assert_close(attend_by_heads(*parts), F.scaled_dot_product_attention(*parts))
    assert torch.autograd.gradcheck(attend_by_heads, parts)


def test_half_precision_stays_half_under_autocast() -> None:
    parts = _inputs(None, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out = attend_by_heads(*parts)
    out.sum().backward()
    assert {out.dtype, *(part.grad.dtype for part in parts if part.grad is not None)} == {
        torch.bfloat16
    }
    whole = F.scaled_dot_product_attention(*(part.double() for part in parts))
    torch.testing.assert_close(out.double(), whole, atol=0.02, rtol=0.02)
