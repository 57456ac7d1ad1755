"""Ten-second clips a second on one core: each format, prepared clips, and the published way.

Real sound where ``PASST_BENCH_DATA`` names ESC-10, else chirps and bursts of noise. No time fails
anything: throughput.py puts what was measured into docs/.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layouts import write_hdf5
from pytest_benchmark.fixture import BenchmarkFixture
from sounds import cut, encoded, recordings, sound
from torch.utils.data import DataLoader, Dataset

from passt_bench.data import open_dataset
from passt_bench.data.audio import read_waveform
from passt_bench.data.hdf5 import open_hdf5
from passt_bench.data.opening import Encoded
from passt_bench.models.frontend import LogMel
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.spec import FrontendSpec
from passt_bench.spec.recipe import DataSpec

SECONDS, RATE, OTHER_RATE, CLIPS = 10, 32000, 44100, 12
SAMPLES = SECONDS * RATE
SPEC = DataSpec(name="fsd50k", seconds=SECONDS)
LOGMEL = FrontendSpec(sampling_rate=RATE, n_fft=1024, window=800, hop=320, mels=128, fmax=15000)
FORMATS = ("wav", "flac", "ogg", "mp3")
STAGES = ("decode", "resample", "logmel")
ROUNDS = 9

Clip = Callable[[int], np.ndarray]
Sources = dict[tuple[str, int], list[Encoded]]  # (format, Hz) → the clips as files in memory


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def waves(rate: int) -> list[np.ndarray]:
    """Each two recordings of five seconds, or what stands in for them."""
    files = recordings()
    if not files:
        return [sound(seed, SECONDS, rate) for seed in range(CLIPS)]
    pairs = [files[17 * n % len(files)] for n in range(2 * CLIPS)]
    halves = [cut(path, SECONDS / 2, rate) for path in pairs]
    return [np.concatenate(halves[2 * n : 2 * n + 2]) for n in range(CLIPS)]


@pytest.fixture(scope="module")
def sources() -> Sources:
    return {
        (kind, rate): [Encoded(encoded(wave, rate, kind), kind) for wave in waves(rate)]
        for rate in (RATE, OTHER_RATE)
        for kind in FORMATS
    }


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> Path:
    """The clips as mp3 at 32 kHz in HDF5 files of the published layout."""
    root = tmp_path_factory.mktemp("throughput")
    (root / "vocabulary.csv").write_text("".join(f"{n},class {n},/m/{n}\n" for n in range(200)))
    sounds = [clip.data for clip in sources["mp3", RATE]]
    target = np.zeros((CLIPS, 25), np.uint8)
    target[:, 0] = 128
    for split in ("train", "val", "eval"):
        names = [f"{split}{n}.mp3" for n in range(CLIPS)]
        write_hdf5(root / f"FSD50K.{split}_mp3.hdf", names, sounds, target)
    return root


@pytest.fixture(scope="module")
def ways(published: Path) -> dict[str, Clip]:
    """Ways to the waveform of a clip."""
    file = published / "FSD50K.train_mp3.hdf"
    classes = [f"class {n}" for n in range(200)]
    mp3 = open_hdf5(SPEC, RATE, name="fsd50k", files={"test": (file,)}, classes=classes)
    folder = published / "prepared"
    prepare_data(Preparation("fsd50k", published, RATE, out=folder))
    cache = open_dataset(SPEC, RATE, folder)
    return {"mp3": mp3.waveform, "cache": cache.waveform}


def pyav(data: bytes) -> np.ndarray:
    """A clip by PyAV, frame by frame, as the published loader decodes; cut or padded."""
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    wave = np.concatenate(frames)
    fitted = np.zeros(SAMPLES, dtype=np.float32)
    fitted[: len(wave)] = wave[:SAMPLES]
    return fitted


def report(benchmark: BenchmarkFixture, **what: object) -> None:
    """Throughput beside what was measured."""
    real = "recordings of ESC-10" if recordings() else "synthetic"
    benchmark.extra_info |= {"clips": CLIPS, "threads": 1, "sound": real, **what}
    if benchmark.stats is not None:
        median = float(benchmark.stats.stats.median)
        benchmark.extra_info["clips_per_second"] = round(CLIPS / median, 1)


def measure(
    benchmark: BenchmarkFixture, reads: Iterable[Callable[[], np.ndarray]], **what: object
) -> None:
    """Reads the clips, and turns them into log-mels where that is the stage."""
    net = LogMel(LOGMEL).eval()

    @torch.no_grad()
    def run() -> None:
        for read in reads:
            wave = read()
            if what["stage"] == "logmel":
                net(torch.from_numpy(wave)[None])

    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1, iterations=1)
    report(benchmark, **what)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", FORMATS)
def test_bench_stages(benchmark: BenchmarkFixture, kind: str, stage: str, sources: Sources) -> None:
    """Files at 44.1 kHz: decoded; resampled to 32 kHz as well; turned into log-mels as well."""
    rate = OTHER_RATE if stage == "decode" else RATE
    clips = sources[kind, OTHER_RATE]
    reads = [partial(read_waveform, clip, rate, SECONDS * rate) for clip in clips]
    measure(benchmark, reads, format=kind, stage=stage, rate=OTHER_RATE)


@pytest.mark.parametrize("stage", ["decode", "logmel"])
@pytest.mark.parametrize("way", ["mp3", "cache"])
def test_bench_at_32_khz(
    benchmark: BenchmarkFixture, way: str, stage: str, ways: dict[str, Clip]
) -> None:
    """What training reads: mp3 of a published HDF5 file, and prepared clips."""
    reads = [partial(ways[way], clip) for clip in range(CLIPS)]
    measure(benchmark, reads, format=f"{way} at 32 kHz", stage=stage, rate=RATE)


class Clips(Dataset[np.ndarray]):
    """Clips for a loader."""

    def __init__(self, read: Clip) -> None:
        self._read = read

    def __len__(self) -> int:
        return CLIPS

    def __getitem__(self, index: int) -> np.ndarray:
        return self._read(index)


@pytest.mark.parametrize("way", ["pyav", "mp3", "cache"])
def test_bench_loader(
    benchmark: BenchmarkFixture, way: str, ways: dict[str, Clip], sources: Sources
) -> None:
    """The same mp3 by PyAV in a torch loader, as the official code does; and these two in one."""
    read = ways.get(way)
    if read is None:
        data = [clip.data for clip in sources["mp3", RATE]]
        np.testing.assert_allclose(  # the same sound: mp3 decoders differ by how they pad
            np.sqrt((pyav(data[0]) ** 2).mean()), np.sqrt((ways["mp3"](0) ** 2).mean()), rtol=0.05
        )

        def read(index: int) -> np.ndarray:
            return pyav(data[index])

    loader: Any = DataLoader(Clips(read), batch_size=CLIPS, num_workers=0)

    def run() -> None:
        for batch in loader:
            assert batch.shape == (CLIPS, SAMPLES)

    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1, iterations=1)
    report(benchmark, format=f"{way} at 32 kHz", stage="loader", rate=RATE)


def test_bench_cache_against_mp3(benchmark: BenchmarkFixture, ways: dict[str, Clip]) -> None:
    """Both in turn in every round, each clip of one before the same of the other."""
    ratios: list[float] = []

    def run() -> None:
        spent = dict.fromkeys(ways, 0.0)
        for clip in range(CLIPS):
            for way, read in ways.items():
                began = time.perf_counter()
                read(clip)
                spent[way] += time.perf_counter() - began
        ratios.append(spent["mp3"] / spent["cache"])

    benchmark.pedantic(run, rounds=25, warmup_rounds=2, iterations=1)
    low, median, high = np.quantile(ratios[2:], [0.1, 0.5, 0.9])
    report(benchmark, format="cache against mp3", stage="ratio", rate=RATE)
    benchmark.extra_info |= {
        "ratio": round(float(median), 1),
        "ratio_tenth": round(float(low), 1),
        "ratio_ninetieth": round(float(high), 1),
    }
