"""Files from a pipe, whose writer did not know how long they would become."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from sounds import encoded, sound

from passt_bench.data.audio import Encoded, read_header, read_waveform, read_whole
from passt_bench.data.contents import decode_file
from passt_bench.errors import InputError


def wav(data_size: int, riff_size: int, before: bytes = b"") -> tuple[bytes, np.ndarray]:
    wave = sound(2, 0.5, 8000)
    content = encoded(wave, 8000, "wav")
    sizes = [struct.pack("<I", size) for size in (riff_size, data_size)]
    head = content[:4] + sizes[0] + content[8:36] + before
    return head + content[36:40] + sizes[1] + content[44:], wave


@pytest.mark.parametrize("before", [b"", b"LIST\x04\0\0\0INFO"])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFF00, 0x80000000])
def test_a_wav_from_a_pipe_goes_on_to_its_end(
    size: int, riff: int, before: bytes, tmp_path: Path
) -> None:
    content, wave = wav(size, riff, before)
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    for found in (path, Encoded(content, "clip")):
        assert read_header(found, to_end=True).samples == len(wave)
        np.testing.assert_allclose(read_whole(found, 8000), wave, atol=1e-4)
        np.testing.assert_allclose(read_waveform(found, 8000, 9, 1234), wave[1234:1243], atol=1e-4)
        assert decode_file(found).seconds == pytest.approx(0.5)
    silent = content[:-8000] + bytes(8000)  # looks like no chunk
    assert read_header(Encoded(silent, "clip")).samples == len(wave)
    with pytest.raises(InputError, match="the file holds no samples"):
        read_header(Encoded(content[: -2 * len(wave)], "clip"))


@pytest.mark.parametrize("size", [0xFFFFFFF0, 0xFFFFFFFE, 0x7FFFF010, 0x7FFFFFFF, 0x80000002])
def test_a_wav_that_promises_gigabytes_is_cut_off(size: int) -> None:
    content, wave = wav(size, 36)
    there = 2 * len(wave)
    with pytest.raises(InputError, match=f"{size} bytes expected, {there} found"):
        read_header(Encoded(content, "clip"))


def test_an_empty_wav_with_a_chunk_behind_is_empty() -> None:
    content, _ = wav(0, 36)
    for chunk in (b"", b"LIST\x04\0\0\0INFO", b"LIST\x03\0\0\0abc\0id3 \0\0\0\0"):
        with pytest.raises(InputError, match="the file holds no samples"):
            read_header(Encoded(content[:44] + chunk, "clip"))


def test_a_flac_that_does_not_tell_its_length_is_named() -> None:
    content = bytearray(encoded(sound(3, 0.5, 8000), 8000, "flac"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    for read in (read_header, lambda found: read_waveform(found, 8000, 100)):
        with pytest.raises(InputError, match="does not state the number of samples"):
            read(Encoded(bytes(content), "clip"))
    assert "does not state the number" in decode_file(Encoded(bytes(content), "clip")).problem
