"""The parts of a check: identical files, repeated names, divided sources, lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sounds import encoded, sound

from passt_bench.data.check import counted, spread_of
from passt_bench.data.clip_table import ClipTable, skipped_clips
from passt_bench.data.contents import (
    Decoded,
    decode_file,
    divided,
    equal_sets,
    identical,
    listed_twice,
    sources_in_several_splits,
)
from passt_bench.data.opening import Encoded
from passt_bench.data.scan import in_threads


def silent(share: float) -> None:
    """Tells nobody."""


def test_equal_files_are_found_and_no_more_is_read_than_must_be(tmp_path: Path) -> None:
    contents = [b"one", b"two", b"one", b"alone", b"other", b"equal", b"equal"]
    paths = [tmp_path / f"{number}.bin" for number in range(len(contents) + 1)]
    for path, content in zip(paths, contents, strict=False):
        path.write_bytes(content)
    opened: list[int] = []

    def sound_of(number: int) -> Path:
        opened.append(number)
        return paths[number]

    # The last went while one looked.
    known = pd.DataFrame({"bytes": [3, 3, 3, 5, 5, 5, 5, 5], "piece": [1, 1, 1, 2, 3, 4, 4, 4]})
    groups, wrong = identical(known, sound_of, 1, silent)
    assert groups[0] == groups[2] != groups[5] == groups[6] >= 0
    assert groups[[1, 3, 4, 7]].tolist() == [-1] * 4
    assert opened == [0, 1, 2, 5, 6, 7]
    assert list(wrong) == [7] and "cannot be read (No such file" in wrong[7]
    assert identical(known[:0], sound_of, 1, silent)[0].tolist() == []


def test_an_interrupt_stops_the_threads() -> None:
    done: list[int] = []

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_threads(done.append, range(100_000), 2, stop))
    assert len(done) == 64


def test_equal_rows_and_one_clip_of_each_split_of_a_divided_group() -> None:
    rows = pd.DataFrame({"a": [1, 3, 1, 1, np.nan, np.nan], "b": [2, 4, 2, 3, 5, 5]})
    assert [part.tolist() for part in equal_sets(rows)] == [[0, 2], [4, 5]]
    assert [part.tolist() for part in equal_sets(rows[rows.index != 2])] == [[4, 5]]
    assert equal_sets(rows[:0]) == []
    split = np.array([0, 0, 1, 1, 1, 0], dtype=np.int8)
    found = divided(np.array([5, 5, 5, 7, 7, 6]), split)
    assert [part.tolist() for part in found] == [[0, 2]]
    assert divided(np.arange(3), split[:3]) == []


def clip_table(file: list[int] | None, start: list[float] | None, end: list[float]) -> ClipTable:
    given = {"file": file, "start": start, "end": end if start else None}
    columns = {name: values for name, values in given.items() if values is not None}
    return ClipTable(
        root=Path(),
        splits=("train", "test"),
        expected=(2, 1),
        names=["a", "b", "a"],
        sources=["a", "b", "c"],
        clips=pd.DataFrame({"split": [0, 0, 1], **columns}),
        skipped=skipped_clips([]),
        files=None if file is None else ["a.wav", "b.wav"],
    )


def test_stretches_of_one_file_in_two_splits_divide_it() -> None:
    """Whatever the list says of their sources."""
    table = clip_table([1, 0, 1], [0.0, 0.0, 0.5], [1.0, np.nan, 2.0])
    assert [line.partition(":")[0] for line in sources_in_several_splits(table)] == ["b.wav"]


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


def test_lengths_are_few_or_quartiles() -> None:
    assert spread_of(np.array([np.nan])) is None
    few = spread_of(np.array([1.0, 2.504, 1.0, np.nan], dtype=np.float32))
    assert few is not None and (few.values, few.unknown) == ({"1": 2, "2.5": 1}, 1)
    many = spread_of(np.arange(9.0))
    assert many is not None and (many.values, many.quartiles) == ({}, (2, 4, 6))
    assert counted(np.array([8000, 0, 16000, 16000])) == {"16000": 2, "8000": 1}


def test_rate_and_each_sample_count_and_channels_may_cancel() -> None:
    samples = (32767 * sound(3, 0.5, 16000)).astype(np.int16)

    def heard(wave: np.ndarray, rate: int = 16000) -> Decoded:
        return decode_file(Encoded(encoded(wave, rate, "wav"), "row"))

    digest = heard(samples).digest
    assert heard(np.stack([samples, samples], axis=1)).digest == digest
    others = {heard(samples, rate=8000).digest, heard(samples + np.int16(1)).digest}
    assert len({digest, *others}) == 3
    nearly = (0.95 * samples).astype(np.int16)
    for other, silent, cancels in (
        (samples, False, False), (-samples, False, True), (-nearly, False, True),
        (np.zeros_like(samples), False, False),
    ):  # fmt: skip
        found = heard(np.stack([samples, other], axis=1))
        assert (found.silent, found.cancels) == (silent, cancels)
    quiet = heard(np.zeros_like(samples))
    assert (quiet.silent, quiet.cancels) == (True, False)
