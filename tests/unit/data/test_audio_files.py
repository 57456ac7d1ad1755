"""Audio files that state no length, are cut off, or hold more or less than they state."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from layouts import write_hdf5
from sounds import encoded, sound

from passt_bench.data import open_dataset
from passt_bench.data.audio import read_header, read_waveform
from passt_bench.data.contents import decode_file
from passt_bench.data.hdf5 import open_hdf5
from passt_bench.data.opening import AudioFile, Encoded
from passt_bench.errors import InputError
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.spec import DataSpec

OWN = 529  # samples of a decoder's own delay, which it leaves out where it knows the length
DELAY = 576  # samples that LAME puts before the sound, where no header takes them off
BEGINNING = 2304  # samples; the first frames may build on bits in the header that is taken away
RATE = 16000
ID3, ID3V1 = b"ID3\x04\0\0\0\0\x01\x05" + bytes(128 + 5), b"TAG" + bytes(125)


def mp3(rate: int, seconds: float = 2.0, mode: str = "VARIABLE", channels: int = 1) -> bytes:
    """Nearly silent in its first third: at a variable bit rate the first frames are small."""
    wave, file = sound(1, seconds, rate, channels), io.BytesIO()
    wave[: len(wave) // 3] *= 1e-4
    soundfile.write(file, wave, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    return file.getvalue()


def starts(data: bytes) -> list[int]:
    """Where frames begin: what their headers share occurs nowhere else in these files."""
    return [found.start() for found in re.finditer(re.escape(data[:2]), data)]


def bare(data: bytes) -> bytes:
    """Without the frame that states how many follow."""
    return data[starts(data)[1] :]


def clip(data: bytes) -> Encoded:
    return Encoded(data, "clip")


def check(found: AudioFile, expected: np.ndarray, rate: int) -> None:
    """Every way to read it gives these samples."""
    assert read_header(found, thorough=True).samples == len(expected)
    wave = read_waveform(found, rate)
    np.testing.assert_allclose(wave[BEGINNING:], expected[BEGINNING:], atol=1e-6)
    for start in (0, len(wave) // 2 - 7, len(wave) - 500):
        part = read_waveform(found, rate, 1000, start)
        there = wave[start : start + 1000]
        np.testing.assert_allclose(part[: len(there)], there, atol=1e-6)
        assert not part[len(there) :].any()
    heard = decode_file(found)
    assert (heard.problem, heard.seconds) == ("", pytest.approx(len(expected) / rate))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_an_mp3_that_states_no_length(rate: int, mode: str, channels: int, tmp_path: Path) -> None:
    data = mp3(rate, mode=mode, channels=channels)
    counted, plain = read_waveform(clip(data), rate), bare(data)
    assert len(counted) == 2 * rate
    expected = read_waveform(clip(plain), rate)
    assert (len(expected) + OWN) % (1152 if rate >= 32000 else 576) == 0
    np.testing.assert_allclose(
        expected[BEGINNING : DELAY + 2 * rate], counted[BEGINNING - DELAY :], atol=1e-6
    )
    path = tmp_path / "clip.mp3"
    for content in (plain, ID3 + plain + ID3V1):
        path.write_bytes(content)
        check(path, expected, rate)
        check(clip(content), expected, rate)


def test_an_mp3_whose_header_states_bytes_alone_or_is_of_another_kind() -> None:
    data = mp3(44100)
    at, end = data.index(b"Xing") + 4, starts(data)[1]
    vbri = data[:4] + bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 50, len(data), 78)
    only_bytes = data[:at] + struct.pack(">II", 2, len(data)).ljust(end - at, b"\0")
    for head in (only_bytes, vbri.ljust(end, b"\0")):
        check(clip(head + bare(data)), read_waveform(clip(bare(data)), 44100), 44100)
    no_frames = clip(data[: at + 4] + bytes(4) + data[at + 8 :])
    check(no_frames, read_waveform(no_frames, 44100), 44100)
    assert read_header(no_frames).samples >= 88200


def test_a_stream_that_begins_anywhere() -> None:
    """Its first frames build on bits that are not there, and must not become noise."""
    data = mp3(44100, 4.0)
    whole = read_waveform(clip(bare(data)), 44100)
    for first in range(2, 100, 14):
        wave = read_waveform(clip(data[starts(data)[first] :]), 44100)
        left_out = (first - 1) * 1152
        assert (len(wave), np.abs(wave).max() < 1) == (len(whole) - left_out, True)
        there = slice(12 * 1152, None)  # 511 bytes at the lowest bit rate
        np.testing.assert_allclose(wave[there], whole[left_out:][there], atol=1e-5)


def test_an_mp3_with_tags_of_two_parts_or_with_a_lost_byte() -> None:
    data, at = mp3(44100), starts(mp3(44100))
    tagged = ID3 + data + b"APETAGEX" + bytes(9000) + ID3V1
    assert read_header(clip(tagged), thorough=True).samples == 88200
    joined = bare(data) + bare(data)
    check(clip(bare(data) + ID3 + bare(data)), read_waveform(clip(joined), 44100), 44100)
    with pytest.raises(InputError, match="cut off: 88200 samples expected"):
        read_waveform(clip(data[: at[40]] + b"\0" + data[at[40] + 1 :]), 44100, 100000)


@pytest.mark.parametrize("rate", [32000, 44100])
def test_ffmpeg_hears_the_same(rate: int) -> None:
    """The published clips were made by it."""
    import av

    data = mp3(rate)
    for content, delay in ((data, 0), (ID3 + bare(data) + ID3V1, OWN)):
        with av.open(io.BytesIO(content)) as container:
            parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
        expected = np.concatenate(parts, axis=1).mean(axis=0)[delay:]
        wave = read_waveform(clip(content), rate)
        assert len(wave) == len(expected)
        np.testing.assert_allclose(wave[BEGINNING:], expected[BEGINNING:], atol=1e-5)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_with_other_bytes_or_without_a_page(subtype: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, sound(1, 8.0, RATE), RATE, format="OGG", subtype=subtype)
    data = file.getvalue()
    at, behind = [page.start() for page in re.finditer(b"OggS", data)][-4:-2]
    with pytest.raises(InputError, match="cut off: 128000 samples expected"):
        read_waveform(clip(data[:at] + data[behind:]), RATE, 8 * RATE)
    for junk in (b"between", bytes(70_000)):
        for content in (data[:at] + junk + data[at:], data + junk):
            check(clip(content), read_waveform(clip(data), RATE), RATE)


@pytest.mark.parametrize("before", [b"", b"LIST\x04\0\0\0INFO"])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_is_read_to_its_end(size: int, before: bytes) -> None:
    wave = sound(2, 0.5, 8000)
    plain = encoded(wave, 8000, "wav")
    head = plain[:36] + before + plain[36:40] + struct.pack("<I", size)
    check(clip(head + plain[44:]), read_waveform(clip(plain), 8000), 8000)
    for silent in (bytes(8000), b"\0\0\1\0" * 2000, b"abcd" * 2000):
        assert read_header(clip(head + silent)).samples == len(wave)


def test_all_frames_of_an_mp3_are_heard_wherever_the_first_begins() -> None:
    """Six seconds loud and six soft, at a variable rate, behind a tag."""
    wave, file = sound(3, 12.0, 44100), io.BytesIO()
    wave[6 * 44100 :] *= 1e-4
    soundfile.write(file, wave, 44100, format="MP3", bitrate_mode="VARIABLE")
    plain = bare(file.getvalue())
    for content in (ID3 + plain[200:], (ID3 + plain)[200:]):
        header = read_header(clip(content), thorough=True)
        assert 12.0 <= header.samples / 44100 < 12.1
        assert len(read_waveform(clip(content), 44100)) == header.samples
        assert decode_file(clip(content)).problem == ""
    plain = bare(mp3(44100, mode="CONSTANT"))
    whole, noise = read_header(clip(plain)).samples, np.random.default_rng(3).bytes(70_000)
    for before in (b"", bytes(3_000), bytes(70_000), noise):  # the cut frame alone is lost
        assert read_header(clip(before + plain[200:]), thorough=True).samples == whole - 1152


def pyav(kind: str, codec: str, wave: np.ndarray, rate: int = 48000) -> Encoded:
    """A file that FFmpeg wrote; ``wave`` is (samples, 2)."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T), "fltp", "stereo")
        frame.rate = rate
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, "stereo", rate)
        for given in (*resampler.resample(frame), None):
            container.mux(stream.encode(given))
    return clip(file.getvalue())


def test_excerpts_of_an_opus_of_ffmpeg_are_those_of_the_whole() -> None:
    """FFmpeg numbers the samples of an Opus from 312 on, and libsndfile's seeks are off by that."""
    wave = sound(3, 3.0, 48000, 2)
    found = pyav("ogg", "libopus", wave)
    whole = read_waveform(found, 48000)
    check(found, whole, 48000)
    assert np.corrcoef(whole[:100000], wave.mean(axis=1)[:100000])[0, 1] > 0.99
    blocks = np.concatenate([read_waveform(found, 48000, 4000, at) for at in range(0, 96000, 4000)])
    np.testing.assert_allclose(blocks, whole[:96000], atol=1e-5)


def test_an_mp3_in_a_wav_is_whole_though_its_length_is_an_estimate() -> None:
    found = pyav("wav", "libmp3lame", sound(3, 3.0, 44100, 2), 44100)
    whole = read_waveform(found, 44100)
    assert 0 <= len(whole) - 3 * 44100 < 3 * 1152
    check(found, whole, 44100)


def test_all_frames_behind_a_long_tag_without_its_beginning_are_heard() -> None:
    """libsndfile gives up after 65,536 bytes."""
    plain = bare(mp3(44100))
    check(clip(b"a" * 70_000 + plain), read_waveform(clip(plain), 44100), 44100)


def sized(wave: np.ndarray, size: int, behind: bytes = b"") -> Encoded:
    data = encoded(wave, 16000, "wav")
    return clip(data[:40] + struct.pack("<I", size) + data[44:] + behind)


def test_a_wav_that_is_longer_than_it_states_is_named() -> None:
    wave = sound(3, 2.0, 16000)
    for read in (read_header, lambda found: read_waveform(found, 16000)):
        with pytest.raises(InputError, match=r"the header states 0\.25 s, but 1\.75 s follow it"):
            read(sized(wave, 8000))
    assert "1.75 s follow it" in decode_file(sized(wave, 8000)).problem
    with pytest.raises(InputError, match=r"states 0\.09 s, but 0\.09 s follow it"):
        read_header(sized(wave[:2880], 2880))
    late = np.zeros(16000 * 35, np.float32)
    late[-1000:] = 0.5
    with pytest.raises(InputError, match=r"states 0\.25 s, but 34\.75 s follow it"):
        read_header(sized(late, 8000))
    chunk = b"LIST\xc8\0\0\0INFO" + b"x" * 196
    for behind in (chunk, bytes(9000), b"tail", ID3V1, b"APETAGEX" + bytes(900), ID3):
        assert read_header(sized(wave, 64000, behind)).samples == 32000
        assert read_header(sized(wave[:-1], 63998, behind)).samples == 31999
    bytewise = encoded(wave[:999], 16000, "wav", "PCM_U8")[
        : 44 + 999
    ]  # without the byte of padding
    assert read_header(clip(bytewise + chunk)).samples == 999


@pytest.mark.parametrize("kind", ["AIFF", "AU", "CAF", "RIFX"])
def test_other_files_with_sound_behind_their_end_are_named(kind: str) -> None:
    file, wave = io.BytesIO(), sound(3, 2.0, 16000)
    options = {"format": "WAV", "endian": "BIG"} if kind == "RIFX" else {"format": kind}
    soundfile.write(file, wave, 16000, subtype="PCM_16", **options)
    data = file.getvalue()
    assert read_header(clip(data)).samples == read_header(clip(data + b"tail")).samples == 32000
    with pytest.raises(InputError, match=r"2\.00 s, but 1\.99 s follow it"):
        read_header(clip(data + data[-63700:]))


def of_kind(kind: str, size: tuple[str, int, int] | None = None) -> bytes:
    """Two seconds of 16 kHz; ``size`` is the form, the place and the value of a size in it."""
    file = io.BytesIO()
    soundfile.write(file, sound(3, 2.0, 16000), 16000, format=kind, subtype="PCM_16")
    data = bytearray(file.getvalue())
    if size is not None:
        struct.pack_into(size[0], data, size[1] % len(data), size[2])
    return bytes(data)


SIZES = {"RF64": ("<q", 28), "W64": ("<q", 96), "CAF": (">q", 4084), "AU": (">I", 8)}


@pytest.mark.parametrize("kind", SIZES)
def test_rare_formats_with_sound_behind_their_end_are_named(kind: str) -> None:
    short, none, cut = (of_kind(kind, (*SIZES[kind], size)) for size in (8004, 0, 65048))
    assert read_header(clip(none)).samples == 32000
    with pytest.raises(InputError, match="cut off: 650.. bytes expected, 6[34]... found"):
        read_header(clip(cut))
    with pytest.raises(InputError, match=r"states 0\.25 s, but 1\.75 s follow it"):
        read_header(clip(short))


def test_a_cut_caf_is_named() -> None:
    with pytest.raises(InputError, match="cut off: 64004 bytes expected, 55004 found"):
        read_header(clip(of_kind("CAF")[:-9000]))


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0x7FFFFFFF - 36, 0xFFFFFFFF - 36, 0x7FFFF000])
def test_a_size_that_cannot_be_true_is_not_believed(size: int) -> None:
    wave = sound(3, 0.5, 16000)
    check(sized(wave, size), read_waveform(sized(wave, 16000), 16000), 16000)


def test_a_wav_whose_size_wrapped_at_4_gib_is_named(tmp_path: Path) -> None:
    path, data = tmp_path / "long.wav", encoded(sound(3, 0.5, 16000), 16000, "wav")
    with path.open("wb") as file:  # sparse
        file.write(data + data[44:])
        file.truncate(2**32 + len(data))
    with pytest.raises(InputError, match="follow it"):
        read_header(path)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("AU", "G721_32")],
)
def test_files_in_which_soundfile_cannot_seek_are_whole(kind: str, subtype: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, sound(3, 2.0, 8000), 8000, format=kind, subtype=subtype)
    check(clip(file.getvalue()), read_waveform(clip(file.getvalue()), 8000), 8000)


def test_a_flac_behind_a_tag_and_an_ogg_before_zeros_are_whole() -> None:
    wave = sound(3, 2.0, 16000)
    named = ID3[:-4] + b"fLaC"
    for kind, before, behind in (
        ("flac", ID3, b""),
        ("flac", named, b""),
        ("ogg", b"", bytes(70_000)),
    ):
        data = encoded(wave, 16000, kind)
        check(clip(before + data + behind), read_waveform(clip(data), 16000), 16000)


@pytest.mark.parametrize(("kind", "codec"), [("ipod", "aac"), ("webm", "libopus"), ("adts", "aac")])
def test_what_soundfile_does_not_know_is_read_by_pyav(kind: str, codec: str) -> None:
    found = pyav(kind, codec, sound(3, 2.0, 48000, 2))
    whole = read_waveform(found, 48000)
    assert abs(len(whole) - 96000) < 2400
    check(found, whole, 48000)
    assert np.corrcoef(whole[9000:90000], read_waveform(found, 48000, 81000, 9000))[0, 1] > 0.999
    if kind != "adts":  # which does not state its length
        with pytest.raises(InputError, match="not readable|cut off: 2.01 s expected"):
            read_waveform(clip(found.data[: len(found.data) // 2]), 48000)


def test_sound_behind_the_stated_end_of_a_flac_and_a_second_chunk_of_sound_are_named() -> None:
    data = bytearray(encoded(sound(2, 2.0, 8000), 8000, "flac"))
    for stated in (1, 8000, 15_999):
        data[22:26] = stated.to_bytes(4)
        with pytest.raises(InputError, match=f"states {stated} samples, but more follow"):
            read_header(clip(ID3 + bytes(data)), thorough=True)
        assert "but more follow" in decode_file(clip(bytes(data))).problem
    wav = encoded(sound(2, 2.0, 8000), 8000, "wav")
    with pytest.raises(InputError, match=r"several chunks of sound \('data'\)"):
        read_header(clip(wav + wav[36:]), thorough=True)


def test_a_stream_whose_rate_changes_is_named() -> None:
    first, second = (pyav("adts", "aac", sound(3, 1.0, rate, 2), rate) for rate in (48000, 32000))
    assert decode_file(first).problem == ""
    assert "rate or number of channels" in decode_file(clip(first.data + second.data)).problem


def test_a_sample_beyond_all_measure_is_named(tmp_path: Path) -> None:
    wave = sound(3, 0.5, 16000)
    wave[100] = 1e29
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"a sample of 1e\+29"):
        read_waveform(tmp_path / "a.wav", 16000)
    assert "1e+29" in decode_file(tmp_path / "a.wav").problem


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_file_that_states_far_too_much_costs_no_memory(kind: str, tmp_path: Path) -> None:
    data, path = encoded(sound(2, 2.0, 8000), 8000, kind), tmp_path / "clip"
    many = {
        "wav": data[:40] + b"\xf0\xff\xff\x7e" + data[44:],
        "flac": data[:21] + b"\x0f" + b"\xff" * 4 + data[26:],
    }
    path.write_bytes(many[kind])
    tracemalloc.start()
    try:
        for read in (lambda: read_waveform(path, 8000, 16000), lambda: read_waveform(path, 16000)):
            with pytest.raises(InputError) as error:
                read()
            assert error.value.source == path and error.value.remedy
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_every_form_of_a_data_set_hears_all(tmp_path: Path) -> None:
    data, rate, root = bare(mp3(32000, 3.0)), 32000, tmp_path / "own"
    expected = read_waveform(clip(data), rate)
    root.mkdir()
    (root / "manifest.csv").write_text("path,labels,split\na.mp3,a,train\nb.mp3,b,test\n")
    for name in "ab":
        (root / f"{name}.mp3").write_bytes(data)
    spec = DataSpec(name="manifest", seconds=2.5)
    folder = open_dataset(spec, rate, root)
    write_hdf5(tmp_path / "a.hdf", ["a.mp3"], [data], np.array([[128]], np.uint8))
    hdf5 = open_hdf5(
        spec, rate, name="manifest", files={"test": (tmp_path / "a.hdf",)}, classes=("a", "b")
    )
    prepare_data(Preparation("manifest", root, rate, workers=1))
    prepared = open_dataset(spec, rate, root / f"prepared-{rate}")
    for found, step in ((folder, 1e-6), (hdf5, 1e-6), (prepared, 1 / 32768)):
        assert found.length(0) == len(expected) > 3 * rate
        np.testing.assert_allclose(found.whole(0), expected, atol=step)
        there = expected[2 * rate :]
        wave = found.excerpt(0, 2 * rate)
        np.testing.assert_allclose(wave[: len(there)], there, atol=step)
        assert not wave[len(there) :].any()
