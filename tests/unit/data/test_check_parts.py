"""The parts of a check: identical files, repeated names, divided sources, lengths in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sounds import encoded, sound

from passt_bench.data.audio import Encoded
from passt_bench.data.check import counted, spread_of
from passt_bench.data.clip_table import ClipTable, SkippedClips
from passt_bench.data.contents import (
    decode_file,
    divided,
    equal_sets,
    identical,
    in_threads,
    listed_twice,
)


def silent(share: float) -> None:
    """Tells nobody."""


def files_of(folder: Path, contents: list[bytes]) -> list[Path]:
    paths = [folder / f"{number}.bin" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def compared(paths: list[Path], threads: int = 2) -> tuple[list[int], dict[int, str], list[int]]:
    """Groups, files that could not be read, and how often each was opened."""
    opened = [0] * len(paths)

    def sound_of(number: int) -> Path:
        opened[number] += 1
        return paths[number]

    sizes = np.array([p.stat().st_size if p.exists() else 7 for p in paths])
    groups, wrong = identical(sizes, sound_of, threads, silent)
    return groups.tolist(), wrong, opened


def test_equal_files_are_found_and_no_more_is_read_than_must_be(tmp_path: Path) -> None:
    big = bytearray(np.random.default_rng(0).bytes(100_000))
    end = big[:-1] + b"!"
    middle = big.copy()
    middle[50_000] ^= 1
    paths = files_of(tmp_path, [big, end, big, middle, big[:-1], b"alone"])
    groups, wrong, opened = compared(paths)
    assert groups[0] == groups[2] >= 0
    assert [groups[number] for number in (1, 3, 4, 5)] == [-1] * 4
    assert wrong == {}
    # Of one size: a piece, then the whole; told apart by the piece: once; of another size: never.
    assert opened == [2, 2, 2, 1, 0, 0]


def test_a_file_that_goes_while_one_looks_is_named(tmp_path: Path) -> None:
    paths = files_of(tmp_path, [b"0123456", b"0123456"])
    groups, wrong, _ = compared([*paths, tmp_path / "gone.bin"])
    assert groups[:2] == [groups[0]] * 2
    assert groups[2] == -1
    assert list(wrong) == [2]
    assert "cannot be read (No such file" in wrong[2]


def test_bytes_within_another_file_are_read_once() -> None:
    contents = [b"same", b"same", b"else"]
    groups, _ = identical(
        np.zeros(3, dtype=np.int64), lambda n: Encoded(contents[n], "row"), 1, silent, pieces=False
    )
    assert groups.tolist() == [groups[0], groups[0], -1]


def test_an_interrupt_stops_the_threads() -> None:
    done: list[int] = []

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_threads(done.append, range(100_000), 2, stop))
    assert len(done) == 64


def test_sets_of_equal_rows() -> None:
    rows = pd.DataFrame({"a": [1, 3, 1, 1, np.nan, np.nan], "b": [2, 4, 2, 3, 5, 5]})
    assert [part.tolist() for part in equal_sets(rows)] == [[0, 2], [4, 5]]
    assert [part.tolist() for part in equal_sets(rows[rows.index != 2])] == [[4, 5]]
    assert equal_sets(rows[:0]) == []


def test_divided_gives_one_clip_of_each_split() -> None:
    groups = np.array([5, 5, 5, 7, 7, 6])
    split = np.array([0, 0, 1, 1, 1, 0], dtype=np.int8)
    assert [part.tolist() for part in divided(groups, split)] == [[0, 2]]
    assert divided(np.arange(3), split[:3]) == []


def clip_table(file: list[int] | None, start: list[float] | None, end: list[float]) -> ClipTable:
    count = 3
    return ClipTable(
        root=Path(),
        splits=("train",),
        expected=(count,),
        names=["a", "b", "a"],
        split=np.zeros(count, dtype=np.int8),
        sources=["a", "b", "c"],
        seconds=np.ones(count),
        rates=np.ones(count),
        channels=np.ones(count),
        skipped=SkippedClips([], np.zeros(0, dtype=np.int8), []),
        files=None if file is None else ["a.wav", "b.wav"],
        file=None if file is None else np.array(file),
        start=None if start is None else np.array(start),
        end=None if start is None else np.array(end),
    )


@pytest.mark.parametrize(
    ("file", "start", "end", "found"),
    [
        (None, None, [], [[0, 2]]),
        ([0, 1, 1], None, [], [[1, 2]]),
        ([0, 0, 0], [0.0, 1.0, 0.0], [1.0, 2.0, 1.0], [[0, 2]]),
        ([0, 0, 0], [0.0, 1.0, 0.0], [1.0, np.nan, 2.0], []),
        ([0, 1, 1], [0.0, 1.0, 1.0], [1.0, np.nan, np.nan], [[1, 2]]),
    ],
    ids=["names", "files", "stretches", "other stretches", "open ends"],
)
def test_what_is_listed_twice(
    file: list[int] | None, start: list[float] | None, end: list[float], found: list[list[int]]
) -> None:
    sets = listed_twice(clip_table(file, start, end))
    assert [part.tolist() for part in sets] == found


def test_lengths_in_words() -> None:
    assert spread_of(np.array([np.nan])) is None
    assert spread_of(np.zeros(0)) is None
    few = spread_of(np.array([1.0, 2.504, 1.0, np.nan], dtype=np.float32))
    assert str(few) == "1 s (2 clips), 2.5 s (1 clips); of 1 clips not known"
    many = spread_of(np.arange(9.0))
    assert str(many) == "0.00 to 8.00 s, half of them between 2.00 and 6.00 s, median 4.00 s"
    assert counted(np.array([8000, 0, 16000, 16000])) == {"16000": 2, "8000": 1}


def test_the_same_sound_in_two_formats() -> None:
    samples = (32767 * sound(3, 0.5, 16000)).astype(np.int16)
    digests = {
        name: decode_file(Encoded(encoded(what, rate, name.split()[0]), name)).digest
        for name, what, rate in (
            ("wav", samples, 16000),
            ("flac", samples, 16000),
            ("wav again", np.stack([samples, samples], axis=1), 16000),
            ("wav slower", samples, 8000),
            ("wav louder", samples + np.int16(1), 16000),
        )
    }
    assert digests["wav"] == digests["flac"] == digests["wav again"]
    assert len(set(digests.values())) == 3


def test_silence_is_that_of_the_mean_of_channels(tmp_path: Path) -> None:
    samples = sound(3, 0.5, 16000)
    quiet = np.zeros(8000, dtype=np.float32)
    opposed = np.stack([samples, -samples], axis=1)
    for wave, ending in ((quiet, "wav"), (quiet, "ogg"), (quiet, "mp3"), (opposed, "wav")):
        assert decode_file(Encoded(encoded(wave, 16000, ending), "row")).silent
    samples[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16000, subtype="FLOAT")
    assert decode_file(tmp_path / "nan.wav").problem == "the file holds NaN or infinity"
