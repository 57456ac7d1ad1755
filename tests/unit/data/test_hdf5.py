"""Data sets in the HDF5 layout of the reference code."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from layouts import write_hdf5
from sounds import encoded, sound

from passt_bench.data.hdf5 import Hdf5Dataset, open_hdf5
from passt_bench.errors import InputError
from passt_bench.spec.recipe import DataSpec

RATE = 8000
MP3 = encoded(sound(0, 0.5, RATE), RATE, "mp3")
CLASSES = tuple("abcdefghijk")  # eleven: two bytes


def small(
    path: Path, sounds: list[bytes] | None = None, target: np.ndarray | None = None
) -> tuple[Path, dict[str, tuple[Path, ...]]]:
    """Four rows of eleven classes, or as many as there are sounds."""
    sounds = [MP3] * 4 if sounds is None else sounds
    if target is None:
        target = np.packbits(np.eye(11, dtype=bool)[np.arange(len(sounds)) % 11], axis=-1)
    write_hdf5(path, [f"clip{n}.mp3" for n in range(len(sounds))], sounds, target)
    return path, {"test": (path,)}


def opened(files: dict[str, tuple[Path, ...]], **options: object) -> Hdf5Dataset:
    arguments: dict[str, object] = {"name": "fsd50k", "files": files, "classes": CLASSES}
    spec = DataSpec(name="fsd50k", seconds=0.5)
    return open_hdf5(spec, RATE, **(arguments | options))  # type: ignore[arg-type]


def test_the_digest_covers_names_labels_and_sounds(tmp_path: Path) -> None:
    path, files = small(tmp_path / "a.hdf")
    digest = opened(files).fingerprint.digest
    spec = DataSpec(name="fsd50k", seconds=0.25)
    again = open_hdf5(spec, 16000, name="fsd50k", files=files, classes=CLASSES)
    assert again.fingerprint.digest == digest
    other = bytearray(MP3)
    other[len(other) // 2] ^= 1  # a sound of the same size
    changes: list[tuple[str, int, Any]] = [
        ("target", 0, [0, 32]), ("audio_name", 2, b"clip9.mp3"),
        *(("mp3", row, np.frombuffer(bytes(other), np.uint8)) for row in (0, 1, 3)),
    ]  # fmt: skip
    for column, row, value in changes:
        small(path)
        assert opened(files).fingerprint.digest == digest
        with h5py.File(path, "r+") as file:
            file[column][row] = value
        assert opened(files).fingerprint.digest != digest


def test_sound_that_cannot_be_read_is_told_on_opening(tmp_path: Path) -> None:
    rows = 100
    path, files = small(tmp_path / "a.hdf", [MP3] * rows)
    assert len(opened(files).ids) == rows
    with h5py.File(path) as file:
        place = file["mp3"].id.get_offset()
    with path.open("r+b") as raw:  # of a row whose sound nobody needs to count the sizes
        raw.seek(place + 16 * 50 + 4)
        raw.write(b"\xff" * 4)
    with pytest.raises(InputError, match=r"a\.hdf row 50: not readable as HDF5"):
        opened(files)


def test_rows_without_sound_are_found_without_reading_any(tmp_path: Path) -> None:
    rows, sounds = 40, [MP3] * 40
    sounds[17] = b""
    targets = np.array([[32, 0]] * 17 + [[64, 0]] * 23, np.uint8)
    data = opened(small(tmp_path / "a.hdf", sounds, targets)[1])
    first, lacking = data.fingerprint.notes
    assert lacking == "9 classes without a clip in test: a, d, e, f, g and 4 more"
    assert first == "1 rows without sound, left out: clip17.mp3"
    assert (data.fingerprint.expected, data.fingerprint.found) == (rows, rows - 1)
    assert (data.ids[16], data.ids[17]) == ("clip16.mp3", "clip18.mp3")
    kept = np.unpackbits(np.delete(targets, 17, axis=0), axis=-1, count=11)
    np.testing.assert_array_equal(data.targets[np.arange(rows - 1)], kept)
    assert data.waveform(17).any()
    assert list(data.clip_table().skipped["name"]) == ["clip17.mp3"]


def in_chunks(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["mp3"]
        file.create_dataset("mp3", (4,), h5py.vlen_dtype(np.uint8), chunks=(2,))


def replaced(name: str, values: np.ndarray | None) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[name]
            if values is not None:
                file[name] = values

    return spoil


# What is wrong → (how the file gets it, field and value of the error).
BROKEN: dict[str, tuple[Callable[[Path], object], str | None, object]] = {
    "missing": (Path.unlink, None, None),
    "no HDF5": (lambda path: path.write_text("text"), None, None),
    "cut off": (lambda path: os.truncate(path, path.stat().st_size // 2), None, None),
    "no column": (replaced("target", None), "target", None),
    "another width": (replaced("target", np.zeros((4, 3), np.uint8)), "target", "uint8 (4, 3)"),
    "no bits": (replaced("target", np.zeros((4, 2), np.float32)), "target", "float32 (4, 2)"),
    "labels beyond": (replaced("target", np.full((4, 2), 255, np.uint8)), "target", "row 0"),
    "another length": (
        replaced("target", np.zeros((3, 2), np.uint8)),
        "audio_name", {"audio_name": 4, "mp3": 4, "target": 3},
    ),
    "no bytes": (replaced("mp3", np.zeros(4)), "mp3", "float64"),
    "bytes in chunks": (in_chunks, "mp3", "uint8 in chunks"),
    "names of any length": (  # of which many may share a piece of the file
        replaced("audio_name", np.array(["a", "b", "c", "d"], h5py.string_dtype())),
        "audio_name", "object (4,)",
    ),
    "numbers as names": (replaced("audio_name", np.arange(4)), "audio_name", "int64 (4,)"),
    "no text": (
        replaced("audio_name", np.array([b"a", b"b", b"c\xff", b"d"])), "audio_name", b"c\xff"
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BROKEN)
def test_broken_files_are_refused(wrong: str, tmp_path: Path) -> None:
    spoil, field, value = BROKEN[wrong]
    path, files = small(tmp_path / "a.hdf")
    spoil(path)
    with pytest.raises(InputError) as error:
        opened(files)
    found = error.value
    assert (found.source, found.field, found.value) == (path, field, value)
    assert found.remedy


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda target: target[:, :3], "float32 (4, 3)"),
        (lambda target: target.astype(np.uint8), "uint8 (4, 22)"),
        (lambda target: np.where(target == 0, np.nan, target), "row 0"),
        (lambda target: target + 0.25, "row 0"),
    ],
    ids=["width", "type", "NaN", "mask"],
)
def test_broken_masks_are_refused(
    change: Callable[[np.ndarray], np.ndarray], value: str, tmp_path: Path
) -> None:
    target = np.tile(np.eye(2, 11, dtype=np.float32), (2, 2))
    _, files = small(tmp_path / "a.hdf", target=change(target))
    with pytest.raises(InputError) as error:
        opened(files, masked=True)
    assert (error.value.field, error.value.value) == ("target", value)


def test_a_broken_clip_is_named_when_it_is_read(tmp_path: Path) -> None:
    path, files = small(tmp_path / "a.hdf", [MP3, MP3[: len(MP3) // 2], b"no audio at all"])
    dataset = opened(files)
    assert dataset.waveform(0).any()
    for row, problem in ((1, "cut off"), (2, "not readable as audio")):
        with pytest.raises(InputError, match=problem) as error:
            dataset.waveform(row)
        assert str(error.value.source) == f"{path} row {row} (clip{row}.mp3)"


def test_a_handle_crosses_no_fork_and_no_pickle(tmp_path: Path) -> None:
    _, files = small(tmp_path / "a.hdf", [MP3, encoded(sound(1, 0.5, RATE), RATE, "mp3")])
    data = opened(files)
    expected = data.waveform(1)  # opens the file here
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for wave in pool.map(data.waveform, [1] * 4):
            np.testing.assert_array_equal(wave, expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).waveform(1), expected)


def test_a_million_rows_in_bounded_memory(tmp_path: Path) -> None:
    rows, path = 1_000_000, tmp_path / "many.hdf"
    with h5py.File(path, "w") as file:
        file["audio_name"] = np.char.add(b"Y", np.arange(rows).astype("S19"))
        file["target"] = np.full((rows, 2), 32, np.uint8)
        sounds = file.create_dataset("mp3", (rows,), h5py.vlen_dtype(np.uint8))
        for row in (0, rows - 1):
            sounds[row] = np.frombuffer(MP3, dtype=np.uint8)
        offset = sounds.id.get_offset()
    with path.open("r+b") as raw:  # all rows refer to the sound of the first
        raw.seek(offset)
        first = raw.read(16)
        raw.seek(offset)
        raw.write(first * rows)
    tracemalloc.start()
    try:
        data = opened({"test": (path,)})
        assert tracemalloc.get_traced_memory()[1] < 250e6
    finally:
        tracemalloc.stop()
    assert len(data.ids) == rows
    assert data.ids[-1] == f"Y{rows - 1}"
    assert data.waveform(rows // 2).any()
