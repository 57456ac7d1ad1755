"""Prepared clips: what is stored comes back, and what does not fit is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layouts import write_manifest, write_openmic_hdf5

from passt_bench.data import find_folders, open_dataset
from passt_bench.data.audio import read_whole
from passt_bench.data.prepared import (
    CLIPS,
    INDEX,
    WAVEFORMS,
    Index,
    PreparedDataset,
    open_prepared,
    read_index,
    write_clips,
    write_index,
)
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.runner.prepare_data import Preparation, prepare_data, scaled
from passt_bench.spec.recipe import DataSpec

RATE = 1000
LENGTHS = [0, 1, 999, 1000, 1001, 2500]
SPEC = DataSpec(name="fsd50k", seconds=1.0)
WAVES = [
    np.random.default_rng(n).uniform(-1, 1, length).astype(np.float32)
    for n, length in enumerate(LENGTHS)
]
SOURCE = Fingerprint(
    dataset="fsd50k", digest="abc", expected=6, found=6, classes=tuple("abc"), multi_label=True
)


def columns(clips: int = 6, **changes: list[int]) -> dict[str, np.ndarray]:
    """Of the first few clips."""
    made = {
        "offsets": np.concatenate([[0], np.cumsum(LENGTHS[:clips])]),
        "names": np.array([b"clip%d" % n for n in range(clips)]),
        "sources": np.array([f"é{n}".encode() for n in range(clips)]),
        "split": np.array([0, 0, 0, 2, 2, 1][:clips], dtype=np.int8),
        "targets": np.packbits(np.eye(3, dtype=bool)[[0, 1, 2, 0, 1, 2]][:clips], -1),
    }
    return made | {name: np.array(values) for name, values in changes.items()}


def write(folder: Path, **changes: object) -> Index:
    """Six clips of three classes: three to train on, two to choose by, one to test on."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = [scaled(wave)[0] for wave in WAVES]
    (folder / WAVEFORMS).write_bytes(b"".join(clip.tobytes() for clip in stored))
    write_clips(folder, columns())
    index = Index(
        source=SOURCE,
        sampling_rate=RATE,
        resampler="none",
        seconds=None,
        cut=0,
        clips=6,
        samples=sum(LENGTHS),
        splits=("train", "test", "validation"),
        expected=(3, 1, 2),
        clipped=0,
        clipped_clips=(),
        skipped=(),
        checksum="",
    )
    index = replace(index, **changes)  # type: ignore[arg-type]
    write_index(folder, index)
    return index


def opened(folder: Path, spec: DataSpec = SPEC, rate: int = RATE) -> PreparedDataset:
    data = open_prepared(spec, rate, folder)
    assert isinstance(data, PreparedDataset)
    return data


def test_what_was_stored_comes_back_within_half_a_step(tmp_path: Path) -> None:
    write(tmp_path)
    data = opened(tmp_path)
    for clip, wave in enumerate(WAVES):
        assert data.length(clip) == len(wave)
        np.testing.assert_allclose(data.whole(clip), wave, atol=0.5001 / 32768)
        for start in (0, 1, 998, 2499, 3000):
            part, rest = data.excerpt(clip, start), wave[start : start + 1000]
            assert (part.dtype, part.shape) == (np.float32, (1000,))
            expected = np.pad(rest, (0, 1000 - len(rest)))
            np.testing.assert_allclose(part, expected, atol=0.5001 / 32768)
        np.testing.assert_array_equal(data.waveform(clip), data.excerpt(clip, 0))
        if len(wave):
            np.testing.assert_array_equal(read_whole(data.sound(clip), RATE), data.whole(clip))


@pytest.mark.parametrize(
    ("wave", "stored", "beyond"),
    [
        ([0.0, -1.0, 32767 / 32768], [0, -32768, 32767], 0),
        ([1.0, 1.0001, -1.5, 7.0], [32767, 32767, -32768, 32767], 3),
        ([0.4 / 32768, 0.6 / 32768, -0.6 / 32768], [0, 1, -1], 0),
        (list(np.arange(-32768, 32768) / 32768), list(range(-32768, 32768)), 0),
    ],
)
def test_samples_beyond_one_are_clipped_and_counted(
    wave: list[float], stored: list[int], beyond: int
) -> None:
    found, count = scaled(np.array(wave, dtype=np.float32))
    assert found.dtype == np.dtype("<i2")
    assert (found.tolist(), count) == (stored, beyond)


def test_the_fingerprint_tells_it_from_its_source_and_from_others(tmp_path: Path) -> None:
    digests = {SOURCE.digest}
    for number, changes in enumerate(
        ({}, {"sampling_rate": 500}, {"resampler": "other"}, {"skipped": (("x", 0, "broken"),)},
         {"cut": 1, "seconds": 2.5}, {"source": replace(SOURCE, digest="other")})
    ):  # fmt: skip
        folder = tmp_path / str(number)
        index = write(folder, **changes)  # type: ignore[arg-type]
        assert read_index(folder) == index
        fingerprint = opened(folder, rate=index.sampling_rate).fingerprint
        assert fingerprint.digest not in digests
        digests.add(fingerprint.digest)
    write(tmp_path / "again", clipped=3, clipped_clips=("clip5",))
    fingerprint = opened(tmp_path / "again").fingerprint
    assert fingerprint.digest == opened(tmp_path / "0").fingerprint.digest
    assert fingerprint.notes == (
        "16-bit samples at 1000 Hz made from the data abc",
        "3 samples of 1 clips beyond ±1 were clipped: clip5",
        "2 classes without a clip in test: a, b",
        "1 classes without a clip in validation: c",
    )


def test_what_changed_since_is_other_data(tmp_path: Path) -> None:
    write(tmp_path)
    digests = [opened(tmp_path).fingerprint.digest, opened(tmp_path).fingerprint.digest]
    stored = np.fromfile(tmp_path / WAVEFORMS, dtype="<i2")
    stored[-1250] ^= 1  # in the middle of the longest clip
    stored.tofile(tmp_path / WAVEFORMS)
    digests.append(opened(tmp_path).fingerprint.digest)
    write_clips(tmp_path, columns() | {"targets": columns()["targets"][::-1]})
    digests.append(opened(tmp_path).fingerprint.digest)
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_prepared_clips_outlive_what_was_taken_away_and_nothing_else(tmp_path: Path) -> None:
    root, spec = tmp_path / "own", DataSpec(name="manifest", seconds=1.0)
    written, listed = write_manifest(root), root / "other.csv"
    (root / "manifest.csv").rename(listed)
    prepare_data(Preparation("manifest", listed, 16000))  # beside a list of another name
    assert open_dataset(spec, 16000, root / "other" / "prepared-16000").ids
    (root / "other" / "prepared-16000").rename(root / "prepared-16000")
    manifest = listed.rename(root / "manifest.csv")
    assert isinstance(open_dataset(spec, 16000, root), PreparedDataset)
    text = manifest.read_text()
    for changed, message in (
        ("".join(text.splitlines(keepends=True)[:-1]), "since these clips were prepared"),
        (text.replace(",train", ",trian", 1), "since .* and can no longer be read"),
        (text + "a,b,c,d,e,f,g\n", "since .* and can no longer be read"),
    ):
        manifest.write_text(changed)
        with pytest.raises(InputError, match=f"have changed {message}"):
            open_dataset(spec, 16000, root)
        assert open_dataset(spec, 16000, root / "prepared-16000").ids  # by name, as it is
    manifest.write_text(text)
    assert not isinstance(open_dataset(spec, 32000, root), PreparedDataset)
    first, *others = [clip.path for clip in written.clips if clip.path]
    for path in others:
        path.unlink()
    with pytest.raises(InputError, match=r"have changed since .* are missing or unreadable"):
        open_dataset(spec, 16000, root)
    for path in (first, manifest):
        path.unlink()
        assert open_dataset(spec, 16000, root).ids


def test_found_by_folder_by_rate_and_beside_other_data(tmp_path: Path) -> None:
    root = tmp_path / "data" / "sounds"
    write(root / f"prepared-{RATE}")
    assert isinstance(open_dataset(SPEC, RATE, root), PreparedDataset)
    assert isinstance(open_dataset(SPEC, RATE, root / f"prepared-{RATE}"), PreparedDataset)
    with pytest.raises(InputError):  # at another rate the folder itself counts
        open_dataset(SPEC, 2 * RATE, root)
    write(tmp_path / "data" / "other")
    assert find_folders(tmp_path / "data") == {"fsd50k": tmp_path / "data" / "other"}
    written = write_openmic_hdf5(tmp_path / "data" / "z", rate=8000, seconds=0.1)
    write(tmp_path / "data" / "a", source=replace(SOURCE, dataset="openmic"))
    assert find_folders(tmp_path / "data")["openmic"] == written.root


# What is wrong → (how the folder comes to it, what the message says).
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut samples": (
        lambda folder: os.truncate(folder / WAVEFORMS, 11000),
        "11000 bytes, but the index states 11002",
    ),
    "no samples": (lambda folder: (folder / WAVEFORMS).unlink(), "cannot be read (No such file"),
    "cut columns": (lambda folder: os.truncate(folder / CLIPS, 500), "clips.npz: not readable"),
    "fewer clips": (
        lambda folder: write_clips(folder, columns(1)),
        "1 clips, but the index states 6",
    ),
    "crossing clips": (
        lambda folder: write_clips(
            folder, columns(offsets=[0, 5000, 20, 30, 40, 50, sum(LENGTHS)])
        ),
        "clips.npz: clips that end before they begin",
    ),
    "no JSON": (lambda folder: (folder / INDEX).write_text("{"), "prepared.json: not an index"),
    "newer": (lambda folder: write(folder, schema=99), "written by a newer version (schema 99)"),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_broken_folders_are_refused(wrong: str, tmp_path: Path) -> None:
    spoil, message = BROKEN[wrong]
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError) as error:
        opened(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("spec", "rate", "field"),
    [
        (SPEC, 32000, "frontend.sampling_rate"),
        (replace(SPEC, seconds=3.0), RATE, "data.seconds"),
        (replace(SPEC, name="openmic"), RATE, "data.name"),
        (replace(SPEC, train_clips=4), RATE, "data.train_clips"),
    ],
)
def test_what_does_not_fit_is_refused(
    spec: DataSpec, rate: int, field: str, tmp_path: Path
) -> None:
    write(tmp_path, cut=2, seconds=2.5)
    assert opened(tmp_path).fingerprint.found == 6
    with pytest.raises(InputError) as error:
        open_dataset(spec, rate, tmp_path)
    assert error.value.field == field
