"""Lists, labels and targets that cannot be right are refused, with file, field and remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import (
    Written,
    write_audioset_folder,
    write_audioset_hdf5,
    write_dcase20,
    write_fsd50k,
    write_fsd50k_hdf5,
    write_manifest,
    write_openmic,
    write_openmic_hdf5,
)

from passt_bench.data import Dataset, open_dataset
from passt_bench.errors import InputError
from passt_bench.spec.recipe import DataSpec

Spoil = Callable[[Written], object]
SHORT = 0.3


def opened(name: str, written: Written) -> Dataset:
    return open_dataset(DataSpec(name=name, seconds=SHORT), 16000, written.root)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def append(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text()}{line}\n")


def rewrite(path: Path, column: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Puts another column into an HDF5 file."""
    with h5py.File(path, "r+") as file:
        values = change(file[column][:])
        del file[column]
        file.create_dataset(column, data=values)


def empty_row(path: Path, row: int = 0, data: bytes = b"") -> None:
    with h5py.File(path, "r+") as file:
        file["mp3"][row] = np.frombuffer(data, dtype=np.uint8)


def with_a_bit_beyond(bits: np.ndarray) -> np.ndarray:
    bits[0, -1] |= 1
    return bits


def with_nan(values: np.ndarray) -> np.ndarray:
    values[0, 0] = np.nan
    return values


def npz(written: Written, **changes: Callable[[np.ndarray], np.ndarray]) -> None:
    """Changes arrays of OpenMIC's labels."""
    path = written.root / "openmic-2018.npz"
    with np.load(path, allow_pickle=True) as file:
        arrays = {name: file[name] for name in file}
    np.savez(path, **(arrays | {name: change(arrays[name]) for name, change in changes.items()}))


@dataclass(frozen=True)
class Refused:
    """What a data set is refused for: how it comes about, and what the message says."""

    name: str
    write: Callable[..., Written]
    spoil: Spoil
    says: tuple[str, ...]


BALANCED = "balanced_train_segments"
REFUSED = {
    "AudioSet: targets too narrow": Refused(
        "audioset", write_audioset_hdf5,
        lambda w: rewrite(w.root / f"{BALANCED}_mp3.hdf", "target", lambda t: t[:, :65]),
        (f"{BALANCED}_mp3.hdf", "target = 'uint8 (6, 65)'", "527", "uint8 (N, 66)"),
    ),
    "AudioSet: targets that are not packed": Refused(
        "audioset", write_audioset_hdf5,
        lambda w: rewrite(w.root / "eval_segments_mp3.hdf", "target", lambda t: t.astype("f4")),
        ("eval_segments_mp3.hdf", "target", "packed bits", "uint8 (N, 66)"),
    ),
    "AudioSet: a label beyond the last class": Refused(
        "audioset", write_audioset_hdf5,
        lambda w: rewrite(w.root / f"{BALANCED}_mp3.hdf", "target", with_a_bit_beyond),
        (f"{BALANCED}_mp3.hdf", "target", "row 0", "beyond the last of 527"),
    ),
    "AudioSet: a column is gone": Refused(
        "audioset", write_audioset_hdf5,
        lambda w: rewrite(w.root / "eval_segments_mp3.hdf", "audio_name", lambda n: n[:2]),
        ("eval_segments_mp3.hdf", "audio_name = {'audio_name': 2"),
    ),
    "AudioSet: an HDF5 file that is cut off": Refused(
        "audioset", write_audioset_hdf5,
        lambda w: os.truncate(w.root / "eval_segments_mp3.hdf", 3000),
        ("eval_segments_mp3.hdf", "not readable as HDF5"),
    ),
    "AudioSet: a machine id that the classes lack": Refused(
        "audioset", write_audioset_folder,
        lambda w: replace(w.root / f"{BALANCED}.csv", '"/m/', '"/m/none,/m/'),
        (f"{BALANCED}.csv line 4", "positive_labels = '/m/none,", "lacks '/m/none'"),
    ),
    "AudioSet: a row without labels": Refused(
        "audioset", write_audioset_folder,
        lambda w: append(w.root / "eval_segments.csv", 'abcdefghijk, 0.000, 10.000, ""'),
        ("eval_segments.csv line 9", "positive_labels = ''", "empty"),
    ),
    "FSD50K: a label that the vocabulary lacks": Refused(
        "fsd50k", write_fsd50k,
        lambda w: append(w.root / "FSD50K.ground_truth/dev.csv", '1,"Unheard_of",/m/0,train'),
        ("dev.csv line", "labels = 'Unheard_of'", "vocabulary.csv lacks 'Unheard_of'"),
    ),
    "FSD50K: a split that there is not": Refused(
        "fsd50k", write_fsd50k,
        lambda w: replace(w.root / "FSD50K.ground_truth/dev.csv", ",train\n", ",test\n"),
        ("dev.csv line 2", "split = 'test'", "There are train, val"),
    ),
    "FSD50K: HDF5 of another vocabulary": Refused(
        "fsd50k", write_fsd50k_hdf5,
        lambda w: append(w.root / "vocabulary.csv", "200,Zzz,/m/z"),
        ("FSD50K.", "target", "packed bits of 201 classes"),
    ),
    "OpenMIC: labels without masks": Refused(
        "openmic", write_openmic_hdf5,
        lambda w: rewrite(w.root / "openmic_test.csv_mp3.hdf", "target", lambda t: t[:, :20]),
        ("openmic_test.csv_mp3.hdf", "target", "float32 (N, 40)"),
    ),
    "OpenMIC: NaN among the labels of HDF5": Refused(
        "openmic", write_openmic_hdf5,
        lambda w: rewrite(w.root / "openmic_train.csv_mp3.hdf", "target", with_nan),
        ("openmic_train.csv_mp3.hdf", "target", "row 0", "NaN"),
    ),
    "OpenMIC: NaN among the labels": Refused(
        "openmic", write_openmic, lambda w: npz(w, Y_true=with_nan),
        ("openmic-2018.npz", "Y_true", "NaN or infinity"),
    ),
    "OpenMIC: a narrower table": Refused(
        "openmic", write_openmic, lambda w: npz(w, Y_mask=lambda mask: mask[:, :19]),
        ("openmic-2018.npz", "masks (13, 19)", "published file"),
    ),
    "OpenMIC: a clip without labels": Refused(
        "openmic", write_openmic,
        lambda w: append(w.root / "partitions/split01_test.csv", "999999_0"),
        ("split01_test.csv line 6", "999999_0", "no labels"),
    ),
    "DCASE20: a scene that there is not": Refused(
        "dcase20", write_dcase20,
        lambda w: append(w.root / "evaluation_setup/fold1_train.csv", "audio/a-b-1-2-a.wav\tmoon"),
        ("fold1_train.csv line 32", "scene_label", "moon"),
    ),
    "manifest: an empty row": Refused(
        "manifest", write_manifest, lambda w: append(w.root / "manifest.csv", ",,"),
        ("manifest.csv line 20", "path = ''", "empty"),
    ),
    "manifest: a row without a split": Refused(
        "manifest", write_manifest, lambda w: append(w.root / "manifest.csv", "audio/x.wav,bell"),
        ("manifest.csv line 20", "2 values for 3 columns"),
    ),
    "manifest: a label that classes.txt lacks": Refused(
        "manifest", write_manifest,
        lambda w: (w.root / "classes.txt").write_text("bell\nengine\n"),
        ("manifest.csv line", "classes.txt lacks 'voice'", "classes.txt"),
    ),
    "manifest: a path that climbs out": Refused(
        "manifest", write_manifest,
        lambda w: append(w.root / "manifest.csv", "audio/../../x.wav,bell,train"),
        ("manifest.csv line 20", "audio/../../x.wav", "leads out of the folder", "link"),
    ),
    "manifest: an absolute path": Refused(
        "manifest", write_manifest,
        lambda w: append(w.root / "manifest.csv", "/etc/passwd,bell,train"),
        ("manifest.csv line 20", "/etc/passwd", "leads out of the folder", "link"),
    ),
    "manifest: the same clip again": Refused(
        "manifest", write_manifest,
        lambda w: append(w.root / "manifest.csv", "./audio/test-00.wav,bell,train"),
        ("manifest.csv line 20", "path", "listed twice"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_is_refused_names_file_field_and_remedy(wrong: str, tmp_path: Path) -> None:
    case = REFUSED[wrong]
    extra = {"seconds": (SHORT,) if case.write is write_manifest else SHORT}
    written = case.write(tmp_path / "data", **extra)
    case.spoil(written)
    with pytest.raises(InputError) as error:
        opened(case.name, written)
    assert error.value.remedy
    for fragment in (str(written.root), *case.says):
        assert fragment in str(error.value), str(error.value)
