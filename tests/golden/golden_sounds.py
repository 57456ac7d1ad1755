"""What the suite says of odd audio files: rate, channels and length, or what is wrong.

Words are not frozen: a problem is told by its kind (`KINDS`) and the numbers in it. Most files are
made here byte by byte. Those of libsndfile's encoders may have other bytes with its next version:
of them no numbers in problems are kept, and of lossy ones no samples, and the length to a tenth of
a second.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import known_weights
import numpy as np
import soundfile

from passt_bench.data.audio import read_header, read_waveform
from passt_bench.data.contents import decode_file
from passt_bench.data.opening import Encoded
from passt_bench.data.scan import scan_files
from passt_bench.errors import InputError

RATE, N, SIZE = 8000, 2000, 4000  # Hz, samples, bytes of them
LOSSY = ("Ogg", "Opus", "MP3")
SEEKING = {"FLAC with a flipped bit"}  # see `verdict`
SEEKING |= {"Ogg cut by a byte", "Opus cut by a byte"}
ENCODED = (*LOSSY, "FLAC", "AIFF", "AU", "CAF", "RF64", "RIFX", "W64")
KINDS = {
    "missing": r"^no such file",
    "folder": r"^a folder",
    "irregular": r"^not a regular file",
    "system": r"^cannot be read",
    "empty": r"^empty",
    "no samples": r"holds no samples",
    "untold": r"does not state the number",
    "cut": r"^cut off",
    "more": r"^the header states",
    "unreadable": r"^not readable as audio",
    "not finite": r"NaN or infinity",
    "rate": r"Hz can be read$",
}
KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
ID3, ID3V1 = b"ID3\x04\0\0\0\0\x01\x05" + bytes(133), b"TAG" + bytes(125)


def pcm(bits: int = 16, channels: int = 1, n: int = N) -> bytes:
    wide = np.floor(known_weights.numbers("sound", (n * channels,)) * 2.0**30).astype("<i4")
    if bits == 8:
        return ((wide >> 24) + 128).astype(np.uint8).tobytes()
    return wide.view(np.uint8).reshape(-1, 4)[:, 4 - bits // 8 :].tobytes()


def floats(kind: str = "<f4", value: float | None = None) -> bytes:
    """Known samples as floating-point numbers, the last of them replaced by a value."""
    wave = (known_weights.numbers("sound", (N,)) / 2).astype(kind)
    wave[-1] = wave[-1] if value is None else value
    return wave.tobytes()


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data


def fmt(
    tag: int = 1, bits: int = 16, channels: int = 1, rate: int = RATE, more: bytes = b""
) -> bytes:
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    return chunk(b"fmt ", head + more)


def wav(*parts: bytes, size: int | None = None) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(parts), size)


def extensible(kind: int, bits: int, valid: int, data: bytes) -> bytes:
    guid = struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
    more = struct.pack("<HHI", 22, valid, 4) + guid
    return wav(fmt(0xFFFE, bits, more=more), chunk(b"data", data))


def encoded(kind: str, subtype: str, seconds: float, rate: int = RATE, **more: Any) -> bytes:
    """A file of libsndfile's encoder; its first third is nearly silent, and takes few bytes."""
    file, wave = io.BytesIO(), known_weights.numbers("encoded", (round(seconds * rate),)) / 4
    wave[: len(wave) // 3] *= 1e-4
    soundfile.write(file, wave, rate, format=kind, subtype=subtype, **more)
    return file.getvalue()


def mp3(seconds: float = 1.96, mode: str = "CONSTANT") -> bytes:
    """An MP3 file at 32 kHz, whose first frame says how much there is."""
    more: dict[str, Any] = {"bitrate_mode": mode, "compression_level": 0.5}
    return encoded("MP3", "MPEG_LAYER_III", seconds, 32000, **more)


def frames(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        found.append(at)
        at += 144 * KBITS[data[at + 2] >> 4] // 32 + (data[at + 2] >> 1 & 1)
    return found


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def by_hand() -> dict[str, bytes]:
    data, info, form = chunk(b"data", pcm()), b"LIST\x04\0\0\0INFO", fmt()
    plain = wav(form, data)
    two, odd = chunk(b"data", pcm(channels=2)[:-2]), b"note\x03\0\0\0abc"
    sizes = (0, 2**31, 2**32 - 1, 2**32 - 16, 2**31 - 1, 0x7FFFF000, 0x7FFFFF00, SIZE + 1, N)
    files = {
        "WAV float": wav(fmt(3, 32), chunk(b"data", floats())),
        "WAV double": wav(fmt(3, 64), chunk(b"data", floats("<f8"))),
        "WAV mu-law": wav(fmt(7, 8), chunk(b"data", pcm(8))),
        "WAV A-law": wav(fmt(6, 8), chunk(b"data", pcm(8))),
        "WAV of an unknown kind": wav(fmt(0x1234), data),
        "WAV extensible, 16 bits": extensible(1, 16, 16, pcm()),
        "WAV extensible, 20 of 24 bits": extensible(1, 24, 20, pcm(24)),
        "WAV extensible, float": extensible(3, 32, 32, floats()),
        "WAV of no channel": wav(fmt(channels=0), data),
        "WAV of 2 channels, half a frame less": wav(fmt(channels=2), two),
        "WAV of one sample": wav(form, chunk(b"data", pcm(n=1))),
        "WAV of no sample": wav(form, chunk(b"data", b"")),
        "WAV of no sample, a part behind": wav(form, chunk(b"data", b""), info),
        "WAV of silence": wav(form, chunk(b"data", bytes(SIZE))),
        "WAV with NaN": wav(fmt(3, 32), chunk(b"data", floats(value=np.nan))),
        "WAV with infinity": wav(fmt(3, 32), chunk(b"data", floats(value=np.inf))),
        "WAV beyond 1": wav(fmt(3, 32), chunk(b"data", floats(value=3.0))),
        "WAV with an odd part before": wav(form, odd + b"\0", data),
        "WAV with an odd part, not padded": wav(form, odd, data),
        "WAV with a part behind": wav(form, data, info),
        "WAV with other bytes behind": plain + b"junk" * 9,
        "WAV with other bytes before": b"junk" + plain,
        "WAV with ID3 before": ID3 + plain,
        "WAV without data": wav(form),
        "WAV without format": wav(data),
        "WAV with the format behind": wav(data, form),
        "WAV cut to half": plain[: -SIZE // 2],
        "WAV cut by a byte": plain[:-1],
        "WAV of a header": plain[:-SIZE],
        "WAV of half a header": plain[:30],
        "WAV of odd data": wav(form, chunk(b"data", pcm() + b"x")),
        "WAV of size 0, a part behind": wav(form, chunk(b"data", pcm() + info, 0)),
        "WAV of size 0, twice": wav(form, chunk(b"data", pcm(), 0), size=0),
        "WAV, whole of size 0": wav(form, data, size=0),
        "WAV, whole of 4 GB": wav(form, data, size=2**32 - 1),
        "empty": b"",
        "one byte": b"\xff",
        "text": b"no audio\n" * 50,
        "zeros": bytes(5000),
        "noise": pcm(8),
    }
    files |= {f"WAV of size {size}": wav(form, chunk(b"data", pcm(), size)) for size in sizes}
    files |= {f"WAV at {rate} Hz": wav(fmt(rate=rate), data) for rate in (0, 1, 11127, 384000)}
    for n in (8, 16, 24, 32):
        files[f"WAV of {n} bits"] = wav(fmt(bits=n), chunk(b"data", pcm(n)))
        files[f"WAV of {n} channels"] = wav(fmt(channels=n), chunk(b"data", pcm(channels=n)))
    return files


def by_encoders() -> dict[str, bytes]:
    flac, one, second = encoded("FLAC", "PCM_16", 1.0), mp3(), mp3(1)
    variable = mp3(mode="VARIABLE")
    at = frames(one)
    bare, middle = one[at[1] :], at[30] - at[1]
    xing = max(one.find(b"Xing"), one.find(b"Info")) + 4
    said = one[:xing] + struct.pack(">II", 1, len(at) - 1)
    vbri = one[:4] + bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 50, len(one), len(at))
    files = {
        "FLAC": flac,
        "FLAC cut by a byte": flac[:-1],
        "FLAC with a flipped bit": flipped(flac, len(flac) // 2),
        "FLAC of open length": flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:],
        "FLAC of 2^36 samples": flac[:21] + bytes([flac[21] | 15]) + b"\xff" * 4 + flac[26:],
        "FLAC with ID3 before": ID3 + flac,
        "RIFX": encoded("WAV", "PCM_16", 0.25, endian="BIG"),
        "MP3": one,
        "MP3 of variable rate": variable,
        "MP3 with tags": ID3 + one + ID3V1,
        "MP3 cut by a byte": one[:-1],
        "MP3 without number": bare,
        "MP3 of variable rate without number": variable[frames(variable)[1] :],
        "MP3 without number, with tags": ID3 + bare + ID3V1,
        "MP3 without number, cut by a byte": bare[:-1],
        "MP3 without number, begun in a frame": bare[100:],
        "MP3 begun later": one[at[18] :],
        "MP3 with a lost byte": bare[:middle] + b"\0" + bare[middle + 1 :],
        "MP3 with a tag between": bare + ID3 + bare,
        "MP3 with zeros between": bare[:middle] + bytes(5000) + bare[middle:],
        "MP3, two": one + second,
        "MP3 of VBRI": vbri.ljust(at[1], b"\0") + bare,
        "MP3 of unsaid frames": one[:xing] + bytes(at[1] - xing) + bare,
        "MP3 of more frames than said": said.ljust(at[1], b"\0") + bare + second,
        "MP3 of a frame": bare[: at[2] - at[1]],
    }
    for name in ("AIFF", "AU", "CAF", "RF64", "W64"):
        files[name] = encoded(name, "PCM_16", 0.25)
    for name, subtype in (("Ogg", "VORBIS"), ("Opus", "OPUS")):
        data = encoded("OGG", subtype, 6.0)
        *_, first, behind, last = (page.start() for page in re.finditer(b"OggS", data))
        files |= {
            name: data,
            f"{name} cut by a byte": data[:-1],
            f"{name} without its last page": data[:last],
            f"{name} with a lost page": data[:first] + data[behind:],
            f"{name} with a flipped bit": flipped(data, first + 500),
            f"{name} without a page's mark": flipped(data, first + 1),
            f"{name} with other bytes between": data[:first] + b"between" + data[first:],
            f"{name} with other bytes behind": data + b"more",
            f"{name}, two": data + encoded("OGG", subtype, 2.0),
        }
    for name in ENCODED:
        data = files[name]
        files[f"{name} cut"] = data[: len(data) // 2] if name in LOSSY else data[:-1600]
    return files


NO_FILES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing.wav"),
}


def made(folder: Path) -> dict[str, Any]:
    """The content of the golden file: name of a file → what is said of it."""
    verdicts = {}
    for number, (name, data) in enumerate((by_hand() | by_encoders()).items()):
        path = folder / f"{number}.wav"
        path.write_bytes(data)
        verdicts[name] = verdict(name, path)
    for name, put in NO_FILES.items():
        put(folder / f"{name}.wav")
        verdicts[name] = verdict(name, folder / f"{name}.wav")
    return {"verdicts": verdicts}


def verdict(name: str, path: Path) -> dict[str, Any]:
    """What opening a data set says (``header``), and what decoding says (``sound``, ``heard``).

    ``bytes`` is there where the same bytes in an HDF5 file are judged in another way. Whether the
    decoder finds the end of files that are `SEEKING` hangs on where the encoder's frames lie.
    """
    kind = name.replace(",", "").split()[0]
    lossy, scan = kind in LOSSY, scan_files(path.parent, [path.name]).loc[0]
    rate = int(scan.rate) or RATE

    def length(samples: float) -> float:
        return round(samples / rate, 1) if lossy else round(samples)

    def wrong(problem: str) -> str:
        kinds = [kind for kind, words in KINDS.items() if re.search(words, problem)]
        assert len(kinds) == 1, f"of the kinds {kinds}: {problem}"
        words = kind in ENCODED or kinds == ["unreadable"]  # libsndfile's
        return " ".join([*kinds, *(() if words else re.findall(r"\d+", problem))])

    told: dict[str, Any] = {}
    head = [rate, int(scan.channels), length(int(scan.frames))]
    told["header"] = wrong(scan.problem) if scan.problem else head
    if path.is_fifo():  # nobody would write into it
        return told
    try:
        wave = read_waveform(path, rate)
        samples = b"" if lossy else np.rint(wave * 32768).astype("<i4").tobytes()
        told["sound"] = [length(len(wave)), hashlib.sha256(samples).hexdigest()[:8]]
    except InputError as error:
        assert error.source == path and error.remedy
        told["sound"] = [error.field, error.value, wrong(error.problem)]
    heard = decode_file(path)
    if heard.problem:
        told["heard"] = wrong(heard.problem)
    else:
        told["heard"] = [length(heard.seconds * rate), heard.channels, heard.silent]
    if path.is_file():
        try:
            there = read_header(Encoded(path.read_bytes(), "row"), thorough=True)
            other: Any = [there.rate, there.channels, length(there.samples)]
        except InputError as error:
            other = wrong(error.problem)
        told |= {"bytes": other} if other != told["header"] else {}
    unsure = ("header", "bytes") if name in SEEKING else ()
    return {part: value for part, value in told.items() if part not in unsure}
