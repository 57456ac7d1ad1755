"""Checks of what every data set must do, for this package's and for those of plug-ins.

A data set is registered in `registry.DATASETS` under a function of data spec, sampling rate and
folder that opens it as a `data.Dataset`. It must be possible to pickle it, because every process of
a study gets it from the one that opened it.

A check raises `ContractError` that says what is broken, and needs no test framework::

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_data(check):
        check(Subject(DataSpec("my_data", seconds=0.5), 16000, folder))
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from passt_bench.data import Dataset, open_dataset
from passt_bench.data.shared import SharedDataset
from passt_bench.errors import ContractError, InputError
from passt_bench.spec.recipe import DataSpec

_READ = 4  # clips of each split that are read


@dataclass(frozen=True)
class Subject:
    """A registered data set, small enough to be checked in a second; procedural without a root."""

    spec: DataSpec
    sampling_rate: int = 16000
    root: Path | None = None

    def open(self, train_clips: int | None = None, test_clips: int | None = None) -> Dataset:
        """Opens all clips, or the given number in each split."""
        spec = replace(self.spec, train_clips=train_clips, test_clips=test_clips)
        return open_dataset(spec, self.sampling_rate, self.root)


def _require(kept: bool, what: str) -> None:
    if not kept:
        raise ContractError(what)


def _splits(data: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [data.split(fold) for fold in data.folds or (None,)]


def check_clips(subject: Subject) -> None:
    """Names, sources, labels and fingerprint describe the same clips."""
    data = subject.open()
    clips, found = len(data.ids), data.fingerprint
    _require(found.dataset == subject.spec.name, "the fingerprint must have the registered name")
    _require(bool(found.digest), "the fingerprint must have a digest")
    _require(found.found == clips, f"the fingerprint must count {clips} clips, not {found.found}")
    _require(len(set(data.ids)) == clips > 0, "each clip must have a unique name")
    _require(len(data.sources) == clips, "each clip must have a source")
    shape = (clips, len(found.classes))
    _require(tuple(data.targets.shape) == shape, f"targets must be (clips, classes) = {shape}")
    labels = data.targets[np.arange(clips)]
    known = labels[~np.isnan(labels)]
    _require(bool(np.isin(known, (0, 1)).all()), "targets must be 0, 1 or NaN")
    single = bool((np.nansum(labels, axis=1) == 1).all())
    _require(found.multi_label or single, "a clip of single-label data must have one class")


def check_splits(subject: Subject) -> None:
    """Training, test and validation clips do not overlap; each fold is held out."""
    data = subject.open()
    validation = data.validation()
    for train, test in _splits(data):
        parts = [train, test] if validation is None or data.folds else [train, test, validation]
        together = np.concatenate(parts)
        _require(len(np.unique(together)) == len(together), "no clip may be in two splits")
        inside = (together >= 0) & (together < len(data.ids))
        _require(bool(inside.all()), "splits must be indices of clips")
        _require(len(test) > 0, "there must be test clips")
    try:
        data.split(max(data.folds, default=0) + 1)
    except InputError:
        return
    _require(not data.folds, "a fold that does not exist must raise InputError")


def check_numbers(subject: Subject) -> None:
    """The spec's numbers of clips are kept, with the same choice each time."""
    splits = _splits(subject.open())
    train, test = (min(len(split[side]) for split in splits) for side in (0, 1))
    wanted = {"test_clips": max(1, test - 1)} | (
        {"train_clips": max(1, train - 1)} if train else {}
    )
    first, again = (_splits(subject.open(**wanted)) for _ in range(2))
    for split in first:
        found = {"test_clips": len(split[1])} | ({"train_clips": len(split[0])} if train else {})
        _require(found == wanted, f"must have the numbers of the spec, {wanted}, not {found}")
    for one, two in zip(first, again, strict=True):
        _require(all(map(np.array_equal, one, two)), "the choice must be the same each time")


def check_waveforms(subject: Subject) -> None:
    """Waveforms are mono float32 of the spec's length; excerpts are parts of the whole clip."""
    data = subject.open()
    samples = round(subject.spec.seconds * subject.sampling_rate)
    for clip in _some(data):
        wave, length = data.waveform(clip), data.length(clip)
        _require(wave.dtype == np.float32, f"samples must be float32, not {wave.dtype}")
        _require(wave.shape == (samples,), f"waveforms must be ({samples},), not {wave.shape}")
        _require(bool(np.isfinite(wave).all()), "samples must be finite")
        _require(np.array_equal(wave, data.waveform(clip)), "a clip must be the same each time")
        _require(
            np.array_equal(wave, data.excerpt(clip, 0)), "an excerpt from 0 must be the waveform"
        )
        if length is not None and length > samples:
            last, whole = data.excerpt(clip, length - samples), data.whole(clip)
            _require(
                len(whole) == length, f"a whole clip must have {length} samples, not {len(whole)}"
            )
            _require(
                np.allclose(last, whole[-samples:], atol=1e-4),
                "an excerpt must be part of the clip",
            )


def check_fingerprint(subject: Subject) -> None:
    """Opened again, the data have the same fingerprint."""
    first, again = subject.open().fingerprint, subject.open().fingerprint
    _require(first == again, "the fingerprint must be the same each time")


def check_shared(subject: Subject) -> None:
    """Another process gets the same data set from a file."""
    data = subject.open()
    shared = SharedDataset(data)
    copy: Dataset = pickle.loads(pickle.dumps(shared)).dataset
    _require(copy is not data, "it must be read from the file")
    _require(copy.fingerprint == data.fingerprint, "the fingerprint must be passed on")
    _require(list(copy.ids) == list(data.ids), "names must be passed on")
    _require(list(copy.sources) == list(data.sources), "sources must be passed on")
    for one, two in zip(_splits(copy), _splits(data), strict=True):
        _require(all(map(np.array_equal, one, two)), "splits must be passed on")
    clips = np.arange(len(data.ids))
    same = np.array_equal(copy.targets[clips], data.targets[clips], equal_nan=True)
    _require(same, "targets must be passed on")
    for clip in _some(data):
        same = np.array_equal(copy.waveform(clip), data.waveform(clip))
        _require(same, "clips must be the same")


def check_clip_table(subject: Subject) -> None:
    """The clip table, if there is one, lists the same clips."""
    data = subject.open()
    table = data.clip_table()
    if table is None:
        return
    _require(list(table.names) == list(data.ids), "the clip table must list the clips in order")
    columns = (table.split, table.sources, table.seconds, table.rates, table.channels)
    _require(
        {len(column) for column in columns} == {len(table)}, "each column must have a row per clip"
    )
    _require(len(table.expected) == len(table.splits), "`expected` must have an entry per split")
    inside = (table.split >= 0) & (table.split < len(table.splits))
    _require(bool(inside.all()), "each clip must be in a split")


def _some(data: Dataset) -> list[int]:
    """A few clips of each side of the first split."""
    return [int(clip) for part in _splits(data)[0] for clip in part[:_READ]]


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_clips,
    check_splits,
    check_numbers,
    check_waveforms,
    check_fingerprint,
    check_shared,
    check_clip_table,
)
