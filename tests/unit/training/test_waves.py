"""Waveform augmentation: every part against its truth, the published order, purity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from noise_clips import RATE, SAMPLES, TRAIN, labels, open_noise

from passt_bench.models.frontend import draw_edges, make_frontend
from passt_bench.spec import FrontendSpec, Recipe, override
from passt_bench.training.batches import Batches
from passt_bench.training.features import Waveforms, changes_waves, draw_waves, logmels

STILL = FrontendSpec(sampling_rate=RATE, n_fft=256, window=200, hop=80, mels=16, fmax=3500.0)
MOVING = override(Recipe(frontend=STILL), {"frontend.fmax_jitter": 900}).frontend
ALL = np.arange(TRAIN)
TARGETS = labels()


def _recipe(**changes: Any) -> Recipe:
    names = {"crop": "data.crop", "storage": "data.storage", "salt": "salt"}
    dotted = {names.get(name, f"training.{name}"): value for name, value in changes.items()}
    base = Recipe(frontend=STILL)
    return override(base, {"data.seconds": SAMPLES / RATE, "training.batch_size": 4, **dotted})


def _drawn(recipe: Recipe, epoch: int = 0, clips: np.ndarray = ALL) -> tuple[Any, Any]:
    label = lambda clip: TARGETS[clip]  # noqa: E731
    return draw_waves(open_noise(), label, clips, ALL, recipe, 5, epoch)


def _plain(clip: int) -> np.ndarray:
    return open_noise().waveform(clip)


def test_gains_are_whole_decibels_from_minus_seven_to_six() -> None:
    found = set()
    for epoch in range(40):
        waves, _ = _drawn(_recipe(gain=7), epoch)
        ratios = np.array([wave[7] / _plain(clip)[7] for clip, wave in enumerate(waves)])
        decibels = 20 * np.log10(ratios)
        np.testing.assert_allclose(decibels, decibels.round(), atol=1e-3)
        found |= set(decibels.round().astype(int).tolist())
    assert found == set(range(-7, 7))


def test_waves_are_rolled_by_so_many_samples_either_way() -> None:
    found = set()
    for epoch in range(4):
        waves, _ = _drawn(_recipe(shift=3), epoch)
        for clip, wave in enumerate(waves):
            shifts = [s for s in range(-4, 5) if (np.roll(_plain(clip), s) == wave).all()]
            found.update(shifts)
            assert len(shifts) == 1
    assert found == set(range(-3, 4))


def test_longer_clips_begin_anywhere_and_others_at_their_start() -> None:
    dataset, starts = open_noise(), []
    for epoch in range(10):
        waves, _ = _drawn(_recipe(crop="random"), epoch)
        for clip, wave in enumerate(waves):
            whole = dataset.whole(clip)
            (start,) = np.flatnonzero(whole == wave[0])
            np.testing.assert_array_equal(whole[start : start + SAMPLES], wave)
            assert start == 0 or clip % 3 == 0
            starts += [int(start)] if clip % 3 == 0 else []
    assert len(set(starts)) > 50
    assert max(starts) <= SAMPLES // 2


def test_mixtures_are_without_mean_and_mix_labels_alike() -> None:
    waves, targets = _drawn(_recipe(wavmix=1.0, wavmix_alpha=2.0))
    centred = [_plain(clip) - _plain(clip).mean() for clip in ALL]
    for clip, (wave, target) in enumerate(zip(waves, targets, strict=True)):
        assert abs(float(wave.mean())) < 1e-7
        one, shares = centred[clip], {}
        for other, two in enumerate(centred):
            length = float(((one - two) ** 2).sum())
            share = float((wave - two) @ (one - two)) / length if length else 1.0
            if np.allclose(share * one + (1 - share) * two, wave, atol=1e-5):
                shares[other] = share
        ((other, share),) = shares.items()
        assert 0.5 <= share <= 1
        labels = share * TARGETS[clip] + (1 - share) * TARGETS[other]
        np.testing.assert_allclose(target, labels, atol=1e-4)


def test_half_of_the_clips_are_mixed_by_shares_that_are_beta_and_at_least_half() -> None:
    random = np.random.default_rng(0).beta(2, 2, 4000)
    expected = np.maximum(random, 1 - random)
    targets, found = np.eye(TRAIN, dtype="f4"), []
    for epoch in range(120):
        recipe = _recipe(wavmix=0.5)
        _, rows = draw_waves(open_noise(), targets.__getitem__, ALL, ALL, recipe, 1, epoch)
        found += [row[clip] for clip, row in enumerate(rows) if row[clip] < 1]
    assert len(found) / (120 * TRAIN) == pytest.approx(0.5, abs=4 * 0.5 / (120 * TRAIN) ** 0.5)
    assert min(found) >= 0.5
    assert np.mean(found) == pytest.approx(expected.mean(), abs=0.02)
    assert np.std(found) == pytest.approx(expected.std(), abs=0.02)


def test_the_roll_turns_the_part_and_not_the_whole_clip() -> None:
    dataset = open_noise()
    waves, _ = _drawn(_recipe(gain=7, shift=3, crop="random"))
    for clip in range(0, TRAIN, 3):
        whole = dataset.whole(clip)
        errors = []
        for back in range(-3, 4):
            part = np.roll(waves[clip], back)
            gains = part[0] / whole[: len(whole) - SAMPLES + 1]
            starts = np.flatnonzero(
                np.isclose(gains * whole[1 : len(gains) + 1], part[1], rtol=1e-4)
            )
            errors += [abs(part - gains[s] * whole[s : s + SAMPLES]).max() for s in starts]
        assert min(errors) < 1e-5


def test_it_is_a_function_of_seed_salt_epoch_and_clip() -> None:
    recipe = _recipe(gain=7, shift=50, crop="random", wavmix=0.5)
    waves, targets = _drawn(recipe)
    some, few = _drawn(recipe, clips=np.array([11, 2]))
    np.testing.assert_array_equal(some, waves[[11, 2]])
    np.testing.assert_array_equal(few, targets[[11, 2]])
    assert (_drawn(recipe, epoch=1)[0] != waves).any(axis=1).all()
    assert (_drawn(override(recipe, {"salt": 1}))[0] != waves).any(axis=1).all()
    assert not changes_waves(_recipe(mixup=0.3, roll=0.5, mask_time=4))
    waves, targets = _drawn(_recipe())
    np.testing.assert_array_equal(waves, [_plain(clip) for clip in ALL])
    np.testing.assert_array_equal(targets, TARGETS[ALL])


def test_a_step_is_waves_then_log_mel_then_the_rest() -> None:
    recipe = override(_recipe(gain=7, shift=50, wavmix=0.5), {"frontend": MOVING})
    features: Any = Waveforms(open_noise(), MOVING, SAMPLES / RATE)
    source = Batches(features, TARGETS, ALL, recipe, 5)
    x, targets = source(6).values()
    waves, mixed = _drawn(recipe, epoch=1, clips=source.clips(6))
    net = make_frontend(MOVING)
    filters = net.banks(*draw_edges(MOVING, 5, 0, 6))
    assert torch.equal(x, logmels(net, torch.from_numpy(waves), filters))
    np.testing.assert_array_equal(targets, mixed)
    more = override(recipe, {"training.mixup": 0.3})
    again, same = Batches(features, TARGETS, ALL, more, 5)(6).values()
    assert (x != again).any()
    assert targets.shape == same.shape
