"""The reader of the ESC-50 layout, on folders written here and on real recordings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from esc_layout import COLUMNS, rows_of, write_meta
from sounds import sound, write_sound

from passt_bench.data import open_dataset
from passt_bench.data.layout import FolderDataset
from passt_bench.errors import InputError
from passt_bench.spec.recipe import DataSpec


def read(root: Path, rate: int = 8000, **fields: object) -> FolderDataset:
    spec = DataSpec(name="esc50", **{"seconds": 0.1, **fields})  # type: ignore[arg-type]
    found = open_dataset(spec, rate, root)
    assert isinstance(found, FolderDataset)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Thirty clips of 0.1 s at 8 kHz."""
    write_meta(tmp_path, rows_of())
    for number, row in enumerate(rows_of()):
        write_sound(tmp_path / "audio" / str(row["filename"]), sound(number, 0.1, 8000), 8000)
    return tmp_path


def test_labels_folds_and_sources(root: Path) -> None:
    data = read(root)
    found = data.fingerprint
    assert found.classes == ("dog", "rain", "sea_waves")
    assert not found.multi_label
    assert (found.expected, found.found, found.notes) == (30, 30, ())
    assert data.folds == (1, 2, 3, 4, 5)
    targets = [[0, 10, 11].index(int(name.split("-")[-1])) for name in data.ids]
    assert np.array_equal(data.targets[:], np.eye(3)[targets])
    assert list(data.sources) == [name.split("-")[1] for name in data.ids]


def test_fewer_clips_in_turn_over_the_classes(root: Path) -> None:
    data = read(root, train_clips=7, test_clips=3)
    train, test = data.split(2)
    assert set(np.bincount(data.targets[train].argmax(axis=1))) == {2, 3}
    assert list(np.bincount(data.targets[test].argmax(axis=1))) == [1, 1, 1]
    assert not set(train) & set(test)
    # The same was found; what is used of it stands in the recipe.
    assert data.fingerprint.digest == read(root).fingerprint.digest
    for fields in ({"train_clips": 25}, {"test_clips": 7}):
        with pytest.raises(InputError, match=r"data\.\w+_clips = \d+.*at most \d+"):
            read(root, **fields)


def test_refuses_folders_without_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"esc50\.csv: no such file. Give the folder"):
        read(tmp_path)
    write_meta(tmp_path, [])
    with pytest.raises(InputError, match="no clips"):
        read(tmp_path)
    write_meta(tmp_path, rows_of())
    with pytest.raises(InputError, match="30 of 30 clips are missing"):
        read(tmp_path)
    write_meta(tmp_path, rows_of(), tuple(name for name in COLUMNS if name != "fold"))
    with pytest.raises(InputError, match="fold: missing columns"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "0.5"}, "line 3: target = '0.5': not a whole number"),
        ({"category": ""}, "line 3: category = '': empty"),
        ({"category": "cat"}, "line 3: category = 'cat': target 0 is called 'dog' above"),
        ({"target": "1"}, "line 3: target = '1': 'dog' is target 0 above"),
        ({"fold": "100"}, "line 3: fold = '100': not a whole number below 100"),
        ({"filename": rows_of()[0]["filename"]}, "line 3: filename = .*listed twice"),
        ({"filename": "../../x.wav"}, r"line 3: filename = '\.\./\.\./x\.wav': leads out of the"),
    ],
)
def test_names_the_broken_row(root: Path, change: dict[str, object], message: str) -> None:
    rows = rows_of()
    rows[1] |= change
    write_meta(root, rows)
    with pytest.raises(InputError, match=message):
        read(root)


@pytest.mark.data
@pytest.mark.skipif("PASST_BENCH_DATA" not in os.environ, reason="PASST_BENCH_DATA is not set")
def test_real_recordings() -> None:
    data = read(Path(os.environ["PASST_BENCH_DATA"]) / "esc10", rate=32000, seconds=5.0)
    assert data.fingerprint.found == data.fingerprint.expected == 400
    assert len(data.fingerprint.classes) == 10
    assert data.folds == (1, 2, 3, 4, 5)
    assert (data.targets[:].sum(axis=0) == 40).all()
    for fold in data.folds:
        train, test = data.split(fold)
        assert (len(train), len(test)) == (320, 80)
        assert not {data.sources[i] for i in train} & {data.sources[i] for i in test}
        wave = data.waveform(int(test[0]))
        assert wave.shape == (160000,)
        assert 1e-4 < wave.std() < 1
