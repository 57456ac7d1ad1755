"""Patchout: exact counts, uniform draws, and what a model makes of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from passt_bench.errors import InputError
from passt_bench.models import create_model, draw_batch, draw_kept, resolve
from passt_bench.models.patchout import PATCHOUTS
from passt_bench.spec import Patchout

KINDS = [kind.name for kind in PATCHOUTS.all()]
DROPPING = [kind for kind in KINDS if kind != "none"]
GRID = (8, 8)


@pytest.mark.parametrize(
    ("setting", "grid", "kept"),
    [
        (Patchout("none"), (12, 99), 1188),
        (Patchout("unstructured", patches=400), (12, 99), 788),
        (Patchout("structured", time=40, frequency=4), (12, 99), 59 * 8),
        (Patchout("structured", time=20, frequency=2), (8, 62), 252),
        *((Patchout(kind, rate=0.75), GRID, 16) for kind in DROPPING if kind != "block"),
        (Patchout("block", patches=12), GRID, 52),
        (Patchout("structured", frequency=2, time=6), (8, 18), 72),
    ],
)
def test_counts_are_exact(setting: Patchout, grid: tuple[int, int], kept: int) -> None:
    assert resolve(setting, grid).kept == kept
    assert len(draw_kept(setting, grid, seed=0, step=0)) == kept


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rate=st.floats(0, 0.9),
    rows=st.integers(1, 12),
    columns=st.integers(1, 30),
    step=st.integers(0, 10**6),
)
def test_every_draw_is_a_set_of_that_size(
    kind: str, rate: float, rows: int, columns: int, step: int
) -> None:
    setting = Patchout(kind) if kind == "none" else Patchout(kind, rate=rate)
    try:
        resolved = resolve(setting, (rows, columns))
    except InputError as error:
        assert error.field == "patchout.rate"
        return
    kept = draw_kept(setting, (rows, columns), 3, step)
    assert len(kept) == resolved.kept == len(set(kept.tolist()))
    assert (np.sort(kept) == kept).all()
    assert kept[0] >= 0
    assert kept[-1] < rows * columns


@pytest.mark.parametrize(
    ("setting", "rows", "columns"),
    [
        (Patchout("time", rate=0.75), 8, 2),
        (Patchout("frequency", rate=0.75), 2, 8),
        (Patchout("structured", rate=0.75), 4, 4),
        (Patchout("block", patches=12), 4, 3),
        (Patchout("interleaved", time=4, frequency=6), 2, 4),
    ],
)
def test_whole_lines_or_one_rectangle(setting: Patchout, rows: int, columns: int) -> None:
    patches = draw_kept(setting, GRID, 1, 2)
    if setting.kind == "block":
        patches = np.setdiff1d(np.arange(64), patches)
    f, t = np.unique(patches // 8), np.unique(patches % 8)
    assert len(patches) == len(f) * len(t) == rows * columns
    if setting.kind == "block":
        assert sorted((f[-1] - f[0] + 1, t[-1] - t[0] + 1)) == sorted((rows, columns))
    else:
        assert (len(f), len(t)) == (rows, columns)


@pytest.mark.parametrize("grid", [(12, 99), (8, 62), (4, 18)])
@pytest.mark.parametrize("area", range(1, 14))
def test_the_area_of_a_block_is_exact(area: int, grid: tuple[int, int]) -> None:
    try:
        kept = draw_kept(Patchout("block", patches=area), grid, 0, 0)
    except InputError as error:
        assert (error.field, error.value) == ("patchout.patches", area)
        assert area in (5, 7, 11, 13) and grid[0] < area and grid[1] < area
        return
    assert len(kept) == grid[0] * grid[1] - area


@pytest.mark.parametrize(
    ("setting", "grid", "patterns"),
    [
        (Patchout("unstructured", patches=3), (2, 3), 20),  # 6 choose 3
        (Patchout("time", time=2), (2, 5), 10),  # 5 choose 2
        (Patchout("frequency", frequency=1), (6, 2), 6),
        (Patchout("structured", time=1, frequency=1), (3, 4), 12),  # axes are independent
        (Patchout("block", patches=4), (4, 5), 12),  # 3 x 4 places of a 2 x 2 hole
    ],
)
def test_every_pattern_is_as_likely(
    setting: Patchout, grid: tuple[int, int], patterns: int
) -> None:
    draws = (draw_kept(setting, grid, seed=0, step=step) for step in range(6000))
    seen = Counter(tuple(draw.tolist()) for draw in draws)
    assert len(seen) == patterns
    assert chisquare(list(seen.values())).pvalue > 0.01


def test_interleaved_lines_are_evenly_spaced_and_each_as_likely() -> None:
    every_other = Patchout("interleaved", time=3)
    seen = Counter(tuple(draw_kept(every_other, (1, 6), 0, step).tolist()) for step in range(600))
    assert set(seen) == {(0, 2, 4), (1, 3, 5)} and min(seen.values()) > 240
    columns, gaps = Counter[int](), set[int]()
    for step in range(7000):
        kept = draw_kept(Patchout("interleaved", time=4), (2, 7), 0, step)
        assert (kept[3:] - 7 == kept[:3]).all()  # both rows keep the same columns
        columns.update(kept[:3].tolist())
        gaps |= {*np.diff(kept[:3]).tolist()}
    assert gaps == {2, 3}
    assert chisquare([columns[column] for column in range(7)]).pvalue > 0.01


def test_a_draw_is_a_pure_function() -> None:
    setting = Patchout("unstructured", rate=0.5)
    torch.manual_seed(1)
    one = draw_kept(setting, GRID, 7, 3)
    torch.manual_seed(2)
    np.random.seed(5)
    assert (draw_kept(setting, GRID, 7, 3) == one).all()
    assert (draw_kept(setting, GRID, 7, 4) != one).any()
    assert (draw_kept(setting, GRID, 8, 3) != one).any()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["unstructured", "structured", "block"])
def test_a_batch_scope_is_equal_for_all_items_and_a_sample_scope_is_not(kind: str) -> None:
    each = Patchout(kind, rate=0.5, scope="sample")
    shared = draw_batch(Patchout(kind, rate=0.5), GRID, 0, 0, 4)
    single, fewer = draw_batch(each, GRID, 0, 0, 4), draw_batch(each, GRID, 0, 0, 2)
    assert shared is not None and single is not None and fewer is not None
    assert (shared.ndim, single.shape) == (1, (4, len(shared)))
    # What one clip keeps does not depend on how many are in its batch.
    assert torch.equal(fewer, single[:2])
    net, x = _net(), torch.randn(1, 1, 64, 64).expand(4, -1, -1, -1)
    same, other = net(x, shared), net(x, single)
    assert torch.allclose(same, same[:1].expand_as(same), atol=1e-6)
    assert not torch.allclose(other, other[:1].expand_as(other), atol=1e-4)


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        (Patchout("nothing"), "patchout kind"),
        (Patchout("unstructured"), "patchout"),  # would drop nothing
        (Patchout("time", time=8), "patchout.time"),  # leaves none
        (Patchout("time", time=9), "patchout.time"),
        (Patchout("time", frequency=1), "patchout.frequency"),
        (Patchout("structured", rate=0.5, time=1), "patchout.time"),
        (Patchout("none", rate=0.5), "patchout.rate"),
        (Patchout("none", schedule="rising"), "patchout.schedule"),
    ],
)
def test_bad_settings_name_the_field(setting: Patchout, field: str) -> None:
    with pytest.raises(InputError) as refused:
        resolve(setting, GRID)
    assert refused.value.field == field


def _net() -> torch.nn.Module:
    return create_model("passt_micro", 3, patch=8, stride=8, mels=64, frames=64).train()


def test_gradients_reach_just_the_patches_that_each_clip_keeps() -> None:
    x = torch.randn(2, 1, 64, 64, requires_grad=True)
    kept = draw_batch(Patchout("unstructured", rate=0.75, scope="sample"), GRID, 0, 0, 2)
    assert kept is not None
    _net()(x, kept).sum().backward()
    assert x.grad is not None
    touched = x.grad.abs().reshape(2, 8, 8, 8, 8).sum(dim=(2, 4)).flatten(1) > 0
    assert torch.equal(touched.nonzero()[:, 1].reshape(2, -1), kept)
