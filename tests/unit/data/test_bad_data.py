"""Empty rows, silence and classes without a clip, by data set."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from layouts import (
    Written,
    write_audioset_hdf5,
    write_fsd50k_hdf5,
    write_manifest,
    write_openmic_hdf5,
)

from passt_bench.data import Dataset, open_dataset
from passt_bench.spec.recipe import DataSpec

SHORT = 0.3
BALANCED = "balanced_train_segments"
MANY = {"train": 22, "val": 4, "eval": 4}  # so that one lost clip is fewer than one in twenty


def opened(name: str, written: Written) -> Dataset:
    return open_dataset(DataSpec(name=name, seconds=SHORT), 16000, written.root)


def empty_row(path: Path, row: int = 0, data: bytes = b"") -> None:
    with h5py.File(path, "r+") as file:
        file["mp3"][row] = np.frombuffer(data, dtype=np.uint8)


@pytest.mark.parametrize("name", ["audioset", "fsd50k", "openmic"])
def test_an_empty_row_is_counted_and_named(name: str, tmp_path: Path) -> None:
    write, counts, file = {
        "audioset": (
            write_audioset_hdf5, {"balanced_train": 22, "eval": 4}, f"{BALANCED}_mp3.hdf"
        ),
        "fsd50k": (write_fsd50k_hdf5, MANY, "FSD50K.train_mp3.hdf"),
        "openmic": (write_openmic_hdf5, {"train": 22, "test": 4}, "openmic_train.csv_mp3.hdf"),
    }[name]  # fmt: skip
    written = write(tmp_path / name, counts, seconds=SHORT)
    empty_row(written.root / file, 3)
    data = opened(name, written)
    assert data.fingerprint.found == len(written.clips) - 1
    lost = written.clips[3].name
    assert any("1 rows without sound" in note and lost in note for note in data.fingerprint.notes)
    assert lost not in set(data.ids)
    # Rows and labels stay together behind the gap.
    place = list(data.ids).index(written.clips[4].name)
    np.testing.assert_array_equal(data.targets[place], written.targets()[4])


def test_digital_silence_is_sound(tmp_path: Path) -> None:
    written = write_manifest(tmp_path / "own", seconds=(SHORT,))
    clip = written.clips[0]
    assert clip.path
    soundfile.write(clip.path, np.zeros(8000), 16000)
    data = opened("manifest", written)
    assert data.fingerprint.found == len(written.clips)
    assert not data.waveform(list(data.ids).index(clip.name)).any()


def test_a_class_without_a_positive_is_noted(tmp_path: Path) -> None:
    written = write_manifest(tmp_path / "own", seconds=(SHORT,))
    manifest = written.root / "manifest.csv"
    rows = manifest.read_text().splitlines()
    manifest.write_text("\n".join(r for r in rows if "bell" not in r or "train" in r) + "\n")
    notes = opened("manifest", written).fingerprint.notes
    assert any("1 classes without a clip in test: bell" in note for note in notes)
