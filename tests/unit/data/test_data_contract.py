"""Every data set in every form of storage keeps the contract, and the contract notices damage."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from noise_clips import NoiseClips, open_noise

from passt_bench.data import open_dataset
from passt_bench.data.dataset import FileChanged, StoredDataset
from passt_bench.data.testing import DatasetContract
from passt_bench.errors import ContractError
from passt_bench.registry import DATASETS
from passt_bench.spec import DataSpec

sys.path.insert(0, str(Path(__file__).parents[2] / "golden"))
from golden_fingerprints import CASES, RATE, opened

FORMS = {name: case for name, case in CASES.items() if "few" not in name}
STORED = [name for name in FORMS if name != "synthetic"]
Written = Callable[[str], tuple[DataSpec, Path | None]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Writes the data set of a case, once; its spec and folder."""
    roots: dict[str, Path | None] = {}

    def write(name: str) -> tuple[DataSpec, Path | None]:
        case = FORMS[name]
        if name not in roots:
            root = tmp_path_factory.mktemp("data") / "data"
            data = opened(case, root)
            table = data.clip_table()
            form = f"prepared-{RATE}" if case.prepared else ""
            roots[name] = None if table is None else root / form
        return replace(case.spec, name=case.name), roots[name]

    return write


class TestDataSets(DatasetContract):
    sampling_rate = RATE

    @pytest.fixture(autouse=True, params=FORMS)
    def _choose(self, request: pytest.FixtureRequest, written: Written) -> None:
        self.spec, self.root = written(request.param)


@pytest.mark.parametrize("name", STORED)
def test_a_file_that_changes_after_opening_is_named(name: str, written: Written) -> None:
    spec, root = written(name)
    data = open_dataset(spec, RATE, root)
    assert isinstance(data, StoredDataset)
    there = pickle.loads(pickle.dumps(data))
    stamps = data.stamps.copy()
    stamps[:, 1] += 1
    before = there.waveform(0)
    for copy in (data, there):
        changed = replace(copy, stamps=stamps)
        with pytest.raises(FileChanged) as caught:
            changed.waveform(0)
        assert caught.value.source is not None and Path(str(caught.value.source)).is_file()
    np.testing.assert_array_equal(there.waveform(0), before)


def _changed(**fields: Any) -> NoiseClips:
    return replace(open_noise(), **fields)


class _Loud(NoiseClips):
    def waveform(self, index: int) -> np.ndarray:
        return super().waveform(index) * np.nan


class _Drifting(NoiseClips):
    def waveform(self, index: int) -> np.ndarray:
        return np.random.default_rng().standard_normal(4000).astype("f4")


class _Leaking(NoiseClips):
    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(20), np.arange(16, 24)


BROKEN = {
    "each clip must have a unique name": lambda: _changed(ids=("a",) * 24),
    "each clip must have a source": lambda: _changed(sources=("a",)),
    "targets must be 0, 1": lambda: _changed(targets=open_noise().targets * 2),
    "targets must be (clips, classes)": lambda: _changed(targets=open_noise().targets[:, :2]),
    "samples must be finite": lambda: _Loud(**vars(open_noise())),
    "the same each time": lambda: _Drifting(**vars(open_noise())),
    "no clip may be in two splits": lambda: _Leaking(**vars(open_noise())),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_what_is_broken_is_named(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = BROKEN[problem]
    monkeypatch.setattr(DATASETS, "get", lambda name: SimpleNamespace(build=lambda *_: broken()))
    contract = DatasetContract()
    contract.spec, contract.sampling_rate = DataSpec("noise", seconds=0.5), 8000
    found = []
    for check in (contract.test_clips, contract.test_splits, contract.test_waveforms):
        try:
            check()
        except ContractError as error:
            found.append(str(error))
    assert [message for message in found if problem in message]
