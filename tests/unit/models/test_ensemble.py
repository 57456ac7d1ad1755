"""Ensembles: plain means of logits over strides and front ends."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import small_weights
import torch

from passt_bench.errors import InputError
from passt_bench.models import create_model, read_model, save_model
from passt_bench.models.ensemble import Ensemble, build_ensemble
from passt_bench.models.frontend import make_frontend
from passt_bench.models.patchout import draw_kept, resolve
from passt_bench.published_weights import ENSEMBLES, PUBLISHED
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Patchout, Recipe, TrainingSpec

WAVES = 0.1 * torch.randn(2, 32000, generator=torch.Generator().manual_seed(2))
RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
    frontend=FrontendSpec(hop=250),
    data=DataSpec(seconds=1.0),
)


def _own(path: Path, seed: int, recipe: Recipe = RECIPE, classes: str = "abc") -> Path:
    net = create_model("passt_micro", len(classes), patch=8, stride=8, mels=64, frames=64)
    return save_model(path, small_weights.randomised(net, seed), recipe, tuple(classes))


@torch.no_grad()
def test_the_mean_is_over_logits_of_models_with_strides_and_front_ends_of_their_own(
    tmp_path: Path,
) -> None:
    files = {
        "s10.pt": small_weights.passt(stride=10),
        "s16.pt": small_weights.passt(stride=16),
        PUBLISHED["stfthop160"].file: small_weights.passt(frames=2000),
    }
    paths = [small_weights.save(tmp_path / name, net) for name, net in files.items()]
    ensemble = build_ensemble(paths)
    logits, alone = ensemble(WAVES), []
    for path in paths:
        net, recipe, _ = read_model(path)
        alone.append(net(make_frontend(recipe.frontend).eval()(WAVES)))
    assert torch.equal(logits, torch.stack(alone).mean(0))
    torch.testing.assert_close(build_ensemble(paths[::-1])(WAVES), logits)
    assert logits.shape == (2, 527)
    assert torch.equal(ensemble.probabilities(logits), logits.sigmoid())
    assert (ensemble.sampling_rate, ensemble.window, ensemble.clip) == (32000, 10.0, 10.0)


@torch.no_grad()
def test_members_of_other_rates_are_resampled(tmp_path: Path) -> None:
    slow = _own(tmp_path / "slow.safetensors", 1, classes="".join(map(chr, range(40, 567))))
    fast = read_model(small_weights.save(tmp_path / "fast.pt", small_weights.passt()))
    models = [fast, read_model(slow)._replace(classes=fast.classes)]
    ensemble = Ensemble(models, ("fast", "slow"))
    assert (ensemble.sampling_rate, ensemble.window) == (32000, 1.0)
    assert ensemble(WAVES).isfinite().all()


def test_a_long_models_window_is_its_encodings(tmp_path: Path) -> None:
    path = tmp_path / PUBLISHED["passt_30sec"].file
    ensemble = build_ensemble(small_weights.save(path, small_weights.passt(frames=3000)))
    assert (ensemble.clip, ensemble.window) == (10.0, 30.0)


def test_members_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    one = _own(tmp_path / "1.safetensors", 1)
    classes = _own(tmp_path / "2.safetensors", 1, classes="abd")
    loss = _own(tmp_path / "3", 1, replace(RECIPE, training=TrainingSpec(loss="ce")))
    for members, field, source in (
        ([one, classes], "classes", str(classes)),
        ([one, loss], "training.loss", str(loss)),
        ([], "ensemble", None),
        ("ensemble_6", "ensemble", None),
    ):
        with pytest.raises(InputError) as refused:
            build_ensemble(members)
        assert (refused.value.field, refused.value.source) == (field, source)
    with pytest.raises(InputError) as refused:
        build_ensemble(one).rename(["a"])
    assert (refused.value.field, refused.value.value) == ("labels", 1)


def test_published_sets_are_those_of_the_paper(tmp_path: Path) -> None:
    strides = {n: sorted(PUBLISHED[m].stride or 0 for m in ENSEMBLES[n]) for n in ENSEMBLES}
    assert strides == {
        "ensemble_s16_14": [14, 16],
        "ensemble_s10": [10, 10, 10],
        "ensemble_4": [10, 12, 14, 16],
        "ensemble_5": [10, 10, 12, 14, 16],
        "ensemble_many": [10, 10, 10, 12, 12, 14, 14, 16, 16],
    }
    assert all(len(set(members)) == len(members) for members in ENSEMBLES.values())
    for member in ENSEMBLES["ensemble_s16_14"]:
        entry = PUBLISHED[member]
        small_weights.save(tmp_path / entry.file, small_weights.passt(stride=entry.stride or 10))
    assert len(build_ensemble("ensemble_s16_14", tmp_path).members) == 2
    with pytest.raises(InputError, match="weights get passt_s_swa_p16_128_ap476`"):
        build_ensemble("ensemble_4", tmp_path)


HALF = {kind: Patchout(kind, rate=0.5) for kind in ("unstructured", "structured", "interleaved")}


@torch.no_grad()
def test_dropped_patches_are_those_of_the_clips_position_whatever_the_batch(tmp_path: Path) -> None:
    path = _own(tmp_path / "1.safetensors", 1)
    ensemble, (net, recipe, _) = build_ensemble(path), read_model(path)
    whole, x = ensemble(WAVES), make_frontend(recipe.frontend).eval()(WAVES)
    grid = net.grid(x.shape[3])
    assert grid is not None
    every, found = grid[0] * grid[1] + 2, []
    for setting in HALF.values():
        ensemble.drop(setting)
        logits = ensemble(WAVES, first=7)
        for row in (0, 1):
            kept = torch.from_numpy(draw_kept(setting, grid, seed=0, step=7 + row))
            torch.testing.assert_close(logits[row : row + 1], net(x[row : row + 1], kept=kept))
            alone = ensemble(WAVES[row : row + 1], first=7 + row)
            torch.testing.assert_close(alone, logits[row : row + 1])
        assert ensemble.tokens(2.0) == [(resolve(setting, grid).kept + 2, every)]
        assert torch.equal(ensemble(WAVES, first=7), logits)
        assert not torch.equal(ensemble(WAVES), logits)  # other positions
        found.append(logits)
    assert not any(torch.equal(one, other) for one, other in combinations(found, 2))
    for nothing in (Patchout("structured", rate=0.0), Patchout()):
        ensemble.drop(nothing)
        assert torch.equal(ensemble(WAVES, first=7), whole)
        assert ensemble.tokens(2.0) == [(every, every)]


def test_members_drop_patches_on_their_own_grids(tmp_path: Path) -> None:
    files = {"s10.pt": small_weights.passt(stride=10), "s16.pt": small_weights.passt(stride=16)}
    paths = [small_weights.save(tmp_path / name, net) for name, net in files.items()]
    ensemble = build_ensemble(paths)
    ensemble.drop(Patchout("unstructured", rate=0.5))
    assert ensemble.tokens(10.0) == [(596, 1190), (250, 498)]


def test_a_model_without_patches_or_with_none_left_is_named(tmp_path: Path) -> None:
    net = create_model("cnn6", 3, mels=64, frames=64)
    recipe = replace(RECIPE, model=ModelSpec("cnn6"))
    cnn = save_model(tmp_path / "cnn.safetensors", net, recipe, tuple("abc"))
    own = _own(tmp_path / "1.safetensors", 1)
    for path, setting, field, value in (
        (cnn, HALF["structured"], "patchout.kind", "structured"),
        (own, Patchout("unstructured", rate=0.999), "patchout.rate", 0.999),
        (own, Patchout("none", rate=0.5), "patchout.rate", 0.5),
    ):
        with pytest.raises(InputError) as refused:
            build_ensemble(path).drop(setting)
        assert (refused.value.field, refused.value.value) == (field, value)
        assert refused.value.remedy
    build_ensemble(cnn).drop(Patchout())
