"""Bad data in every form that a data set comes in: counted and named, or told when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from layouts import (
    Written,
    write_audioset_folder,
    write_audioset_hdf5,
    write_fsd50k_hdf5,
    write_manifest,
    write_openmic_hdf5,
)
from sounds import encoded, sound

from passt_bench.data import Dataset, open_dataset
from passt_bench.errors import InputError
from passt_bench.spec.recipe import DataSpec

SHORT = 0.3
BALANCED = "balanced_train_segments"
MANY = {"train": 22, "val": 4, "eval": 4}  # so that one lost clip is fewer than one in twenty


def opened(name: str, written: Written) -> Dataset:
    return open_dataset(DataSpec(name=name, seconds=SHORT), 16000, written.root)


def empty_row(path: Path, row: int = 0, data: bytes = b"") -> None:
    with h5py.File(path, "r+") as file:
        file["mp3"][row] = np.frombuffer(data, dtype=np.uint8)


def cut(path: Path) -> None:
    content = encoded(sound(1, 3.0, 16000), 16000, path.suffix[1:])
    path.write_bytes(content[: len(content) * 3 // 4])


def no_samples(path: Path) -> None:
    # The encoder of mp3 writes nothing at all of no samples; the other formats a header.
    path.unlink()
    soundfile.write(path, np.zeros(0), 16000, format="WAV")


def in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def forbid(path: Path) -> None:
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything, whatever its permissions")


LOST: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "no such file"),
    "empty": (lambda path: os.truncate(path, 0), "empty, 0 bytes"),
    "cut off": (cut, "cut off"),
    "without samples": (no_samples, "the file holds no samples"),
    "a folder": (in_its_place, "a folder"),
    "forbidden": (forbid, "cannot be read"),
    "no audio": (lambda path: path.write_bytes(b"no audio at all"), "not readable as audio"),
}


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_a_lost_file_is_counted_named_and_left_out(lost: str, kind: str, tmp_path: Path) -> None:
    spoil, reason = LOST[lost]
    written = write_manifest(tmp_path / "own", each=6, seconds=(SHORT,))
    whole = opened("manifest", written)
    clip = next(c for c in written.clips if c.name.endswith(kind))
    assert clip.path
    spoil(clip.path)
    data = opened("manifest", written)
    assert (data.fingerprint.found, data.fingerprint.expected) == (53, 54)
    assert data.fingerprint.digest != whole.fingerprint.digest
    assert clip.name not in data.ids
    (note,) = [note for note in data.fingerprint.notes if "left out" in note]
    assert f"{clip.name} ({reason}" in note
    assert str(tmp_path) not in note  # it goes into records
    table = data.clip_table()
    assert table is not None
    assert list(table.skipped.names) == [clip.name]
    assert table.skipped.targets is not None
    (labels,) = table.skipped.targets[np.arange(1)]
    assert np.flatnonzero(labels).tolist() == sorted(clip.labels)


def test_a_cut_mp3_of_audioset_is_counted_and_named(tmp_path: Path) -> None:
    written = write_audioset_folder(
        tmp_path / "as", {"balanced_train": 21, "eval": 4}, seconds=SHORT
    )
    path = written.clips[0].path
    assert path
    cut(path)
    data = opened("audioset", written)
    assert data.fingerprint.found == 24
    assert any(f"{written.clips[0].name} (cut off" in note for note in data.fingerprint.notes)


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


def nan_sound() -> bytes:
    samples = sound(5, SHORT, 16000)
    samples[10] = np.nan
    path = Path(os.environ["PYTEST_NAN"])
    soundfile.write(path, samples, 16000, subtype="FLOAT", format="WAV")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nan_sound, "NaN or infinity"),
        (lambda: b"no mp3", "not readable as audio"),
        (lambda: encoded(sound(5, 1.0, 32000), 32000, "mp3")[:4000], "cut off"),
        (lambda: encoded(sound(5, 0.0, 16000), 16000, "wav"), "no samples"),
    ],
    ids=["NaN", "no audio", "cut off", "without samples"],
)
def test_a_broken_row_is_named_when_it_is_asked_for(
    make: Callable[[], bytes], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_NAN", str(tmp_path / "nan.wav"))
    written = write_audioset_hdf5(tmp_path / "as", seconds=1.0)
    empty_row(written.root / f"{BALANCED}_mp3.hdf", 2, make())
    data = open_dataset(DataSpec(name="audioset", seconds=1.0), 16000, written.root)
    bad = list(data.ids).index(written.clips[2].name)
    with pytest.raises(InputError) as error:
        data.waveform(bad)
    for fragment in (f"{BALANCED}_mp3.hdf row 2", written.clips[2].name, says):
        assert fragment in str(error.value)
    assert np.isfinite(data.waveform(bad + 1)).all()


def test_nan_in_a_file_ends_at_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_NAN", str(tmp_path / "nan.wav"))
    written = write_manifest(tmp_path / "own", seconds=(SHORT,))
    clip = written.clips[0]
    assert clip.path
    clip.path.write_bytes(nan_sound())
    data = opened("manifest", written)
    with pytest.raises(InputError, match="NaN or infinity") as error:
        data.waveform(list(data.ids).index(clip.name))
    assert str(clip.path) in str(error.value)


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


def test_a_link_out_of_the_folder_is_allowed_for_it_was_put_there(tmp_path: Path) -> None:
    written = write_manifest(tmp_path / "own", seconds=(SHORT,))
    (written.root / "audio").rename(tmp_path / "elsewhere")
    (written.root / "audio").symlink_to(tmp_path / "elsewhere")
    assert opened("manifest", written).fingerprint.found == len(written.clips)
