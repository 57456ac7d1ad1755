"""Opens audio files with soundfile, from disk or as bytes, and decodes them to waveforms.

Incomplete files are refused. What soundfile cannot size (an MP3 whose first frame does not state
the number of frames, a WAV that was written into a pipe) is copied packet by packet, by PyAV, into
a file in memory that states its length; nothing is decoded for that.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from passt_bench.errors import InputError

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"),
)
RESAMPLER = "torchaudio sinc_interp_hann"
_UNKNOWN = 2**63 - 1  # samples, if a header does not state them
_BLOCK = 1 << 20  # samples read at a time
_MAX_PHASES = 4000  # of the resampler, which stores a filter per phase
_MP3_BACK = 16 * 1152  # samples; frames of an MP3 depend on earlier ones
_OGG_PAGE = 1 << 18  # samples; a page has at most 255 packets of at most 1,024
# libsndfile decodes cut files of these formats (WAV, AIFF, AU, CAF, RF64, W64) without an error,
# but its log compares the stated with the true number of bytes.
_CUT = re.compile(
    r"^ *(?:data|FORM|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
# Placeholder sizes that programs write when streaming to a pipe: common ones, SoX's, arecord's.
_PIPED = (0xFFFFFFFF, 0x7FFFF000, 0x7FFFFF00, 0x80000000)
# In the log if a WAV states 0 bytes of data, and what follows is sound instead of chunks.
_PIPED_0 = re.compile("Unknown chunk marker|Chunk size|Have 0 marker")
# The Xing or LAME header of an MP3, with the flag that the number of frames is stated.
_COUNTED = re.compile(rb"(?:Xing|Info)\0\0\0[\1\3\5\7\x09\x0b\x0d\x0f]")
_HEAD = 4096  # bytes that are searched for it
_MAX_MISSING, _MAX_EXTRA = 0.1, 0.5  # seconds that packets may be shorter or longer than stated
_MAX_PACKET = 2.0  # seconds of a packet
_MAX_GAP = 0.05  # seconds between packets in which nothing is missing


@dataclass(frozen=True)
class Encoded:
    """The bytes of an audio file that is inside another file; ``source`` is for messages."""

    data: bytes
    source: str

    def __str__(self) -> str:
        return self.source


AudioFile = Path | Encoded


@contextmanager
def opened(sound: AudioFile, thorough: bool = False) -> Iterator[soundfile.SoundFile]:
    """Opens an audio file that is as long as its header states.

    With ``thorough``, the packets of an MP3 or Ogg file are counted, which finds lost pages and
    several recordings in a row.

    Raises:
        InputError: the file is missing, is not audio, is cut off, or has no samples; inside the
            block also if it cannot be decoded.
    """
    try:
        _check_there(sound)
        with _open(sound) as file:
            for stated, found in _CUT.findall(file.extra_info):
                if int(stated) > int(found) and int(stated) not in _PIPED:
                    raise broken(sound, f"cut off: {stated} bytes expected, {found} found")
            if file.frames == 0:
                raise broken(sound, "the file holds no samples")
            if file.frames == _UNKNOWN:
                raise broken(sound, "the header does not state the number of samples")
            if thorough and file.format in ("MP3", "OGG"):
                _compare_packets(sound, file.frames / file.samplerate)
            yield file
    except (soundfile.LibsndfileError, OSError) as error:
        # Without the library's prefix, the path, because the reason goes into records.
        reason = error.strerror if isinstance(error, OSError) else error.error_string
        raise broken(sound, f"not readable as audio ({reason})") from None


def _check_there(sound: AudioFile) -> None:
    if isinstance(sound, Path):
        if sound.is_dir():
            raise broken(sound, "a folder, not a file")
        if not sound.exists():
            raise broken(sound, "no such file")
    if (sound.stat().st_size if isinstance(sound, Path) else len(sound.data)) == 0:
        raise broken(sound, "empty, 0 bytes")


def _raw(sound: AudioFile) -> BinaryIO:
    return sound.open("rb") if isinstance(sound, Path) else io.BytesIO(sound.data)


def _open(sound: AudioFile) -> soundfile.SoundFile:
    # A path is read faster than a Python file.
    file = soundfile.SoundFile(sound if isinstance(sound, Path) else io.BytesIO(sound.data))
    sized = file.frames > 0 or not _PIPED_0.search(file.extra_info)
    if file.format == "MP3":
        with _raw(sound) as raw:
            sized = _COUNTED.search(raw.read(_HEAD)) is not None
    if sized:
        return file
    file.close()
    return soundfile.SoundFile(_rewritten(sound, "mp3" if file.format == "MP3" else "wav"))


def _packets(sound: AudioFile) -> Iterator[tuple[AudioStream, Packet[AudioStream]]]:
    import av  # takes 50 ms to import, and few files need it

    try:
        with _raw(sound) as raw, av.open(raw, "r") as container:
            stream = container.streams.audio[0]
            yield from ((stream, packet) for packet in container.demux(stream) if packet.size)
    except (av.FFmpegError, IndexError) as error:
        raise broken(sound, f"not readable as audio ({error})") from None


def _rewritten(sound: AudioFile, kind: str) -> io.BytesIO:
    """The same packets in a file that states its length."""
    import av

    content, copy = io.BytesIO(), None
    with av.open(content, "w", format=kind) as container:
        for stream, packet in _packets(sound):
            if copy is None:
                copy = container.add_stream_from_template(stream)
                if kind == "mp3" and re.search(b"Xing|Info", bytes(packet)):
                    continue  # a header that does not state the number of frames, not sound
            packet.stream = copy
            container.mux(packet)
    content.seek(0)
    return content


def _compare_packets(sound: AudioFile, stated: float) -> None:
    """Refuses a file whose packets are shorter or longer than the seconds that it states."""
    found = end = 0.0
    try:
        for _, packet in _packets(sound):
            begin = end if packet.pts is None else float(packet.pts * packet.time_base)
            length = float((packet.duration or 0) * packet.time_base)
            if length > _MAX_PACKET:  # FFmpeg's length of a last packet can overflow
                continue
            # Vorbis has gaps of milliseconds between long and short packets.
            found += length + (begin - end if 0 < begin - end < _MAX_GAP else 0)
            end = begin + length
    except InputError:
        return  # soundfile may read what PyAV does not
    if found < stated - _MAX_MISSING:
        raise broken(sound, f"cut off or damaged: {stated:.2f} s expected, {found:.2f} s found")
    if found > stated + _MAX_EXTRA:
        raise broken(
            sound,
            f"the header states {stated:.2f} s, but the file has {found:.2f} s: perhaps several "
            "recordings in a row",
        )


def broken(sound: AudioFile, problem: str) -> InputError:
    """The error that names a file, its problem and the remedy."""
    remedy = "Replace the file, or remove it together with its metadata row."
    if isinstance(sound, Encoded):
        remedy = "Write that row of the HDF5 file again, or remove it."
    return InputError(problem, source=sound, remedy=remedy)


@dataclass(frozen=True)
class Header:
    """Rate in Hz, channels, and samples per channel of an audio file."""

    rate: int
    channels: int
    samples: int = 0


def read_header(sound: AudioFile, thorough: bool = False) -> Header:
    """Rate, channels and length of a complete audio file.

    With ``thorough``, packets are counted and the last sample is decoded, too.

    Raises:
        InputError: the file is missing, is not audio, is cut off, or has no samples.
    """
    with opened(sound, thorough) as file:
        header = Header(int(file.samplerate), int(file.channels), int(file.frames))
        if thorough and not _has_last(file):
            raise broken(sound, f"cut off: {header.samples} samples expected, the last is missing")
        return header


def _has_last(file: soundfile.SoundFile) -> bool:
    try:
        file.seek(file.frames - 1)
        return len(file.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def length_at(header: Header, sampling_rate: int) -> int:
    """Samples of a whole clip after resampling."""
    return math.ceil(header.samples * ratio_of(header.rate, sampling_rate))


def ratio_of(rate: int, sampling_rate: int) -> Fraction:
    """The resampling ratio from ``rate``, in whole numbers small enough for the resampler.

    The filters for 11,127 and 32,000 Hz, which have no common divisor, would take 6 GiB. There the
    nearest ratio of smaller numbers is used: it is off by less than 1 in 4000, four thousandths
    of a semitone.
    """
    exact = Fraction(sampling_rate, rate)
    if max(exact.numerator, exact.denominator) <= _MAX_PHASES:
        return exact
    return exact.limit_denominator(_MAX_PHASES // max(Fraction(1), exact))


def read_whole(sound: AudioFile, sampling_rate: int) -> np.ndarray:
    """Mono float32 samples at the given rate, all of them.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, or holds NaN.
    """
    return _read_mono(sound, sampling_rate, None)


def read_waveform(
    sound: AudioFile,
    sampling_rate: int,
    samples: int,
    start: int = 0,
    part: tuple[float, float | None] = (0.0, None),
) -> np.ndarray:
    """Mono float32 samples at the given rate, cut or zero-padded at the end to a length.

    Only the part of the file that the result needs is read.

    The clip is a ``part`` of the file, from begin to end in seconds (None is the file's end), of
    which ``start`` samples at ``sampling_rate`` are skipped.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, holds NaN, or ends before the
            clip begins.
    """
    wave = _read_mono(sound, sampling_rate, samples, start, part)
    fitted = np.zeros(samples, dtype=np.float32)
    fitted[: len(wave)] = wave[:samples]
    return fitted


def _read_mono(
    sound: AudioFile,
    sampling_rate: int,
    samples: int | None,
    start: int = 0,
    part: tuple[float, float | None] = (0.0, None),
) -> np.ndarray:
    """At least ``samples`` from ``start`` on, or all for None."""
    with opened(sound, thorough=samples is None) as file:
        rate, total = int(file.samplerate), int(file.frames)
        # Reading begins where input and output samples align, and before the first sample that the
        # resampler needs: the start of reading does not change the result.
        ratio = ratio_of(rate, sampling_rate)
        step, spacing = ratio.denominator, ratio.numerator
        back = 0 if rate == sampling_rate else -(-rate // (10 * step))
        skipped = max(0, start // spacing - back)
        begin = round(part[0] * rate)
        if begin and begin >= total:
            raise broken(sound, f"the clip starts at {part[0]:g} s, after the end of the file")
        first = begin + skipped * step
        end = total if part[1] is None else min(total, round(part[1] * rate))
        if samples is not None:
            wanted = math.ceil((start - skipped * spacing + samples) / ratio)
            if rate != sampling_rate:
                wanted += rate  # a second more than the resampler looks ahead
            end = min(end, first + wanted)
        audio = _read(file, sound, first, max(first, end))
    wave: np.ndarray = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)
    if not np.isfinite(wave).all():
        raise broken(sound, "the file holds NaN or infinity")
    if rate != sampling_rate and len(wave):
        import torch  # takes seconds to import, and only clips of another rate need it

        from passt_bench.torchaudio_guard import resample

        wave = resample(torch.from_numpy(wave), step, spacing).numpy()
    return wave[start - skipped * spacing :]


def _read(file: soundfile.SoundFile, sound: AudioFile, first: int, end: int) -> np.ndarray:
    """Samples (n, channels) from ``first`` to ``end``; in blocks, since a header may state TBs."""
    blocks = [np.zeros((0, file.channels), dtype=np.float32), *blocks_of(file, first, end - first)]
    audio = np.concatenate(blocks) if len(blocks) != 2 else blocks[1]
    if len(audio) < end - first:
        read = first + len(audio)
        raise broken(sound, f"cut off: {file.frames} samples expected, {read} found")
    return audio


def blocks_of(
    file: soundfile.SoundFile, first: int, count: int, size: int = _BLOCK
) -> Iterator[np.ndarray]:
    """Samples (n, channels) float32 of an open file from ``first`` on, in blocks of ``size``.

    Fewer than ``count`` if the file ends before. soundfile seeks after each read, and after a seek
    in an MP3 up to five frames are wrong in a third of all positions (libsndfile 1.2.2). So reading
    a block of an MP3 starts earlier, and what comes before the block is dropped. A seek into the
    last page of an Ogg file lands at the wrong sample; so its end is read from before that page.
    """
    lead = _MP3_BACK if file.format == "MP3" else 0
    last = max(0, file.frames - _OGG_PAGE) if file.format == "OGG" else file.frames
    place, end = first, first + count
    while place < end:
        back = max(min(place, lead), place - last)
        if (place == first and place) or back:
            file.seek(place - back)
        wanted = back + min(end - place, size)
        read = file.read(wanted, dtype="float32", always_2d=True)
        if len(read) > back:
            yield read[back:]
        if len(read) < wanted:  # soundfile would continue after the gap
            return
        place += len(read) - back
