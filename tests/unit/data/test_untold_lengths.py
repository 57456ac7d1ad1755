"""MP3 files that do not tell how long they are: heard to their end in every form of a data set."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from layouts import write_hdf5
from sounds import sound

from passt_bench.data import open_dataset
from passt_bench.data.audio import AudioFile, Encoded, read_header, read_waveform, read_whole
from passt_bench.data.contents import decode_file
from passt_bench.data.hdf5 import open_hdf5
from passt_bench.data.mp3_frames import frame_length
from passt_bench.errors import InputError
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.spec import DataSpec

Cli = Callable[..., tuple[int, str]]
OWN = 529  # samples of a decoder's own delay, which it leaves out where it knows the length
DELAY = 576  # samples that LAME puts before the sound, where no header takes them off
BEGINNING = 2304  # samples; the first frames may build on bits in the header that is taken away
ID3 = b"ID3\x04\0\0\0\0\x01\x05" + bytes(128 + 5)
ID3V1 = b"TAG" + bytes(125)


def swelling(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Nearly silent in its first third: at a variable bit rate the first frames are small."""
    wave = sound(1, seconds, rate, channels)
    wave[: len(wave) // 3] *= 1e-4
    return wave


def mp3(wave: np.ndarray, rate: int, mode: str = "VARIABLE") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    return file.getvalue()


def starts(data: bytes) -> list[int]:
    found, at = [], 0
    while (length := frame_length(data[at : at + 4])) is not None:
        found.append(at)
        at += length
    return found


def bare(data: bytes) -> bytes:
    """Without the frame that tells how much there is."""
    return data[starts(data)[1] :]


def check(found: AudioFile, expected: np.ndarray, rate: int) -> None:
    """Every way to read it gives these samples."""
    assert read_header(found, to_end=True).samples == len(expected)
    wave = read_whole(found, rate)
    np.testing.assert_allclose(wave[BEGINNING:], expected[BEGINNING:], atol=1e-6)
    for start in (0, len(wave) // 2 - 7, len(wave) - 500):
        part = read_waveform(found, rate, 1000, start)
        there = wave[start : start + 1000]
        np.testing.assert_allclose(part[: len(there)], there, atol=1e-6)
        assert not part[len(there) :].any()
    heard = decode_file(found)
    assert heard.problem == ""
    assert heard.seconds == pytest.approx(len(expected) / rate)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [8000, 22050, 32000, 44100])
def test_an_mp3_that_does_not_tell_its_length(
    rate: int, mode: str, channels: int, tmp_path: Path
) -> None:
    data = mp3(swelling(2.0, rate, channels), rate, mode)
    frames, samples = len(starts(data)) - 1, 1152 if rate >= 32000 else 576
    expected = np.zeros(frames * samples - OWN, dtype=np.float32)
    with_number = read_whole(Encoded(data, "clip"), rate)
    assert len(with_number) == 2 * rate
    expected[DELAY : DELAY + 2 * rate] = with_number
    plain = bare(data)
    expected[DELAY + 2 * rate :] = read_whole(Encoded(plain, "clip"), rate)[DELAY + 2 * rate :]
    path = tmp_path / "clip.mp3"
    for content in (plain, ID3 + plain + ID3V1):
        path.write_bytes(content)
        check(path, expected, rate)
        check(Encoded(content, "clip"), expected, rate)


@pytest.mark.parametrize("rate", [22050, 44100])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_ffmpeg_hears_the_same(rate: int, mode: str) -> None:
    av = pytest.importorskip("av", reason="PyAV is missing: pip install passt-bench[av]")
    for channels in (1, 2):
        data = mp3(swelling(2.0, rate, channels), rate, mode)
        for content in (data, bare(data), ID3 + bare(data) + ID3V1):
            with av.open(io.BytesIO(content)) as container:
                parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
            expected = np.concatenate(parts, axis=1).mean(axis=0)
            wave = read_whole(Encoded(content, "clip"), rate)
            expected = expected[0 if content is data else OWN :]
            assert len(wave) == len(expected)
            np.testing.assert_allclose(wave[BEGINNING:], expected[BEGINNING:], atol=1e-5)


def untold_frames(data: bytes) -> bytes:
    return _xing(data, struct.pack(">II", 2, len(data)))


def untold_bytes(data: bytes) -> bytes:
    return _xing(data, struct.pack(">II", 1, len(starts(data)) - 1))


def untold_both(data: bytes) -> bytes:
    return _xing(data, bytes(4))


def fraunhofer(data: bytes) -> bytes:
    count = len(starts(data))
    told = data[:4] + bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 50, len(data), count)
    return told.ljust(starts(data)[1], b"\0") + bare(data)


def _xing(data: bytes, fields: bytes) -> bytes:
    """With other fields in the header of the first frame."""
    at, end = data.index(b"Xing") + 4, starts(data)[1]
    return data[:at] + fields.ljust(end - at, b"\0") + data[end:]


@pytest.mark.parametrize("change", [untold_frames, untold_bytes, untold_both, fraunhofer])
def test_a_header_that_tells_a_part(change: Callable[[bytes], bytes]) -> None:
    data = mp3(swelling(2.0, 44100), 44100)
    changed = change(data)
    expected = read_whole(Encoded(bare(data), "clip"), 44100)
    check(Encoded(changed, "clip"), expected, 44100)
    cut = changed[: starts(data)[-10]]
    if change is untold_bytes:
        with pytest.raises(InputError, match=r"78 frames expected, 68 found"):
            read_header(Encoded(cut, "clip"))


def test_an_mp3_with_other_bytes_between_its_frames() -> None:
    data = bare(mp3(swelling(2.0, 44100), 44100))
    joined = read_whole(Encoded(data + data, "clip"), 44100)
    for tag in (ID3, ID3V1):  # as of files that were written one behind the other
        check(Encoded(data + tag + data, "clip"), joined, 44100)
    at = starts(data)[40]
    for damaged in (
        data[:at] + b"\0" + data[at + 1 :],
        data[:at] + bytes(5000) + data[at:],
        data + mp3(swelling(1.0, 32000), 32000),
    ):
        for read in (read_header, lambda found: read_whole(found, 44100)):
            with pytest.raises(InputError, match="damaged: the frames break off at byte"):
                read(Encoded(damaged, "clip"))
        assert "damaged" in decode_file(Encoded(damaged, "clip")).problem


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_that_begins_anywhere(mode: str, channels: int) -> None:
    """Its first frames build on bits that are not there, and must not become noise."""
    data = mp3(sound(1, 4.0, 44100, channels), 44100, mode)
    whole = read_whole(Encoded(bare(data), "clip"), 44100)
    for first in range(2, 100, 7):
        wave = read_whole(Encoded(data[starts(data)[first] :], "clip"), 44100)
        left_out = (first - 1) * 1152
        assert len(wave) == len(whole) - left_out
        assert np.abs(wave).max() < 1
        there = slice(12 * 1152, None)  # 511 bytes at the lowest bit rate
        np.testing.assert_allclose(wave[there], whole[left_out:][there], atol=1e-5)


def test_recordings_behind_each_other_are_told() -> None:
    one, other = mp3(sound(1, 2.0, 44100), 44100), mp3(sound(2, 1.0, 44100), 44100)
    for data in (one + other, one + ID3 + other, one + bare(other)):
        for read in (read_header, lambda found: read_whole(found, 44100)):
            with pytest.raises(InputError, match=f"one ends at byte {len(one)}"):
                read(Encoded(data, "clip"))
    frames = len(starts(one)) + len(starts(other)) - 1
    with pytest.raises(InputError, match=rf"states 78 frames, but the file has {frames}"):
        read_header(Encoded(untold_bytes(one) + other, "clip"))
    tags = b"APETAGEX" + bytes(9000) + ID3V1
    assert read_header(Encoded(one + tags, "clip")).samples == 88200


def test_a_damaged_frame_is_told_where_a_header_promises_it() -> None:
    data = mp3(sound(1, 2.0, 44100), 44100)
    at = starts(data)[40]
    clip = Encoded(data[:at] + b"\0" + data[at + 1 :], "clip")
    with pytest.raises(InputError, match="cut off: 88200 samples expected"):
        read_waveform(clip, 44100, 100000)
    assert "cut off: 88200 samples expected" in decode_file(clip).problem


def test_every_form_of_a_data_set_hears_all(tmp_path: Path, cli: Cli) -> None:
    data, rate = bare(mp3(swelling(3.0, 32000), 32000)), 32000
    expected = read_whole(Encoded(data, "clip"), rate)
    assert len(expected) > 3 * rate
    samples = len(expected)
    root = tmp_path / "own"
    root.mkdir()
    (root / "manifest.csv").write_text(
        "path,labels,split\na.mp3,dog,train\nb.mp3,cat,train\nc.mp3,dog,test\nd.mp3,cat,test\n"
    )
    for name in "abcd":
        (root / f"{name}.mp3").write_bytes(data)
    spec = DataSpec(name="manifest", seconds=2.5)
    folder = open_dataset(spec, rate, root)
    assert folder.clip_table().seconds[0] == pytest.approx(samples / rate)  # type: ignore[union-attr]
    write_hdf5(tmp_path / "a.hdf", ["a.mp3"], [data], np.array([[128]], np.uint8))
    hdf5 = open_hdf5(
        spec, rate, name="manifest", files={"test": (tmp_path / "a.hdf",)}, classes=("cat", "dog")
    )
    prepare_data(Preparation("manifest", root, rate))
    prepared = open_dataset(spec, rate, root / f"prepared-{rate}")
    for found, step in ((folder, 1e-6), (hdf5, 1e-6), (prepared, 1 / 32768)):
        assert found.length(0) == samples
        np.testing.assert_allclose(found.whole(0), expected, atol=step)
        for start in (0, 2 * rate):
            there = expected[start : start + round(2.5 * rate)]
            wave = found.excerpt(0, start)
            np.testing.assert_allclose(wave[: len(there)], there, atol=step)
            assert not wave[len(there) :].any()
    code, said = cli("data", "check", f"manifest={root}", "--decode", "--no-duplicates")
    assert "cut off" not in said
    assert code == 1  # four times the same sound
    assert f"Lengths: {samples / rate:.2f} s (4 clips)" in said
