"""Holes in Ogg files, over which the decoder jumps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import recordings, sound

from passt_bench.data.audio import Encoded, read_header, read_waveform, read_whole
from passt_bench.data.contents import decode_file
from passt_bench.data.headers import broken_page, look_at
from passt_bench.errors import InputError

RATE = 16000


def ogg(subtype: str = "VORBIS", seed: int = 1, seconds: float = 8.0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(seed, seconds, RATE), RATE, format="OGG", subtype=subtype)
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
            assert decode_file(found).problem == problem


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_hole_is_told_where_the_mark_of_a_page_is_gone(subtype: str) -> None:
    data = ogg(subtype)
    found = pages(data)
    at, behind = found[len(found) // 2 : len(found) // 2 + 2]
    for content in (
        data[: at + 1] + b"f" + data[at + 2 :],
        data[:at] + bytes(behind - at) + data[behind:],
    ):
        for begin, samples in ((0, 7), (3, 4), (6, 1)):
            with pytest.raises(InputError, match=f"pages are missing at byte {behind}"):
                read_waveform(Encoded(content, "clip"), RATE, samples * RATE, begin * RATE)
        assert decode_file(Encoded(content, "clip")).problem
    last = data[: found[-1]] + b"o" + data[found[-1] + 1 :]
    with pytest.raises(InputError, match="cut off: the last page of the stream is missing"):
        read_header(Encoded(last, "clip"))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("junk", [b"Ogg", b"between", bytes((1 << 16) - 25), bytes(200_000)])
def test_what_stands_between_whole_pages_is_passed_over(subtype: str, junk: bytes) -> None:
    data = ogg(subtype)
    at = pages(data)[-3]
    content = data[:at] + junk + data[at:]
    whole = read_whole(Encoded(data, "clip"), RATE)
    np.testing.assert_array_equal(read_whole(Encoded(content, "clip"), RATE), whole)
    part = read_waveform(Encoded(content, "clip"), RATE, RATE, 6 * RATE)
    np.testing.assert_array_equal(part, whole[6 * RATE : 7 * RATE])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_recordings_one_behind_the_other_are_refused(subtype: str) -> None:
    first, second = ogg(subtype), ogg(subtype, 2, 5.0)
    for read in (read_header, lambda found: read_waveform(found, RATE, RATE)):
        with pytest.raises(InputError, match="several recordings in a row"):
            read(Encoded(first + second, "clip"))
    for twice in (first + second, first + first):  # of the same serial number
        assert (broken_page(io.BytesIO(twice), RATE) or "").startswith("several recordings")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_streams_side_by_side_are_whole(subtype: str) -> None:
    one, other = ogg(subtype), ogg(subtype, 2)
    ((a, b), (c, d)) = (pages(data)[1::][:1] + pages(data)[-1:] for data in (one, other))
    mixed = one[:a] + other[:c] + one[a:b] + other[c:d] + one[b:] + other[d:]
    assert broken_page(io.BytesIO(mixed), RATE) is None
    assert look_at(mixed).problem is None


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
    for content in (data, data + b"more", data + bytes(100_000) + b"Ogg", data + b"OggS", b""):
        assert broken_page(io.BytesIO(content), RATE) is None
    assert read_header(Encoded(data + b"more", "clip")).samples == 8 * RATE
    for path in recordings()[:20]:
        with path.open("rb") as file:
            assert broken_page(file, RATE) is None
