"""Prepared clips: what is stored comes back, and what does not fit is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import write_manifest, write_openmic_hdf5
from sounds import sound, write_sound

from passt_bench.data import find_folders, open_dataset
from passt_bench.data.audio import read_waveform
from passt_bench.data.prepared import (
    CLIPS,
    INDEX,
    Index,
    PreparedDataset,
    open_prepared,
    read_index,
    shard_name,
    write_clips,
    write_index,
)
from passt_bench.errors import InputError
from passt_bench.runner.prepare_data import Preparation, prepare_data, scaled
from passt_bench.spec.recipe import DataSpec

RATE = 8000
SAMPLES = shard_name(0)
SPEC = DataSpec(name="manifest", seconds=0.1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of three classes: three to train on, two to choose by, one to test on."""
    root = tmp_path_factory.mktemp("made")
    rows = ["path,labels,split"]
    for n, split in enumerate(("train",) * 3 + ("val",) * 2 + ("test",)):
        write_sound(root / f"{n}.wav", sound(n, 0.1 * (n + 1), RATE), RATE)
        rows.append(f"{n}.wav,{'abc'[n % 3]},{split}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    prepare_data(Preparation("manifest", root, RATE))
    return root / f"prepared-{RATE}"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of them that may be changed."""
    return copied(made, tmp_path / "prepared")


def copied(made: Path, folder: Path) -> Path:
    return Path(shutil.copytree(made, folder))


def changed(folder: Path, **changes: Any) -> Index:
    """The index, with these changes."""
    index = replace(read_index(folder), **changes)
    write_index(folder, index)
    return index


def columns(folder: Path, **changes: object) -> dict[str, np.ndarray]:
    with np.load(folder / CLIPS) as file:
        return {**file} | {name: np.array(values) for name, values in changes.items()}


def opened(folder: Path, spec: DataSpec = SPEC, rate: int = RATE) -> PreparedDataset:
    data = open_prepared(spec, rate, folder)
    assert isinstance(data, PreparedDataset)
    return data


def test_excerpts_and_sound_are_parts_of_the_whole(made: Path) -> None:
    data = opened(made)
    for clip in range(6):
        whole = data.whole(clip)
        assert len(whole) == data.length(clip)
        for start in (0, 1, 798, 2499, 9000):
            rest = whole[start : start + 800]
            np.testing.assert_array_equal(
                data.excerpt(clip, start), np.pad(rest, (0, 800 - len(rest)))
            )
        np.testing.assert_array_equal(read_waveform(data.sound(clip), RATE), whole)
        assert data.stored_waveform(clip).dtype == np.int16


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


def test_the_fingerprint_tells_it_from_its_source_and_from_others(folder: Path) -> None:
    plain = read_index(folder)
    digests = {plain.source.digest}
    for changes in (
        {}, {"sampling_rate": 500}, {"resampler": "other"}, {"skipped": (("x", 0, "broken"),)},
        {"cut": 1, "seconds": 2.5}, {"source": replace(plain.source, digest="other")},
    ):  # fmt: skip
        write_index(folder, plain)
        index = changed(folder, **changes)
        assert read_index(folder) == index
        fingerprint = opened(folder, rate=index.sampling_rate).fingerprint
        assert fingerprint.digest not in digests
        digests.add(fingerprint.digest)
    write_index(folder, plain)
    before = opened(folder).fingerprint
    changed(folder, clipped=3, clipped_clips=("5.wav",))
    fingerprint = opened(folder).fingerprint
    assert fingerprint.digest == before.digest
    assert set(fingerprint.notes) - set(before.notes) == {
        "3 samples of 1 clips beyond ±1 were clipped: 5.wav"
    }


def test_what_changed_since_is_other_data(folder: Path) -> None:
    digests = [opened(folder).fingerprint.digest, opened(folder).fingerprint.digest]
    stored = np.fromfile(folder / SAMPLES, dtype="<i2")
    stored[-2400] ^= 1  # in the middle of the longest clip
    stored.tofile(folder / SAMPLES)
    digests.append(opened(folder).fingerprint.digest)
    write_clips(folder, columns(folder, targets=columns(folder)["targets"][::-1]))
    digests.append(opened(folder).fingerprint.digest)
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_prepared_clips_are_those_of_their_folder(made: Path, tmp_path: Path) -> None:
    root, spec = tmp_path / "own", DataSpec(name="manifest", seconds=1.0)
    write_manifest(root)
    listed = (root / "manifest.csv").rename(root / "other.csv")
    prepare_data(Preparation("manifest", listed, 16000))  # beside a list of another name
    folder = root / "other" / "prepared-16000"
    assert not isinstance(open_dataset(spec, 16000, listed), PreparedDataset)
    listed.write_text(listed.read_text().replace(",train", ",trian", 1))  # or changed, or removed
    assert isinstance(open_dataset(spec, 16000, folder), PreparedDataset)


def test_prepared_clips_are_found_beside_other_data(made: Path, tmp_path: Path) -> None:
    other = copied(made, tmp_path / "data" / "other")
    assert find_folders(tmp_path / "data") == {"manifest": other}
    written = write_openmic_hdf5(tmp_path / "data" / "z", rate=8000, seconds=0.1)
    source = read_index(made).source
    changed(copied(made, tmp_path / "data" / "a"), source=replace(source, dataset="openmic"))
    assert find_folders(tmp_path / "data")["openmic"] == written.root


def _cut_off(path: Path) -> bytes:
    """The last ten samples, which the file then lacks."""
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    return data[-20:]


# What is wrong → (how the folder comes to it, what the message says).
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut samples": (
        lambda folder: os.truncate(folder / SAMPLES, 11000),
        "11000 bytes of samples, but the index states 33600",
    ),
    "no samples": (lambda folder: (folder / SAMPLES).unlink(), "0 bytes of samples, but the index"),
    "clips in two files": (
        lambda folder: (folder / shard_name(1)).write_bytes(_cut_off(folder / SAMPLES)),
        "clips.npz: clips that end before they begin, or in another file",
    ),
    "cut columns": (lambda folder: os.truncate(folder / CLIPS, 500), "clips.npz: not readable"),
    "fewer clips": (
        lambda folder: write_clips(
            folder, {n: column[: 1 + (n == "offsets")] for n, column in columns(folder).items()}
        ),
        "1 clips, but the index states 6",
    ),
    "crossing clips": (
        lambda folder: write_clips(
            folder, columns(folder, offsets=[0, 5000, 20, 30, 40, 50, 16800])
        ),
        "clips.npz: clips that end before they begin",
    ),
    "no JSON": (
        lambda folder: (folder / INDEX).write_text("{"),
        "prepared.json: not valid JSON",
    ),
    "HDF5": (
        lambda folder: changed(folder, form="hdf5"),
        "prepared.json: form = 'hdf5': Input should be 'int16'.",
    ),
    "newer": (
        lambda folder: changed(folder, schema=99),
        "schema = 99: unknown version of the schema",
    ),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_broken_folders_are_refused(wrong: str, folder: Path) -> None:
    spoil, message = BROKEN[wrong]
    spoil(folder)
    with pytest.raises(InputError) as error:
        opened(folder)
    assert str(folder) in str(error.value)
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
def test_what_does_not_fit_is_refused(spec: DataSpec, rate: int, field: str, folder: Path) -> None:
    changed(folder, cut=2, seconds=2.5)
    assert opened(folder).fingerprint.found == 6
    with pytest.raises(InputError) as error:
        open_dataset(spec, rate, folder)
    assert error.value.field == field
