"""A file with another beginning reads like one that was written so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from passt_bench.data.mp3_frames import Beginning, PatchedFile

CONTENT = bytes(range(256)) * 4


@pytest.mark.parametrize("head", [b"", b"other", b"x" * 300])
@pytest.mark.parametrize("behind", [0, 5, 1024])
def test_it_reads_like_a_written_one(head: bytes, behind: int, tmp_path: Path) -> None:
    path, expected = tmp_path / "file", io.BytesIO(head + CONTENT[behind:])
    path.write_bytes(CONTENT)
    random = np.random.default_rng(0)
    with path.open("rb") as file:
        mended = io.BufferedReader(PatchedFile(file, Beginning(head, behind)))
        for _ in range(200):
            whence, place = int(random.integers(3)), int(random.integers(-20, 400))
            if whence == io.SEEK_SET or expected.tell() + place < 0:
                whence, place = io.SEEK_SET, abs(place)
            elif whence == io.SEEK_END:
                place = -min(abs(place), len(expected.getvalue()))
            assert mended.seek(place, whence) == expected.seek(place, whence)
            assert mended.tell() == expected.tell()
            size = int(random.integers(0, 500))
            assert mended.read(size) == expected.read(size)
        mended.close()
        assert file.closed
