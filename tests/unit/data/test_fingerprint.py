"""Pieces of sound that tell other sound from the same, and targets of whole splits at once."""

from __future__ import annotations

import io

import numpy as np
import pytest

from passt_bench.data.fingerprint import evenly_spaced, piece_of
from passt_bench.data.targets import PackedTargets, class_counts


def changed(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def piece(content: bytes) -> int:
    return piece_of(io.BytesIO(content))


@pytest.mark.parametrize("size", [1, 2, 4095, 4096])
def test_of_a_small_file_every_byte_counts(size: int) -> None:
    content = bytes(size)
    for place in {0, size // 2, size - 1}:
        assert piece(changed(content, place)) != piece(content)


def test_of_a_larger_file_its_middle_counts() -> None:
    content = bytes(3 * 4096)
    for place, told in ((4095, False), (4096, True), (8191, True), (8192, False)):
        assert (piece(changed(content, place)) != piece(content)) is told


@pytest.mark.parametrize(("start", "end"), [(0, 0), (7, 8), (100, 4196), (100, 30000), (5, None)])
def test_a_part_counts_as_a_file(start: int, end: int | None) -> None:
    content = np.random.default_rng(0).bytes(40000)
    assert piece_of(io.BytesIO(content), start, end) == piece(content[start:end])


@pytest.mark.parametrize("count", [1025, 5000, 2_000_000])
def test_of_few_all_are_looked_at_and_of_many_some_from_first_to_last(count: int) -> None:
    for few in (0, 1, 2, 1024):
        np.testing.assert_array_equal(evenly_spaced(few), np.arange(few))
    places = evenly_spaced(count)
    assert (len(places), places[0], places[-1]) == (1024, 0, count - 1)
    steps = np.diff(places)
    assert steps.min() >= 1 and steps.max() - steps.min() <= 1


@pytest.mark.parametrize("clips", [0, 1, 70_000])
def test_labels_are_counted_in_blocks_however_they_are_stored(clips: int) -> None:
    rng = np.random.default_rng(clips)
    plain = (rng.random((clips, 11)) < 0.00002).astype(np.float32)
    chosen = np.flatnonzero(rng.random(clips) < 0.5)
    packed = PackedTargets(np.packbits(plain > 0, axis=-1), 11)
    wanted = (plain[chosen] == 1).sum(axis=0)
    plain[plain == 0] = np.nan
    for targets in (plain, packed):
        np.testing.assert_array_equal(class_counts(targets, chosen), wanted)
