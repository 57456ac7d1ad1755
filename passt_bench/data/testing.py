"""Contract tests for data sets, to be subclassed by plug-ins.

A data set is registered in `registry.DATASETS` under a function of data spec, sampling rate and
folder that opens it as a `data.Dataset`. It must be possible to pickle it, because every process of
a study gets it from the one that opened it.

In the tests of a plug-in, for pytest::

    class TestMyData(DatasetContract):
        spec = DataSpec("my_data", seconds=0.5)
        root = Path("my_clips")

Nothing here needs pytest: each check is a method ``test_…`` that raises `ContractError`.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np

from passt_bench.data import Dataset, open_dataset
from passt_bench.data.dataset import SCALE
from passt_bench.errors import InputError, require, require_error
from passt_bench.spec.recipe import DataSpec

_READ = 4  # clips of each split that are read


class DatasetContract:
    """What every data set must do; choose a spec with which it is checked in a second.

    ``root`` is its folder; a procedural data set has none.
    """

    spec: DataSpec
    sampling_rate = 16000
    root: Path | None = None

    def open(self, train_clips: int | None = None, test_clips: int | None = None) -> Dataset:
        """Opens all clips, or the given number in each split."""
        spec = replace(self.spec, train_clips=train_clips, test_clips=test_clips)
        return open_dataset(spec, self.sampling_rate, self.root)

    def test_clips(self) -> None:
        """Names, sources, labels and fingerprint describe the same clips."""
        data = self.open()
        clips, found = len(data.ids), data.fingerprint
        require(found.dataset == self.spec.name, "the fingerprint must have the registered name")
        require(bool(found.digest), "the fingerprint must have a digest")
        problem = f"the fingerprint must count {clips} clips, not {found.found}"
        require(found.found == clips, problem)
        require(len(set(data.ids)) == clips > 0, "each clip must have a unique name")
        require(len(data.sources) == clips, "each clip must have a source")
        shape = (clips, len(found.classes))
        require(tuple(data.targets.shape) == shape, f"targets must be (clips, classes) = {shape}")
        labels = data.targets[np.arange(clips)]
        known = labels[~np.isnan(labels)]
        require(bool(np.isin(known, (0, 1)).all()), "targets must be 0, 1 or NaN")
        single = bool((np.nansum(labels, axis=1) == 1).all())
        require(found.multi_label or single, "a clip of single-label data must have one class")

    def test_splits(self) -> None:
        """Training, test and validation clips do not overlap; each fold is held out."""
        data = self.open()
        validation = data.validation()
        for train, test in _splits(data):
            parts = [train, test] if validation is None or data.folds else [train, test, validation]
            together = np.concatenate(parts)
            require(len(np.unique(together)) == len(together), "no clip may be in two splits")
            inside = (together >= 0) & (together < len(data.ids))
            require(bool(inside.all()), "splits must be indices of clips")
            require(len(test) > 0, "there must be test clips")
        if data.folds:
            problem = "a fold that does not exist must raise InputError"
            require_error(lambda: data.split(max(data.folds) + 1), InputError, problem)

    def test_numbers(self) -> None:
        """The spec's numbers of clips are kept, with the same choice each time."""
        splits = _splits(self.open())
        train, test = (min(len(split[side]) for split in splits) for side in (0, 1))
        wanted = {"test_clips": max(1, test - 1)}
        wanted |= {"train_clips": max(1, train - 1)} if train else {}
        first, again = (_splits(self.open(**wanted)) for _ in range(2))
        for split in first:
            found = {"train_clips": len(split[0]), "test_clips": len(split[1])}
            problem = f"must have the numbers of the spec, {wanted}, not {found}"
            require(found.items() >= wanted.items(), problem)
        for one, two in zip(first, again, strict=True):
            require(all(map(np.array_equal, one, two)), "the choice must be the same each time")

    def test_waveforms(self) -> None:
        """Waveforms are mono float32 of the spec's length; excerpts are parts of the whole clip."""
        data = self.open()
        samples = round(self.spec.seconds * self.sampling_rate)
        for clip in _some(data):
            wave, length = data.waveform(clip), data.length(clip)
            require(wave.dtype == np.float32, f"samples must be float32, not {wave.dtype}")
            require(wave.shape == (samples,), f"waveforms must be ({samples},), not {wave.shape}")
            require(bool(np.isfinite(wave).all()), "samples must be finite")
            require(np.array_equal(wave, data.waveform(clip)), "a clip must be the same each time")
            same = np.array_equal(wave, data.excerpt(clip, 0))
            require(same, "an excerpt from 0 must be the waveform")
            stored = data.stored_waveform(clip)
            scale = SCALE if stored.dtype == np.int16 else 1
            require(np.array_equal(stored / scale, wave), "what is stored must be the waveform")
            if length is not None and length > samples:
                last, whole = data.excerpt(clip, length - samples), data.whole(clip)
                problem = f"a whole clip must have {length} samples, not {len(whole)}"
                require(len(whole) == length, problem)
                same = np.allclose(last, whole[-samples:], atol=1e-4)
                require(same, "an excerpt must be part of the clip")

    def test_fingerprint(self) -> None:
        """Opened again, the data have the same fingerprint."""
        first, again = self.open().fingerprint, self.open().fingerprint
        require(first == again, "the fingerprint must be the same each time")

    def test_shared(self) -> None:
        """Another process gets the same data set."""
        data = self.open()
        copy: Dataset = pickle.loads(pickle.dumps(data))
        require(copy.fingerprint == data.fingerprint, "the fingerprint must be passed on")
        require(list(copy.ids) == list(data.ids), "names must be passed on")
        require(list(copy.sources) == list(data.sources), "sources must be passed on")
        for one, two in zip(_splits(copy), _splits(data), strict=True):
            require(all(map(np.array_equal, one, two)), "splits must be passed on")
        clips = np.arange(len(data.ids))
        same = np.array_equal(copy.targets[clips], data.targets[clips], equal_nan=True)
        require(same, "targets must be passed on")
        for clip in _some(data):
            same = np.array_equal(copy.waveform(clip), data.waveform(clip))
            require(same, "clips must be the same")

    def test_clip_table(self) -> None:
        """The clip table, if there is one, lists the same clips."""
        data = self.open()
        table = data.clip_table()
        if table is None:
            return
        require(list(table.names) == list(data.ids), "the clip table must list the clips in order")
        columns = {"split", "seconds", "rate", "channels"}
        require(columns <= {*table.clips}, f"the clip table must have the columns {columns}")
        lengths = {len(table.sources), len(table.clips)}
        require(lengths == {len(table)}, "each column must have a row per clip")
        require(len(table.expected) == len(table.splits), "`expected` must have an entry per split")
        inside = (table.split >= 0) & (table.split < len(table.splits))
        require(bool(inside.all()), "each clip must be in a split")


def _splits(data: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [data.split(fold) for fold in data.folds or (None,)]


def _some(data: Dataset) -> list[int]:
    """A few clips of each side of the first split."""
    return [int(clip) for part in _splits(data)[0] for clip in part[:_READ]]
