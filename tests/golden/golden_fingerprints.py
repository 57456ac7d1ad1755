"""Fingerprints of a small folder for each data set and each form of storage.

Names and labels are those of `layouts`. What would come from an encoder is replaced by WAV files of
known numbers, for its bytes may be others with the next libsndfile; so a digest depends on no
version of a library but on NumPy's draw of AudioSet's video names. Of an HDF5 file the digest takes
names, labels, sizes and sound, and not the bytes around them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Case:
    name: str
    write: Callable[[Path], object] = lambda root: None
    prepared: bool = False
    spec: DataSpec = WHOLE


small: dict[str, Any] = {"rate": RATE, "seconds": 0.2}
audioset = partial(layouts.write_audioset_folder, ending="wav", **small)
audioset_hdf5 = partial(layouts.write_audioset_hdf5, **small)
dcase20 = partial(layouts.write_dcase20, **small)
esc50 = partial(layouts.write_esc50, **small)
fsd50k = partial(layouts.write_fsd50k, **small)
fsd50k_hdf5 = partial(layouts.write_fsd50k_hdf5, **small)
openmic = partial(layouts.write_openmic, **small)
openmic_hdf5 = partial(layouts.write_openmic_hdf5, **small)
manifest = partial(layouts.write_manifest, seconds=(0.2, 0.15, 0.3))
CASES: dict[str, Case] = {
    "synthetic": Case("synthetic"),
    "synthetic, few": Case("synthetic", spec=FEW),
    "esc50": Case("esc50", esc50),
    "esc50, few": Case("esc50", esc50, spec=FEW),
    "esc50, two lost": Case("esc50", lossy),
    "esc50, prepared": Case("esc50", esc50, prepared=True),
    "audioset, files": Case("audioset", audioset),
    "audioset, HDF5": Case("audioset", audioset_hdf5),
    "audioset, HDF5, one empty": Case("audioset", empty_row),
    "audioset, prepared": Case("audioset", audioset, prepared=True),
    "fsd50k, files": Case("fsd50k", fsd50k),
    "fsd50k, HDF5": Case("fsd50k", fsd50k_hdf5),
    "fsd50k, prepared": Case("fsd50k", fsd50k, prepared=True),
    "openmic, files": Case("openmic", openmic),
    "openmic, HDF5": Case("openmic", openmic_hdf5),
    "openmic, prepared": Case("openmic", openmic, prepared=True),
    "dcase20": Case("dcase20", dcase20),
    "manifest with splits": Case("manifest", manifest),
    "manifest with folds": Case("manifest", partial(manifest, folds=3, multi_label=True)),
    "manifest of stretches": Case("manifest", stretches),
    "manifest of stretches, prepared": Case("manifest", stretches, prepared=True),
}


def opened(case: Case, root: Path) -> Dataset:
    spec = replace(case.spec, name=case.name)
    root.mkdir(parents=True)
    sound = KnownSounds()
    with (
        mock.patch.object(sounds, "encoded", sound),
        mock.patch.object(layouts, "encoded", sound),
    ):
        case.write(root)
    if case.prepared:
        asked = Preparation(case.name, root, RATE)
        prepare_data(asked)
        root = asked.folder
    return open_dataset(spec, RATE, None if case.name == "synthetic" else root)


def told(dataset: Dataset) -> dict[str, Any]:
    """The fingerprint as a record holds it, long lists by their hash; and a hash of all clips."""
    found: dict[str, Any] = to_plain(dataset.fingerprint)
    found.pop("folder", None)  # a title, no content
    for name in ("classes", "groups"):
        found[name] = [len(found[name]), digest(found[name])]
    targets = np.nan_to_num(np.asarray(dataset.targets[np.arange(len(dataset.ids))]), nan=2)
    splits = [[part.tolist() for part in dataset.split(fold)] for fold in dataset.folds or (None,)]
    clips = [list(dataset.ids), list(dataset.sources), targets.tolist(), splits]
    return found | {"clips": digest(clips)}


def made(folder: Path) -> dict[str, Any]:
    found = {name: told(opened(case, folder / name)) for name, case in CASES.items()}
    return {"fingerprints": found}
