"""Opens audio files with soundfile, from disk or as bytes, and decodes them in blocks.

Incomplete files are refused. What soundfile cannot size (an MP3 whose first frame does not state
the number of frames, a WAV that was written into a pipe) is copied packet by packet, by PyAV, into
a file in memory that states its length; nothing is decoded for that. What soundfile does not know
(m4a, webm), or seeks wrongly in (Opus of FFmpeg), is decoded by PyAV, into memory if it is short.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import soundfile

from passt_bench.errors import InputError

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream

SUFFIXES = (  # of audio files, wherever a folder is searched for them
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".webm", ".wma"),
    *(".aiff", ".aif", ".au", ".caf", ".w64", ".rf64", ".wave", ".aifc", ".snd", ".mp4", ".mka"),
    *(".weba", ".voc", ".mpga"),
)
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # Hz
_UNKNOWN = 2**63 - 1  # samples, if a header does not state them
BLOCK = 1 << 20  # samples read at a time
_IN_MEMORY = 1 << 26  # bytes of decoded sound; more are in an unnamed temporary file
# libsndfile decodes cut files of these formats (WAV, AIFF, AU, CAF, RF64, W64) without an error,
# but its log compares the stated with the true number of bytes.
_CUT = re.compile(
    r"^ *(?:data|FORM|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
# A size at most so many bytes below 2 or 4 GiB is a placeholder of a program that wrote to a pipe.
_PLACEHOLDERS = 4096
# Mark of a file → head of its chunks, place of the first, multiple that each is padded to.
_CHUNKS = dict.fromkeys((b"RIFF", b"RF64", b"BW64"), ("<4sI", 12, 2))
_CHUNKS |= dict.fromkeys((b"RIFX", b"FORM"), (">4sI", 12, 2))
_CHUNKS |= {b"caff": (">4sq", 8, 1), b"riff": ("<4s12xq", 40, 8)}  # Sony W64's includes its head
_LOOSE = ("AU", "CAF", "RAW", "RF64", "W64")  # formats whose sizes nobody compares; RAW: FFmpeg's
# In the log if what follows the data is no chunk; 0 bytes of data in a WAV are a placeholder then.
_NO_CHUNK = re.compile("Unknown chunk marker|Chunk size|Have 0 marker|header allocation .* denied")
# The Xing or LAME header of an MP3, with the flag that the number of frames is stated, and one.
_COUNTED = re.compile(rb"(?:Xing|Info)\0\0\0[\1\3\5\7\x09\x0b\x0d\x0f](?!\0{4})")
# In libsndfile's log of an Opus in which it can seek: elsewhere it lands off by that offset.
_SEEKS = re.compile(r"Granule pos offset *: 0$", re.MULTILINE)
_TAGS, _STRAY = (b"TAG", b"ID3", b"APETAGEX"), 128  # beginnings, and bytes that may be anything
_HEAD = 4096  # bytes that are searched for it
_LAST_FRAMES = 1 << 14  # bytes; FFmpeg takes up to three frames of at most 2,881 for no frames
_MAX_MISSING, _MAX_EXTRA = 0.1, 0.5  # seconds that packets may be shorter or longer than stated
_MAX_PACKET = 2.0  # seconds of a packet
_MAX_GAP = 0.05  # seconds between packets in which nothing is missing
_FLAC_LENGTH = 18  # place of the 8 bytes that end with the 36 bits of the number of samples
# What FFmpeg decodes where soundfile cannot.
_FFMPEG = ("aac", "asf", "caf", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "ogg", "wav")
_UNSTATED = ("aac", "matroska,webm")  # of which no stream states its length


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
    several recordings in a row, and a FLAC is read behind its stated end.

    Raises:
        InputError: the file is missing, is not audio, is cut off, or has no samples; inside the
            block also if it cannot be decoded.
    """
    try:
        _check_there(sound)
        with ExitStack() as temporary, _open(sound, temporary) as file:
            for stated, found in _CUT.findall(file.extra_info):
                if int(stated) > int(found) and -int(stated) % 2**31 > _PLACEHOLDERS:
                    raise broken(sound, f"cut off: {stated} bytes expected, {found} found")
            if file.frames == 0:
                raise broken(sound, "the file holds no samples")
            if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
                problem = f"{file.samplerate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz can be read"
                raise broken(sound, problem)
            if file.frames == _UNKNOWN:
                raise broken(sound, "the header does not state the number of samples")
            if file.format in _LOOSE or _NO_CHUNK.search(file.extra_info):
                _compare_chunks(sound, file)
            if thorough and file.format in ("MP3", "OGG"):
                _compare_packets(sound, file.frames / file.samplerate)
            if thorough and file.format == "FLAC" and _goes_on(sound, file.frames):
                raise broken(sound, f"the header states {file.frames} samples, but more follow")
            yield file
    except (soundfile.LibsndfileError, OSError) as error:
        # Without the library's prefix, the path, because the reason goes into records.
        reason = error.strerror if isinstance(error, OSError) else error.error_string
        raise broken(sound, f"not readable as audio ({reason})") from None
    except MemoryError:
        raise broken(sound, "not enough memory to read it") from None
    except ImportError as error:  # PyAV is imported late; memory may be short
        raise broken(sound, f"PyAV cannot be loaded ({error})") from None


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


def _open(sound: AudioFile, temporary: ExitStack) -> soundfile.SoundFile:
    try:  # a path is read faster than a Python file
        file = soundfile.SoundFile(os.fsencode(sound) if isinstance(sound, Path) else _raw(sound))
    except soundfile.LibsndfileError:
        if (found := _decoded(sound, temporary)) is None:
            raise
        return found
    with _raw(sound) as raw:
        head = raw.read(_HEAD)
        if file.format == "FLAC" and (tag := _tag_size(head)):
            raw.seek(tag)  # behind which libsndfile does not find the end
            return soundfile.SoundFile(io.BytesIO(raw.read()))
        if file.format == "AU" and not file.frames:  # 0 and 0x7FFFFFFF are placeholders, too
            content = head[:8] + b"\xff" * 4 + head[12:] + raw.read()
            return soundfile.SoundFile(io.BytesIO(content))
    if file.subtype == "OPUS" and not _SEEKS.search(file.extra_info):
        file = _decoded(sound, temporary) or file
    if file.subtype == "MPEG_LAYER_III":  # in a WAV, the length is an estimate
        sized = file.format == "MP3" and _COUNTED.search(head) is not None
    else:
        sized = file.frames > 0 or not _NO_CHUNK.search(file.extra_info)
    if sized:
        return file
    file.close()
    return soundfile.SoundFile(
        _rewritten(sound, "mp3" if file.subtype == "MPEG_LAYER_III" else "wav")
    )


def _tag_size(head: bytes) -> int:
    """Bytes of the ID3v2 tag that a file begins with, whose size has 7 bits in each byte."""
    size = 10 + sum(each << 7 * at for at, each in enumerate(head[9:5:-1]))
    return size + (10 if head[5] & 16 else 0) if head.startswith(b"ID3") else 0


def _decoded(sound: AudioFile, temporary: ExitStack) -> soundfile.SoundFile | None:
    """The sound, decoded; None if PyAV cannot read it either."""
    import av

    # Not written by soundfile, which does not say when memory or the disk is full.
    content = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    temporary.push(content)
    shape: tuple[int, ...] = ()  # Hz and channels
    end = 0.0
    try:
        with _raw(sound) as raw, av.open(raw, "r") as container:
            name = container.format.name
            if name == "mp3":  # begun in the midst of a frame
                return soundfile.SoundFile(_rewritten(sound, "mp3"))
            if name not in _FFMPEG or not container.streams.audio:
                return None
            if name == "wav":
                _chunks(sound, raw)
                raw.seek(0)
            stream = container.streams.audio[0]
            to_float = av.AudioResampler("fltp").resample  # layout and rate stay
            for packet in container.demux():
                past = (packet.pts or 0) + (packet.duration or 0)
                end = max(end, float(past * (packet.time_base or 0)))
                found = stream.decode(packet) if packet.stream_index == stream.index else []
                for given in found:
                    for frame in [given] if given.format.name == "fltp" else to_float(given):
                        wave = frame.to_ndarray()
                        shape = shape or (frame.sample_rate, len(wave))
                        if shape != (frame.sample_rate, len(wave)):
                            raise broken(sound, "its rate or number of channels changes")
                        content.write(wave.T.tobytes())
            stated = float((stream.duration or 0) * (stream.time_base or 0))
            if name in _UNSTATED:  # that of a stream is estimated there
                stated = (container.duration or 0) / av.time_base if not stream.duration else 0.0
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        return None
    if not shape:
        return None
    heard = content.tell() / (4 * math.prod(shape))
    # The length of a whole file is that of its longest stream.
    if (max(heard, end) if name in _UNSTATED else heard) < stated - _MAX_EXTRA:
        raise broken(sound, f"cut off: {stated:.2f} s expected, {heard:.2f} s found")
    content.seek(0)
    return soundfile.SoundFile(content, "r", *shape, "FLOAT", "LITTLE", "RAW")


def _chunks(file: AudioFile, raw: BinaryIO) -> tuple[int, int, int]:
    """Bytes of sound that a file of chunks states, where they end, and where its chunks end."""
    size, sound, end, wide = raw.seek(0, os.SEEK_END), 0, 0, 0
    raw.seek(0)
    mark, at, length = struct.unpack(">4sII", raw.read(12))
    if mark == b".snd":  # the place and the size of the sound
        return length, at + length, at + length
    head, at, even = _CHUNKS.get(mark, (">4sI", size, 1))
    while at + struct.calcsize(head) <= size:
        raw.seek(at)
        name, length = struct.unpack(head, raw.read(struct.calcsize(head)))
        begin = raw.tell()
        if name == b"ds64":  # the sizes of the file and of the sound
            wide = int.from_bytes(raw.read(16)[8:], "little")
        length = wide or length if name == b"data" else length
        past = length + (at if mark == b"riff" else begin)
        if name in (b"data", b"SSND"):
            if sound > 0 and length > 0:
                raise broken(file, f"several chunks of sound ('{name.decode()}')")
            sound, end = past - begin, past
        raw.seek(min(max(past, 0), size))
        padded = past + (-past % even if raw.read(1) in (b"", b"\0") else 0)  # some leave it out
        if not at < padded < size + even or not re.fullmatch(rb"[ -~]{4}", name):
            break
        at = padded
    return sound, end, at


def _compare_chunks(sound: AudioFile, file: soundfile.SoundFile) -> None:
    """Refuses a file of chunks with less sound than it states, or with more behind its end."""
    with _raw(sound) as raw:
        stated, end, at = _chunks(sound, raw)
        size = raw.seek(0, os.SEEK_END)
        if stated > 0 and end > size and -stated % 2**31 > _PLACEHOLDERS:
            found = size - end + stated
            raise broken(sound, f"cut off: {stated} bytes expected, {found} found")
        if stated <= 0 or not 0 < end <= at <= size:
            return
        heard = file.frames / file.samplerate
        if file.format == "W64":  # which libsndfile hears to its end, chunks and all
            at, heard = end, heard * stated / (stated + size - end)
        raw.seek(at)
        seconds = (size - at) / stated * heard
        if size - at <= _STRAY or (file.format == "W64" and seconds <= _MAX_MISSING):
            return
        blocks = iter(partial(raw.read, BLOCK), b"")
        first = next(blocks)
        if not first.startswith(_TAGS) and any(b.strip(b"\0") for b in chain([first], blocks)):
            problem = f"the header states {heard:.2f} s, but {seconds:.2f} s follow it"
            raise broken(sound, problem)


def _packets(sound: AudioFile) -> Iterator[tuple[AudioStream, Packet[AudioStream]]]:
    import av  # takes 50 ms to import, and few files need it

    options = {"ignore_length": "1"}  # 0 bytes in a WAV or RF64 are a placeholder
    try:
        with _raw(sound) as raw, av.open(raw, "r", options=options) as container:
            stream = container.streams.audio[0]
            yield from ((stream, packet) for packet in container.demux(stream) if packet.size)
    except (av.FFmpegError, IndexError) as error:
        raise broken(sound, f"not readable as audio ({error})") from None


def _rewritten(sound: AudioFile, kind: str) -> io.BytesIO:
    """The same packets in a file that states its length."""
    import av

    content, copy, before = io.BytesIO(), None, b""
    with av.open(content, "w", format=kind) as container:
        for stream, packet in _packets(sound):
            if copy is None:
                data = bytes(packet)
                if kind == "mp3" and not data.startswith(b"\xff"):
                    before += data  # the rest of a tag, say; it ends in frames
                    continue
                copy = container.add_stream_from_template(stream)
                for frame in map(av.Packet, _last_frames(before, data[:2])):
                    frame.stream, frame.time_base = copy, packet.time_base
                    container.mux(frame)
                if kind == "mp3" and re.search(b"Xing|Info", bytes(packet)):
                    continue  # a header that does not state the number of frames, not sound
            packet.stream = copy
            container.mux(packet)
    content.seek(0)
    return content


def _last_frames(data: bytes, mark: bytes) -> list[bytes]:
    """The whole MP3 frames, which begin with a mark, that anything else ends in."""
    import av

    data = data[-_LAST_FRAMES:]
    for found in re.finditer(re.escape(mark), data):
        parser = av.CodecContext.create("mp3", "r")
        packets = parser.parse(data[found.start() :]) + parser.parse()
        if all(bytes(packet).startswith(mark) for packet in packets):
            return list(map(bytes, packets))
    return []


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
    remedy = "Replace the file, or leave it out."
    if isinstance(sound, Encoded):
        remedy = "Write that row of the HDF5 file again, or remove it."
    return InputError(problem, source=sound, remedy=remedy)


def _goes_on(sound: AudioFile, samples: int) -> bool:
    """Whether a FLAC has more samples than it states, behind which libsndfile reads nothing."""
    with _raw(sound) as raw:
        tag = _tag_size(raw.read(10))
        if isinstance(sound, Path) and not tag:
            content: Any = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY)
        else:
            raw.seek(tag)
            content = io.BytesIO(raw.read())
    with content:
        content.seek(_FLAC_LENGTH)
        stated = int.from_bytes(content.read(8))
        content.seek(_FLAC_LENGTH)
        content.write((stated + 1).to_bytes(8))
        content.seek(0)
        with suppress(soundfile.LibsndfileError), soundfile.SoundFile(content) as file:
            file.seek(samples)
            return len(file.read(1)) == 1
    return False
