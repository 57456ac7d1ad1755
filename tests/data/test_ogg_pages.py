"""Holes in Ogg files, over which the decoder jumps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import recordings, sound

from passt_bench.data.contents import hear
from passt_bench.data.decode import read_header, read_waveform, read_whole
from passt_bench.data.ogg_pages import broken_page
from passt_bench.data.opening import Encoded
from passt_bench.errors import InputError

RATE = 16000


def ogg(subtype: str = "VORBIS", seed: int = 1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(seed, 8.0, RATE), RATE, format="OGG", subtype=subtype)
    return file.getvalue()


def pages(data: bytes) -> list[int]:
    return [at for at in range(len(data)) if data.startswith(b"OggS", at)]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_hole_is_told(subtype: str, tmp_path: Path) -> None:
    data = ogg(subtype)
    at, behind = pages(data)[-4:-2]
    flipped = data[: at + 500] + bytes([data[at + 500] ^ 1]) + data[at + 501 :]
    for content, problem in (
        (data[:at] + data[behind:], f"damaged: pages are missing at byte {at}"),
        (flipped, f"damaged: the page at byte {at} does not fit its checksum"),
    ):
        path = tmp_path / "clip.ogg"
        path.write_bytes(content)
        for found in (path, Encoded(content, "clip")):
            for samples in (8 * RATE, 10 * RATE):
                with pytest.raises(InputError, match=problem):
                    read_waveform(found, RATE, samples)
            with pytest.raises(InputError, match=problem):
                read_whole(found, RATE)
            assert hear(found).problem == problem


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_hole_behind_the_clip_does_not_matter(subtype: str) -> None:
    data = ogg(subtype)
    at, behind = pages(data)[-2:]
    assert behind == pages(data)[-1]
    whole = read_waveform(Encoded(data, "clip"), RATE, RATE)
    part = read_waveform(Encoded(data[:at] + data[behind:], "clip"), RATE, RATE)
    np.testing.assert_array_equal(part, whole)


def test_a_hole_before_the_clip_is_told_for_seeking_goes_wrong_behind_it() -> None:
    data = ogg()
    at, behind = pages(data)[2:4]  # the first pages of sound
    with pytest.raises(InputError, match=f"damaged: pages are missing at byte {at}"):
        read_waveform(Encoded(data[:at] + data[behind:], "clip"), RATE, RATE, 6 * RATE)


def test_whole_files_are_whole() -> None:
    data = ogg()
    for content in (data, data + ogg(seed=2), data + b"more", b""):
        assert broken_page(io.BytesIO(content), RATE) is None
    assert read_header(Encoded(data + b"more", "clip")).frames == 8 * RATE
    for path in recordings()[:20]:
        with path.open("rb") as file:
            assert broken_page(file, RATE) is None
