"""The filters' edges in training: published range, pure draws, and what they do to a log-mel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from passt_bench.models.frontend import draw_edges, is_jittered, make_frontend
from passt_bench.spec import FrontendSpec, passt_frontend

PASST = passt_frontend()


def test_edges_cover_the_published_range() -> None:
    drawn = np.array([draw_edges(PASST, 0, 0, step) for step in range(6000)])
    assert set(drawn[:, 0]) == set(range(10))
    assert drawn[:, 1].min() >= 14001
    assert drawn[:, 1].max() <= 16000
    assert drawn[:, 1].min() < 14005  # 6000 draws of 2000 values: each end is met
    assert drawn[:, 1].max() > 15996
    # Uniform over 2000 values: the mean is off by less than five standard errors.
    assert abs(drawn[:, 1].mean() - 15000.5) < 5 * 2000 / np.sqrt(12 * 6000)


def test_a_draw_is_a_pure_function() -> None:
    one = draw_edges(PASST, 3, 0, 7)
    np.random.seed(1)
    torch.manual_seed(1)
    assert draw_edges(PASST, 3, 0, 7) == one
    others = {draw_edges(PASST, 4, 0, 7), draw_edges(PASST, 3, 1, 7), draw_edges(PASST, 3, 0, 8)}
    assert one not in others


def test_without_jitter_nothing_moves() -> None:
    still = passt_frontend(jitter=False)
    assert is_jittered(PASST)
    assert not is_jittered(still)
    assert is_jittered(replace(still, fmin_jitter=1))
    assert draw_edges(still, 0, 0, 0) == (0.0, 15000.0)


def test_edges_make_the_filters_of_such_a_front_end() -> None:
    wave = torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal((2, 8000)))
    net = make_frontend(PASST)
    plain, moved = net(wave), net(wave, (7.0, 14100.0))
    same = make_frontend(FrontendSpec(**{**vars(PASST), "fmin": 7.0, "fmax": 14100.0}))(wave)
    assert torch.equal(moved, same)
    assert not torch.equal(moved, plain)
    assert torch.equal(net(wave), plain)  # nothing stays moved
    assert torch.equal(net(wave, (0.0, 15000.0)), plain)
