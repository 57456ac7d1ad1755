"""Memory does not grow with the length of a recording, nor with a small hop."""

import tracemalloc
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile

import av
import numpy as np
import soundfile
from small_model import write_model

from passt_bench.data.audio import read_waveform
from passt_bench.models.ensemble import Ensemble, build_ensemble
from passt_bench.runner.predict import Windows, as_json, predict_files, write_npz

RATE, SECONDS = 22050, 120


def peak(ensemble: Ensemble, path: Path, hop: float | None, out: Path) -> int:
    """Bytes that Python and NumPy hold at most while windows and embeddings are written."""
    found: list[tuple[str, Windows]] = []
    tracemalloc.start()
    with TemporaryFile() as rows, out.open("w") as file:
        results = predict_files(ensemble, [path], hop, rows=rows)
        noted = (found.append((each.file, each.windows)) or each for each in results)
        file.writelines(as_json(noted, None, by_window=True))
        write_npz(out.with_suffix(".npz"), found)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_stereo_that_ffmpeg_decodes_is_not_held_in_memory(tmp_path: Path) -> None:
    path, silence = tmp_path / "long.mka", np.zeros((2, 48000), np.float32)
    with av.open(path, "w") as container:
        stream = container.add_stream("flac", rate=48000, layout="stereo")
        resampler = av.AudioResampler("s16", "stereo", 48000)
        for second in range(10 * 60):
            frame = av.AudioFrame.from_ndarray(silence + second / 1000, "fltp", "stereo")
            frame.rate, frame.pts, frame.time_base = 48000, 48000 * second, Fraction(1, 48000)
            container.mux(
                part for each in resampler.resample(frame) for part in stream.encode(each)
            )
        container.mux(stream.encode(None))
    tracemalloc.start()
    found = read_waveform(path, 48000, 48000, 580 * 48000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, 0.58, atol=1e-4)
    assert most < 10 * 60 * 48000 * 2 * 4 / 2


def test_memory_is_that_of_a_short_recording(tmp_path: Path) -> None:
    ensemble = build_ensemble(write_model(tmp_path / "m", [f"class {n}" for n in range(20)]))
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE * 10).astype(np.float32)
    for name, times in (("short", 1), ("long", SECONDS // 10)):
        soundfile.write(tmp_path / f"{name}.wav", np.tile(noise, times), RATE)
    short, far = tmp_path / "short.wav", tmp_path / "long.wav"
    peak(ensemble, short, None, tmp_path / "first")  # imports, and what is kept for good
    few = peak(ensemble, short, None, tmp_path / "few")
    assert peak(ensemble, far, None, tmp_path / "many") < few + 2**20
    assert peak(ensemble, far, 0.5, tmp_path / "overlap") < few + 2**20
    with np.load(tmp_path / "overlap.npz") as arrays:
        assert len(arrays["embedding"]) == len(arrays["file"]) == 2 * SECONDS - 1
