"""The embedded scenes: the same for ever, and each class what its name says."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from passt_bench.data import open_dataset
from passt_bench.data.synthetic import CLASSES, VERSION, Synthetic
from passt_bench.errors import InputError
from passt_bench.models.frontend import LogMel
from passt_bench.spec.recipe import DataSpec, FrontendSpec

RATE = 16000
# Checksums of the first 24 evaluation clips by version of the generator. Where this fails, samples
# have changed: raise VERSION and put the new checksums here.
GOLDEN = {
    1: [
        0.00661011, 0.0103884, 0.0074309, 0.0073498, 0.00330313, 0.0133336, 0.0052657, 0.0128191,
        0.00743212, 0.0018321, 0.00230899, 0.0037959, 0.0080984, 0.00981724, 0.00474581, 0.013971,
        0.00428261, 0.00407201, 0.0141906, 0.0078445, 0.00636792, 0.0046801, 0.00950398, 0.00859402,
    ]
}  # fmt: skip


def scenes(rate: int = RATE, **fields: object) -> Synthetic:
    found = open_dataset(DataSpec(**fields), rate, None)  # type: ignore[arg-type]
    assert isinstance(found, Synthetic)
    return found


def checksum(clip: np.ndarray) -> float:
    """Moves with the pitch and with the place of what is in a clip."""
    return float(np.abs(np.diff(clip)) @ np.linspace(1, 2, len(clip) - 1) / len(clip))


def test_samples_are_those_of_the_version() -> None:
    data = scenes()
    _, test = data.split(None)
    assert data.targets[test[:24]].any(axis=0).all()  # every class is covered
    found = [checksum(data.waveform(index)) for index in test[:24]]
    np.testing.assert_allclose(found, GOLDEN[VERSION], rtol=1e-4)


def test_default_size_and_prevalence() -> None:
    data = scenes()
    train, test = data.split(None)
    assert (len(train), len(test)) == (1500, 400)
    assert not set(train) & set(test)
    assert len(data.ids) == len(set(data.ids)) == len(data.sources) == len(data.targets) == 1900
    assert data.targets.dtype == np.float32
    for part in (train, test):
        events = data.targets[part].sum(axis=1)
        assert set(events) == {1, 2, 3, 4}
        prevalence = data.targets[part].mean(axis=0)
        assert prevalence.max() <= 0.22
        assert 0.14 < prevalence.mean() < 0.17
    assert data.targets.mean(axis=0).max() <= 0.2
    assert data.fingerprint.classes == CLASSES and data.fingerprint.multi_label
    assert sum(data.fingerprint.groups.values(), ()) == CLASSES
    assert not np.allclose(data.waveform(0), data.waveform(1500))


def test_a_subset_holds_the_same_clips() -> None:
    large, small = scenes(train_clips=30, test_clips=9), scenes(train_clips=2, test_clips=3)
    pairs = [*zip(*(data.split(None)[0][:2] for data in (large, small)), strict=True)]
    pairs += [*zip(*(data.split(None)[1][:3] for data in (large, small)), strict=True)]
    for a, b in pairs:
        assert large.ids[a] == small.ids[b]
        assert np.array_equal(large.targets[a], small.targets[b])
        assert np.array_equal(large.waveform(a), small.waveform(b))


def test_the_digest_tells_all_that_decides() -> None:
    plain = scenes(train_clips=5, test_clips=5).fingerprint.digest
    assert plain == scenes(train_clips=5, test_clips=5).fingerprint.digest
    others = [
        scenes(train_clips=6, test_clips=5),
        scenes(train_clips=5, test_clips=6),
        scenes(train_clips=5, test_clips=5, seed=1),
        scenes(train_clips=5, test_clips=5, seconds=0.5),
        scenes(8000, train_clips=5, test_clips=5),
    ]
    assert len({plain, *(data.fingerprint.digest for data in others)}) == 6
    assert not np.allclose(others[2].waveform(0), scenes(train_clips=1).waveform(0))


@pytest.mark.parametrize(
    ("rate", "seconds"), [(8000, 0.5), (16000, 0.3), (22050, 0.371), (32000, 2.0), (1000, 1.0)]
)
def test_any_rate_and_length(rate: int, seconds: float) -> None:
    data = scenes(rate, seconds=seconds, train_clips=8, test_clips=1)
    for index in range(9):
        clip = data.waveform(index)
        assert clip.shape == (round(rate * seconds),)
        assert clip.dtype == np.float32
        assert np.isfinite(clip).all()
        assert 0.002 < clip.std() < 1


def test_refusals() -> None:
    with pytest.raises(InputError, match="no folds"):
        scenes(train_clips=1, test_clips=1).split(1)
    with pytest.raises(InputError, match=r"data\.seconds.*0\.0625 s"):
        scenes(seconds=0.01)
    with pytest.raises(InputError, match="no folder"):
        open_dataset(DataSpec(), RATE, root=Path(__file__))


@lru_cache(maxsize=1)
def alone() -> dict[str, np.ndarray]:
    """Log-mel (clips, 64, 64) of the clips with a single event, by class."""
    data = scenes(train_clips=1000, test_clips=1)
    single = np.flatnonzero(data.targets.sum(axis=1) == 1)
    waves = torch.from_numpy(np.stack([data.waveform(index) for index in single]))
    x = LogMel(FrontendSpec(hop=250))(waves).squeeze(1).numpy()
    labels = data.targets[single].argmax(axis=1)
    return {name: x[labels == number] for number, name in enumerate(CLASSES)}


def share(right: np.ndarray) -> float:
    return float(np.mean(right))


@pytest.mark.parametrize("number", range(5))
def test_bands_lie_in_their_fifth(number: int) -> None:
    spectra = alone()[f"band {number + 1}"].mean(axis=2)
    spectra = spectra - np.mean([x.mean(axis=(0, 2)) for x in alone().values()], axis=0)
    place = (spectra.argmax(axis=1) + 0.5) / 64
    assert share(np.abs(place - (number + 0.5) / 5) < 1 / 10) > 0.9


@pytest.mark.parametrize(("name", "place"), [("early", 0), ("middle", 1), ("late", 2)])
def test_bursts_lie_in_their_place(name: str, place: int) -> None:
    peak = (alone()[f"burst {name}"].mean(axis=1).argmax(axis=1) + 0.5) / 64
    first = 0.025 + place * 3 / 8
    assert share((peak > first - 0.02) & (peak < first + 1 / 8 + 0.08 + 0.02)) > 0.9


@pytest.mark.parametrize("rate", [4, 10, 24])
def test_pulses_beat_at_their_rate(rate: int) -> None:
    level = alone()[f"pulses {rate}"].mean(axis=1)
    beats = np.abs(np.fft.rfft(level - level.mean(axis=1, keepdims=True), axis=1))
    assert share(np.abs(beats.argmax(axis=1) - rate) <= 0.1 * rate + 1) > 0.8


@pytest.mark.parametrize(("name", "sign"), [("ramp up", 1), ("ramp down", -1)])
def test_ramps_rise_and_fall(name: str, sign: int) -> None:
    level = alone()[name].mean(axis=1)
    slope = level[:, 48:].mean(axis=1) - level[:, :16].mean(axis=1)
    assert share(sign * slope > 0.1) > 0.9


@pytest.mark.parametrize(
    ("name", "signs"),
    [("glide up", (1, 1)), ("glide down", (-1, -1)), ("glide up and down", (1, -1))],
)
def test_glides_move_as_named(name: str, signs: tuple[int, int]) -> None:
    x = alone()[name]
    tops = (x - x.mean(axis=2, keepdims=True)).argmax(axis=1)
    for half, sign in zip((tops[:, 10:30], tops[:, 34:54]), signs, strict=True):
        slope = [np.polyfit(np.arange(20), row, 1)[0] for row in half]
        assert np.median(slope) * sign > 0.3


def test_the_background_is_flat_after_the_front_end() -> None:
    quiet = alone()["burst early"][:, :, 24:-1].mean(axis=(0, 2))
    assert quiet[4:].std() < 0.05
