"""Whether an mp3 file is whole, told by its frames."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from sounds import encoded, sound

from passt_bench.data.audio import Encoded, read_whole
from passt_bench.data.headers import look_at
from passt_bench.data.mp3_frames import frame_length

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def missing_end(data: bytes) -> str | None:
    return look_at(data).problem


def frames(data: bytes) -> list[int]:
    """Where frames begin."""
    found, at = [], 0
    while (length := frame_length(data[at : at + 4])) is not None:
        found.append(at)
        at += length
    assert at == len(data)
    return found


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", MP3_RATES)
def test_a_cut_is_told_whatever_the_rate(rate: int, mode: str, channels: int) -> None:
    file = io.BytesIO()
    soundfile.write(
        file, sound(0, 0.5, rate, channels), rate, format="MP3", bitrate_mode=mode,
        compression_level=0.5,
    )  # fmt: skip
    data = file.getvalue()
    starts = frames(data)
    assert len(starts) > 5
    assert missing_end(data) is None
    for cut in (len(data) - 1, len(data) // 2, starts[3], starts[1]):
        assert " expected, " in (missing_end(data[:cut]) or "")
    bare = data[starts[1] :]  # without the frame that tells how much there is
    assert missing_end(bare) is None
    assert missing_end(bare[:-1]) == "cut off: the last frame is incomplete"
    assert (
        missing_end(bare[: starts[4] - starts[1] + 20]) == "cut off: the last frame is incomplete"
    )


def test_tags_before_and_behind_do_not_count() -> None:
    data = encoded(sound(0, 0.5, 32000), 32000, "mp3")
    tag = b"ID3\x04\0\0\0\0\x01\x05" + b"\0" * (128 + 5)
    for whole in (tag + data, data + b"TAG" + b"\0" * 125, tag + data + b"TAG" + b"\0" * 125):
        assert missing_end(whole) is None
    assert missing_end((tag + data)[:-400]) is not None


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"text", b"\xff\xfb\xf0\0", b"\xff\xfb\x00\0", b"ID3", b"\xff" * 90]
)
def test_of_other_files_nothing_is_said(data: bytes) -> None:
    assert missing_end(data) is None


@pytest.mark.parametrize("rate", [32000, 44100])
def test_files_of_ffmpeg(rate: int) -> None:
    """The published clips were made by it."""
    av = pytest.importorskip("av", reason="PyAV is missing: pip install passt-bench[av]")
    file = io.BytesIO()
    wave = sound(0, 0.5, rate)
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    data = file.getvalue()
    assert missing_end(data) is None
    for cut in (len(data) - 1, len(data) // 2):
        assert missing_end(data[:cut]) is not None
    decoded = read_whole(Encoded(data, "clip"), rate)
    assert np.corrcoef(decoded[: len(wave)], wave)[0, 1] > 0.98
