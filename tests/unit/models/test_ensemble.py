"""Ensembles: plain means of logits over strides and front ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import small_weights
import torch

from passt_bench.errors import InputError
from passt_bench.models import create_model, save_model
from passt_bench.models.ensemble import Ensemble, build_ensemble
from passt_bench.models.frontend import make_frontend
from passt_bench.models.weights import read_model
from passt_bench.published_weights import ENSEMBLES, PUBLISHED
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Recipe, TrainingSpec

WAVES = 0.1 * torch.randn(2, 32000, generator=torch.Generator().manual_seed(2))


def _own(path: Path, seed: int, recipe: Recipe | None = None, classes: str = "abc") -> Path:
    recipe = recipe or Recipe(
        model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
        frontend=FrontendSpec(hop=250),
        data=DataSpec(seconds=1.0),
    )
    net = create_model("passt_micro", len(classes), patch=8, stride=8, mels=64, frames=64)
    return save_model(path, small_weights.randomised(net, seed), recipe, tuple(classes))


def test_the_mean_is_over_logits_of_models_with_strides_and_front_ends_of_their_own(
    tmp_path: Path,
) -> None:
    paths = [
        small_weights.save(tmp_path / "s10.pt", small_weights.passt(stride=10)),
        small_weights.save(tmp_path / "s16.pt", small_weights.passt(stride=16)),
        small_weights.save(
            tmp_path / PUBLISHED["stfthop160"].file, small_weights.passt(frames=2000)
        ),
    ]
    ensemble = build_ensemble(paths)
    with torch.no_grad():
        got = ensemble(WAVES)
        alone = []
        for path in paths:
            net, recipe, _ = read_model(path)
            alone.append(net(make_frontend(recipe.frontend).eval()(WAVES)))
    assert torch.equal(got, torch.stack(alone).mean(0))
    assert got.shape == (2, 527)
    assert torch.equal(ensemble.probabilities(got), got.sigmoid())
    assert (ensemble.sampling_rate, ensemble.window, ensemble.clip) == (32000, 10.0, 10.0)


def test_one_member_is_the_model_itself_and_order_does_not_matter(tmp_path: Path) -> None:
    one, two = _own(tmp_path / "1.safetensors", 1), _own(tmp_path / "2.safetensors", 2)
    waves = WAVES[:, :16000]
    with torch.no_grad():
        first = build_ensemble(one)(waves)
        second = build_ensemble([two])(waves)
        both, turned = build_ensemble([one, two])(waves), build_ensemble([two, one])(waves)
    torch.testing.assert_close(both, (first + second) / 2)
    assert torch.equal(both, turned)


def test_members_of_other_rates_are_resampled(tmp_path: Path) -> None:
    slow = _own(tmp_path / "slow.safetensors", 1, classes="".join(map(chr, range(40, 567))))
    fast = small_weights.save(tmp_path / "fast.pt", small_weights.passt())
    models = [read_model(fast), read_model(slow)._replace(classes=read_model(fast).classes)]
    ensemble = Ensemble(models, ("fast", "slow"))
    assert (ensemble.sampling_rate, ensemble.window) == (32000, 1.0)
    with torch.no_grad():
        assert ensemble(WAVES).isfinite().all()


def test_a_long_models_window_is_its_encodings(tmp_path: Path) -> None:
    entry = PUBLISHED["passt_30sec"]
    path = small_weights.save(tmp_path / entry.file, small_weights.passt(frames=3000))
    ensemble = build_ensemble(path)
    assert (ensemble.clip, ensemble.window) == (10.0, 30.0)


def test_members_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    one = _own(tmp_path / "1.safetensors", 1)
    other = _own(tmp_path / "2.safetensors", 1, classes="abd")
    with pytest.raises(InputError, match=r"2.safetensors.*same classes"):
        build_ensemble([one, other])
    recipe = replace(read_model(one).recipe, training=TrainingSpec(loss="ce"))
    other = _own(tmp_path / "3.safetensors", 1, recipe)
    with pytest.raises(InputError, match=r"3.safetensors.*training.loss = 'ce'"):
        build_ensemble([one, other])
    with pytest.raises(InputError, match="at least one"):
        build_ensemble([])
    with pytest.raises(InputError, match="Did you mean 'ensemble_5'"):
        build_ensemble("ensemble_6")
    with pytest.raises(InputError, match="Give 3 names"):
        build_ensemble(one).rename(["a"])


def test_published_sets_are_those_of_the_paper(tmp_path: Path) -> None:
    sizes = {name: len(set(members)) for name, members in ENSEMBLES.items()}
    assert sizes == {
        "ensemble_s16_14": 2,
        "ensemble_s10": 3,
        "ensemble_4": 4,
        "ensemble_5": 5,
        "ensemble_many": 9,
    }
    strides = {
        name: sorted({PUBLISHED[member].stride or 0 for member in members})
        for name, members in ENSEMBLES.items()
    }
    assert strides["ensemble_4"] == strides["ensemble_many"] == [10, 12, 14, 16]
    assert strides["ensemble_s16_14"] == [14, 16]
    for member in ENSEMBLES["ensemble_s16_14"]:
        entry = PUBLISHED[member]
        net = small_weights.passt(stride=entry.stride or 10)
        small_weights.save(tmp_path / entry.file, net)
    assert len(build_ensemble("ensemble_s16_14", tmp_path).members) == 2
    with pytest.raises(InputError, match="weights get passt_s_swa_p16_128_ap476`"):
        build_ensemble("ensemble_4", tmp_path)
