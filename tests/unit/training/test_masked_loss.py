"""Binary cross-entropy over the labels that are known, mixed or not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from passt_bench.spec import TrainingSpec
from passt_bench.training.batches import augment
from passt_bench.training.loss import loss_of, with_known

NAN = math.nan
TARGETS = np.array([[1, NAN, 0], [NAN, NAN, 1], [0, 1, NAN]], dtype="f4")
LOGITS = torch.tensor([[0.3, 9.0, -1.0], [7.0, -7.0, 0.2], [0.5, -0.4, 5.0]])


def _by_hand(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    known = ~targets.isnan()
    return F.binary_cross_entropy_with_logits(logits[known], targets[known])


def test_it_is_the_mean_over_what_is_known() -> None:
    expected = float(_by_hand(LOGITS, torch.from_numpy(TARGETS)))
    for targets in (torch.from_numpy(TARGETS), torch.from_numpy(with_known(TARGETS))):
        assert float(loss_of("masked_bce", LOGITS, targets)) == pytest.approx(expected, rel=1e-6)


def test_all_known_it_is_binary_cross_entropy() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0]] * 3)
    masked = loss_of("masked_bce", LOGITS, targets)
    assert float(masked) == pytest.approx(float(loss_of("bce", LOGITS, targets)), rel=1e-6)


def test_nothing_known_it_is_nothing_and_has_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = loss_of("masked_bce", logits, torch.full((3, 3), NAN))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_unknown_labels_have_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss_of("masked_bce", logits, torch.from_numpy(TARGETS)).backward()
    assert logits.grad is not None
    assert ((logits.grad != 0).numpy() == ~np.isnan(TARGETS)).all()


def test_a_mixed_clip_has_the_mixed_loss_of_both() -> None:
    """Known in one clip alone, a label counts with that clip's share and its own target."""
    share = 0.7
    both = with_known(TARGETS)
    mixed = torch.from_numpy(share * both[:1] + (1 - share) * both[2:])
    logits = LOGITS[:1]
    entries = F.binary_cross_entropy_with_logits(
        logits.expand(2, 3), torch.tensor([[1.0, 0, 0], [0, 1, 0]]), reduction="none"
    )
    weights = torch.tensor([[share, 0, share], [1 - share, 1 - share, 0]])
    expected = float((entries * weights).sum() / weights.sum())
    assert float(loss_of("masked_bce", logits, mixed)) == pytest.approx(expected, rel=1e-6)


def test_spectrogram_mixup_mixes_what_is_known() -> None:
    x = np.zeros((3, 4, 5), dtype="f4")
    _, targets = augment(x, with_known(TARGETS), TrainingSpec(mixup=0.3), 0, 0, 0)
    positive, known = targets.unbind(dim=1)
    assert targets.shape == (3, 2, 3)
    assert torch.isfinite(targets).all()
    assert (positive <= known).all()
    assert (known <= 1).all()
    assert ((known > 0) & (known < 1)).any()


def test_the_other_losses_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0]])
    assert float(loss_of("bce", logits, torch.tensor([[1.0, 0.0]]))) == pytest.approx(math.log(2))
    assert float(loss_of("ce", logits, torch.tensor([[0.7, 0.3]]))) == pytest.approx(math.log(2))
