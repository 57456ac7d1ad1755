"""Fingerprints of a small folder for each data set and each form of storage.

Names and labels are those of `layouts`. What would come from an encoder is replaced by WAV files of
known numbers, for its bytes may be others with the next libsndfile; so a digest depends on no
version of a library but on NumPy's draw of AudioSet's video names. Of an HDF5 file the digest takes
names, labels, sizes and sound, and not the bytes around them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import known_weights
import layouts
import numpy as np
import sounds
from golden_sounds import chunk, fmt, wav

from passt_bench.data import Dataset, open_dataset
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.spec import DataSpec
from passt_bench.spec.codec import to_plain
from passt_bench.spec.key import digest

RATE = 8000
WHOLE = DataSpec(seconds=0.2)
FEW = replace(WHOLE, train_clips=9, test_clips=3, seed=3)


def known(name: str, *shape: int, rate: int = RATE) -> bytes:
    data = np.rint(known_weights.numbers(name, shape) * 16384).astype("<i2").tobytes()
    return wav(fmt(channels=(*shape, 1)[1], rate=rate), chunk(b"data", data))


class KnownSounds:
    """Stands in for an encoder: each sound has the shape that was asked for, and known samples."""

    count = 0

    def __call__(self, samples: np.ndarray, rate: int, ending: str) -> bytes:
        self.count += 1
        return known(f"clip {self.count}", *samples.shape, rate=rate)


def lossy(root: Path) -> None:
    """ESC-50 of which one file is missing, and another is an empty one."""
    esc50(root, each=3)
    first, second, *_ = sorted(root.rglob("*.wav"))
    first.unlink()
    second.write_bytes(b"")


def empty_row(root: Path) -> None:
    """HDF5 files in which one of many rows is without sound."""
    for part in ("balanced_train", "eval"):
        names = [f"Y{part[0]}{number:010}.mp3" for number in range(24)]
        data = [known(name, 80) for name in names]
        data[7] = b"" if part == "eval" else data[7]
        target = np.packbits(np.eye(24, 527) > 0, axis=-1)
        layouts.write_hdf5(root / f"{part}_segments_mp3.hdf", names, data, target)


def stretches(root: Path) -> None:
    """A manifest with stretches, sources, folds, a list of classes, and an end beyond the file."""
    rows = ["path,labels,fold,start,end,source"]
    for fold, name in enumerate(("one", "two"), 1):
        (root / f"{name}.wav").write_bytes(known(name, RATE))
        for start, label in ((0, "b"), (0.5, "a;b"), (0.875, "a")):
            rows.append(f"{name}.wav,{label},{fold},{start},{start + 0.25},from {name}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / "classes.txt").write_text("b\na\nc\n", encoding="utf-8")


def known_row(name: str, wave: np.ndarray, rate: int) -> bytes:
    return known(name, 1600)


Write = Callable[[Path], object]


def nothing(root: Path) -> None:
    """The data set makes its clips itself."""


small: dict[str, Any] = {"rate": RATE, "seconds": 0.2}
esc50 = partial(layouts.write_esc50, **small)
audioset = partial(layouts.write_audioset_folder, ending="wav", **small)
manifest = partial(layouts.write_manifest, seconds=(0.2, 0.15, 0.3))
BOTH_FORMS: dict[str, tuple[Write, Write]] = {
    "fsd50k": (layouts.write_fsd50k, layouts.write_fsd50k_hdf5),
    "openmic": (layouts.write_openmic, layouts.write_openmic_hdf5),
}
# A name begins with that of the data set, and may end with the form in which it is prepared.
CASES: dict[str, Write] = {
    "synthetic": nothing,
    "synthetic, few": nothing,
    "esc50": esc50,
    "esc50, few": esc50,
    "esc50, two lost": lossy,
    "esc50, prepared": esc50,
    "audioset, files": audioset,
    "audioset, HDF5": partial(layouts.write_audioset_hdf5, **small),
    "audioset, HDF5, one empty": empty_row,
    "audioset, prepared": audioset,
    "dcase20": partial(layouts.write_dcase20, **small),
    "manifest with splits": manifest,
    "manifest with folds": partial(manifest, folds=3, multi_label=True),
    "manifest of stretches": stretches,
    "manifest of stretches, prepared": stretches,
    "manifest of stretches, prepared HDF5": stretches,
}
for _name, (_files, _hdf5) in BOTH_FORMS.items():
    CASES[f"{_name}, HDF5"] = partial(_hdf5, **small)
    for _form in ("files", "prepared", "prepared HDF5"):
        CASES[f"{_name}, {_form}"] = partial(_files, **small)


def data_set(case: str) -> str:
    return case.replace(",", "").split()[0]


def opened(case: str, root: Path) -> Dataset:
    name = data_set(case)
    spec = replace(FEW if case.endswith("few") else WHOLE, name=name)
    root.mkdir(parents=True)
    sound = KnownSounds()
    with (
        mock.patch.object(sounds, "encoded", sound),
        mock.patch.object(layouts, "encoded", sound),
    ):
        CASES[case](root)
    if "prepared" in case:
        asked = Preparation(name, root, RATE)
        prepare_data(asked)
        root = asked.folder
    if case.endswith("prepared HDF5"):
        root = layouts.write_prepared_hdf5(root, root.with_name(f"hdf5-{RATE}"), known_row)
    return open_dataset(spec, RATE, None if name == "synthetic" else root)


def told(dataset: Dataset) -> dict[str, Any]:
    """The fingerprint as a record holds it, long lists by their hash; and a hash of all clips."""
    found: dict[str, Any] = to_plain(dataset.fingerprint)
    for name in ("classes", "groups"):
        found[name] = [len(found[name]), digest(found[name])]
    targets = np.nan_to_num(np.asarray(dataset.targets[np.arange(len(dataset.ids))]), nan=2)
    splits = [[part.tolist() for part in dataset.split(fold)] for fold in dataset.folds or (None,)]
    clips = [list(dataset.ids), list(dataset.sources), targets.tolist(), splits]
    return found | {"clips": digest(clips)}


def made(folder: Path) -> dict[str, Any]:
    return {"fingerprints": {name: told(opened(name, folder / name)) for name in CASES}}
