"""Renders the embedded data set: procedural scenes with 16 classes in four designed groups.

A scene is colored noise with one to four events, each 4 to 20 dB above the noise. The groups
differ in what distinguishes their classes, so that the effect of dropping a part of the input can
be predicted:

* ``frequency``: steady bands of noise that differ only in their position on the mel scale;
* ``time``: broadband noise that differs only in its envelope;
* ``both``: gliding tones that cross the same frequencies for the same time in another order;
* ``position``: a broadband burst that differs only in its position in the clip.

No side effect may reveal a class. All noise is colored so that it is flat on the log-mel
spectrogram: an event raises it equally everywhere. Bands vary by an eighth of the mel scale and
bursts by an eighth of the clip, height and width of a patch on a grid of 8 x 8, so that the
content of a single patch does not reveal its position. Bursts are three eighths apart: a multiple
of the strides 8 and 6 in 64 frames.

Lengths are shares of the clip and frequencies shares of the mel scale, so that every clip length
and sampling rate gives the same pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from passt_bench.data.dataset import Dataset
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

VERSION = 1  # raise when any sample of unchanged settings changes

_EVENTS = (1, 4)  # minimum and maximum events per clip
_LEVELS = (4.0, 20.0)  # dB over the background
_GAIN = 6.0  # dB, maximum change of a clip's level, up or down
_LOUDNESS = 0.02  # root mean square of the background
_TOP = 0.46  # the mel scale ends at this share of the sampling rate
_PATCH = 1 / 8  # by how much positions of bands and bursts vary
_BAND = 1 / 16  # width of a band on the mel scale
_RAMP = 20.0  # dB from one end of a ramp to the other
_GLIDE_LENGTHS = (0.7, 0.9)  # share of the clip
_GLIDE_RANGE = (0.1, 0.75)  # on the mel scale, of the lower tone
_GLIDE_INTERVAL = 1 / 8  # from the lower to the upper tone
_GLIDE_WIDTH = 1 / 32  # a tone's level is that over the background in this part of the scale
_BURST, _FIRST_BURST, _BURST_STEP = 0.08, 0.025, 3 / 8  # length, earliest onset, spacing
TRAIN_CLIPS, TEST_CLIPS = 1500, 400
_MIN_SAMPLES = 1000

Envelope = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Shape = Callable[[np.ndarray], np.ndarray]


def _pulses(rate: int, time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Raised-cosine pulses, ``rate`` per clip within a tenth, at a random phase."""
    cycles = rate * random.uniform(0.9, 1.1) * time + random.uniform()
    return np.asarray((0.5 + 0.5 * np.cos(2 * np.pi * cycles)) ** 2)


def _ramp(rising: bool, time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Grows or fades over the whole clip, linearly in dB."""
    return np.asarray(10 ** (-_RAMP / 20 * (1 - time if rising else time)))


def _burst(place: int, time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One burst; the onset varies by the width of a patch."""
    onset = _FIRST_BURST + place * _BURST_STEP + _PATCH * random.uniform()
    inside: np.ndarray = (time >= onset) & (time < onset + _BURST)
    return inside.astype(np.float32)


_BANDS = {f"band {number + 1}": (number + 0.5) / 5 for number in range(5)}  # center on the scale
_PATTERNS: dict[str, Envelope] = {
    "pulses 4": partial(_pulses, 4),
    "pulses 10": partial(_pulses, 10),
    "pulses 24": partial(_pulses, 24),
    "ramp up": partial(_ramp, True),
    "ramp down": partial(_ramp, False),
}
_GLIDES: dict[str, Shape] = {  # share of the glide's time → share of its range
    "glide up": lambda share: share,
    "glide down": lambda share: 1 - share,
    "glide up and down": lambda share: 1 - np.abs(2 * share - 1),
}
_PLACES: dict[str, Envelope] = {
    "burst early": partial(_burst, 0),
    "burst middle": partial(_burst, 1),
    "burst late": partial(_burst, 2),
}
GROUPS = {
    "frequency": tuple(_BANDS),
    "time": tuple(_PATTERNS),
    "both": tuple(_GLIDES),
    "position": tuple(_PLACES),
}
CLASSES = tuple(name for names in GROUPS.values() for name in names)


@dataclass(frozen=True)
class _Axes:
    """Arrays shared by all clips of one length and rate."""

    time: np.ndarray  # (samples,) share of the clip
    scale: np.ndarray  # (samples // 2 + 1,) share of the mel scale of each FFT bin
    color: np.ndarray  # (samples // 2 + 1,) amplitude of each FFT bin of the background
    power: float  # power of the background after pre-emphasis, on the whole mel scale


def _tilt(frequency: np.ndarray, rate: int) -> np.ndarray:
    """Gain of a pre-emphasis of 0.97 at a frequency in Hz."""
    angle = 2 * np.pi / rate * frequency
    return np.asarray(np.sqrt(1 + 0.97**2 - 2 * 0.97 * np.cos(angle)))


@lru_cache(maxsize=4)
def _axes(samples: int, rate: int) -> _Axes:
    frequency = np.fft.rfftfreq(samples, 1 / rate)
    top = np.log1p(_TOP * rate / 700)
    # A mel filter is as wide as 700 Hz + f, and pre-emphasis tilts the rest: undo both.
    color = 1 / (np.sqrt(700 + frequency) * _tilt(frequency, rate))
    color[0] = 0
    # An inverse FFT of unit normal real and imaginary parts has this deviation.
    color *= _LOUDNESS / (2 * np.sqrt(np.sum(color**2)) / samples)
    flat = (2 * color * np.sqrt(700 + frequency) * _tilt(frequency, rate))[-1] / samples
    return _Axes(
        time=(np.arange(samples) / samples).astype(np.float32),
        scale=(np.log1p(frequency / 700) / top).astype(np.float32),
        color=color.astype(np.float32),
        power=float(flat**2 * top * samples / rate),
    )


def _noise(amplitude: np.ndarray, samples: int, random: np.random.Generator) -> np.ndarray:
    """Gaussian noise with the amplitude spectrum."""
    parts = random.standard_normal((2, len(amplitude)), dtype=np.float32)
    spectrum = amplitude * (parts[0] + 1j * parts[1])
    noise: np.ndarray = np.fft.irfft(spectrum, samples)
    return noise.astype(np.float32)


def _glide(shape: Shape, axes: _Axes, rate: int, random: np.random.Generator) -> np.ndarray:
    """Two parallel tones over most of the mel scale, each 0 dB over the background near it."""
    length = random.uniform(*_GLIDE_LENGTHS)
    onset = random.uniform(0, 1 - length)
    inside = (axes.time >= onset) & (axes.time < onset + length)
    low, high = _GLIDE_RANGE
    path = low + (high - low) * shape((axes.time[inside] - onset) / length)
    chord = np.zeros_like(axes.time)
    for shift in (0, _GLIDE_INTERVAL):
        frequency = 700 * np.expm1((path + shift) * np.log1p(_TOP * rate / 700))
        amplitude = np.sqrt(2 * _GLIDE_WIDTH * axes.power) / _tilt(frequency, rate)
        cycles = np.cumsum(frequency, dtype=np.float64) / rate + random.uniform()
        chord[inside] += amplitude * np.sin(2 * np.pi * (cycles % 1).astype(np.float32))
    return chord


def draw_classes(random: np.random.Generator) -> np.ndarray:
    """The classes of a clip, the first draw of its generator."""
    events = int(random.integers(_EVENTS[0], _EVENTS[1] + 1))
    return np.asarray(random.permutation(len(CLASSES))[:events])


def render_scene(samples: int, rate: int, random: np.random.Generator) -> np.ndarray:
    """The samples of a clip, float32."""
    axes = _axes(samples, rate)
    spectrum = np.ones_like(axes.color)  # power over the background
    envelope = np.zeros_like(axes.time)  # power of broadband events over the background
    tones = np.zeros_like(axes.time)
    for name in (CLASSES[number] for number in draw_classes(random)):
        power = 10 ** (random.uniform(*_LEVELS) / 10)
        if name in _BANDS:
            center = _BANDS[name] + _PATCH * (random.uniform() - 0.5)
            spectrum += power * (np.abs(axes.scale - center) < _BAND / 2)
        elif name in _GLIDES:
            tones += np.sqrt(power) * _glide(_GLIDES[name], axes, rate, random)
        else:
            shape = _PATTERNS.get(name) or _PLACES[name]
            envelope += power * shape(axes.time, random) ** 2
    clip = _noise(axes.color * np.sqrt(spectrum), samples, random) + tones
    if envelope.any():
        clip += np.sqrt(envelope) * _noise(axes.color, samples, random)
    gain = 10 ** (random.uniform(-_GAIN, _GAIN) / 20)
    return np.asarray((gain * clip).astype(np.float32))


def _random(seed: int, split: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, split, index))))


@dataclass(frozen=True, eq=False)
class Synthetic(Dataset):
    """Scenes rendered on demand, each by its own generator, so that any subset is the same."""

    seed: int
    train_clips: int
    sampling_rate: int
    samples: int

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The one fixed split: training clips first."""
        if fold is not None:
            raise InputError(
                "the synthetic scenes have no folds", field="fold", value=fold, remedy="Use None."
            )
        return np.arange(self.train_clips), np.arange(self.train_clips, len(self.ids))

    def waveform(self, index: int) -> np.ndarray:
        """Renders a clip, about a millisecond for a second at 16 kHz."""
        test = index >= self.train_clips
        random = _random(self.seed, int(test), index - test * self.train_clips)
        return render_scene(self.samples, self.sampling_rate, random)


def _targets(seed: int, counts: tuple[int, ...]) -> np.ndarray:
    """The labels of all clips, (N, C), split after split."""
    places = [(split, index) for split, count in enumerate(counts) for index in range(count)]
    targets = np.zeros((len(places), len(CLASSES)), dtype=np.float32)
    for row, place in zip(targets, places, strict=True):
        row[draw_classes(_random(seed, *place))] = 1
    return targets


@DATASETS.register(
    "synthetic", version=VERSION, summary="procedural scenes, 16 classes in four designed groups"
)
def open_synthetic(spec: DataSpec, sampling_rate: int, root: Path | None) -> Synthetic:
    """Draws the labels of procedural scenes; their audio is rendered on demand.

    Refuses a folder, and clips that are too short (`InputError`).
    """
    if root is not None:
        raise InputError(
            "the scenes are procedural and read no folder",
            field="--data synthetic",
            value=str(root),
            remedy="Leave it out.",
        )
    samples = round(spec.seconds * sampling_rate)
    if samples < _MIN_SAMPLES:
        raise InputError(
            f"{samples} samples at {sampling_rate} Hz are too few for a scene",
            field="data.seconds",
            value=spec.seconds,
            remedy=f"Give at least {_MIN_SAMPLES / sampling_rate:g} s.",
        )
    counts = {"train": spec.train_clips or TRAIN_CLIPS, "test": spec.test_clips or TEST_CLIPS}
    total = sum(counts.values())
    ids = tuple(f"{split}-{index:05d}" for split, count in counts.items() for index in range(count))
    targets = _targets(spec.seed, tuple(counts.values()))
    shares = targets.mean(axis=0)
    what = f"synthetic {VERSION} {spec.seed} {counts} {samples} {sampling_rate}"
    return Synthetic(
        fingerprint=Fingerprint(
            dataset="synthetic",
            digest=hashlib.sha256(what.encode()).hexdigest()[:16],
            expected=total,
            found=total,
            classes=CLASSES,
            multi_label=True,
            sampling_rates={str(sampling_rate): total},
            groups=GROUPS,
            notes=(
                f"a class stands in {shares.mean():.1%} of the clips on average, in "
                f"{shares.max():.1%} at most: guessing reaches that average precision",
            ),
        ),
        ids=ids,
        targets=targets,
        sources=ids,
        folds=(),
        seed=spec.seed,
        train_clips=counts["train"],
        sampling_rate=sampling_rate,
        samples=samples,
    )
