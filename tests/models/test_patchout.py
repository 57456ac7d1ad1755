from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passt_bench.errors import InputError
from passt_bench.models import create_model, draw, draw_batch, resolve, twin
from passt_bench.models.patchout import PATCHOUTS
from passt_bench.spec import Patchout

KINDS = [kind.name for kind in PATCHOUTS.all()]
GRID = (8, 8)


@pytest.mark.parametrize(
    ("setting", "grid", "kept"),
    [
        (Patchout("none"), (12, 99), 1188),
        (Patchout("unstructured", patches=400), (12, 99), 788),
        (Patchout("structured", time=40, frequency=4), (12, 99), 59 * 8),
        (Patchout("structured", time=20, frequency=2), (8, 62), 252),
        (Patchout("structured", rate=0.75), GRID, 16),
        (Patchout("time", rate=0.75), GRID, 16),
        (Patchout("frequency", rate=0.75), GRID, 16),
        (Patchout("unstructured", rate=0.75), GRID, 16),
        (Patchout("block", patches=12), GRID, 52),
        (Patchout("structured", frequency=2, time=6), (8, 18), 72),
    ],
)
def test_counts_are_exact(setting: Patchout, grid: tuple[int, int], kept: int) -> None:
    assert resolve(setting, grid).kept == kept
    assert len(draw(setting, grid, seed=0, step=0)) == kept


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
        assert "leaves no patches" in str(error)
        return
    kept = draw(setting, (rows, columns), 3, step)
    assert len(kept) == resolved.kept == len(set(kept.tolist()))
    assert (np.sort(kept) == kept).all()
    assert kept[0] >= 0
    assert kept[-1] < rows * columns


def _columns(kept: np.ndarray, grid: tuple[int, int]) -> tuple[set[int], set[int]]:
    return set((kept // grid[1]).tolist()), set((kept % grid[1]).tolist())


def test_structured_kinds_drop_whole_lines() -> None:
    for kind, rows, columns in (("time", 8, 2), ("frequency", 2, 8), ("structured", 4, 4)):
        kept = draw(Patchout(kind, rate=0.75), GRID, 1, 2)
        f, t = _columns(kept, GRID)
        assert (len(f), len(t)) == (rows, columns)
        assert len(kept) == rows * columns


def test_a_block_is_one_rectangle() -> None:
    kept = draw(Patchout("block", patches=12), GRID, 1, 2)
    gone = np.setdiff1d(np.arange(64), kept)
    f, t = _columns(gone, GRID)
    assert len(f) * len(t) == 12
    assert max(f) - min(f) + 1 == len(f)
    assert max(t) - min(t) + 1 == len(t)


def test_an_impossible_block_is_refused() -> None:
    with pytest.raises(InputError, match="no rectangle"):
        resolve(Patchout("block", patches=13), GRID)


def test_draws_are_uniform() -> None:
    counts = np.zeros(64)
    for step in range(4000):
        counts[draw(Patchout("unstructured", rate=0.5), GRID, 0, step)] += 1
    # Binomial(4000, 1/2): standard deviation 31.6; five of them for 64 patches.
    assert abs(counts - 2000).max() < 160


def test_a_draw_is_a_pure_function() -> None:
    setting = Patchout("unstructured", rate=0.5)
    torch.manual_seed(1)
    one = draw(setting, GRID, 7, 3)
    torch.manual_seed(2)
    np.random.seed(5)
    assert (draw(setting, GRID, 7, 3) == one).all()
    assert (draw(setting, GRID, 7, 4) != one).any()
    assert (draw(setting, GRID, 8, 3) != one).any()


def test_scope_of_a_batch_and_of_a_sample() -> None:
    shared = draw_batch(Patchout("unstructured", rate=0.5), GRID, 0, 0, 4)
    single = draw_batch(Patchout("unstructured", rate=0.5, scope="sample"), GRID, 0, 0, 4)
    assert shared is not None and single is not None
    assert shared.shape == (32,)
    assert single.shape == (4, 32)
    assert not torch.equal(single[0], single[1])


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        (Patchout("nothing"), "patchout kind"),
        (Patchout("time", time=8), "leaves no patches"),
        (Patchout("time", time=9), "patchout.time = 9"),
        (Patchout("time", frequency=1), "patchout.frequency"),
        (Patchout("structured", rate=0.5, time=1), "patchout.time"),
        (Patchout("none", rate=0.5), "patchout.rate"),
    ],
)
def test_bad_settings_name_the_field(setting: Patchout, field: str) -> None:
    with pytest.raises(InputError, match=field):
        resolve(setting, GRID)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_the_twin_keeps_as_many(kind: str) -> None:
    setting = Patchout(kind, rate=0.4)
    assert resolve(twin(setting, GRID), GRID).kept == resolve(setting, GRID).kept


def _net() -> torch.nn.Module:
    return create_model("passt_micro", 3, patch=8, stride=8, mels=64, frames=64)


def test_gradients_reach_just_the_kept_patches() -> None:
    net = _net().train()
    x = torch.randn(2, 1, 64, 64, requires_grad=True)
    kept = draw_batch(Patchout("unstructured", rate=0.75), GRID, 0, 0, 2)
    assert kept is not None
    net(x, kept).sum().backward()
    assert x.grad is not None
    touched = x.grad.abs().sum(dim=(0, 1)).reshape(8, 8, 8, 8).sum(dim=(1, 3)).flatten() > 0
    assert torch.equal(touched.nonzero().flatten(), kept)


def test_dropping_nothing_is_no_patchout_bit_for_bit() -> None:
    net = _net().train()
    x = torch.randn(2, 1, 64, 64)
    assert torch.equal(net(x), net(x, torch.arange(64)))
    assert torch.equal(net(x), net(x, torch.arange(64).expand(2, -1)))


def test_patchout_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    setting = Patchout("unstructured", rate=0.5)
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=64, frames=64, patchout=setting)
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(net.eval()(x), net.eval()(x))
        assert not torch.equal(net.train()(x), net.train()(x))
