"""`data prepare`: decoded once is what is decoded each time, and it resumes after a stop."""

from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fixtures import Cli, Mistake
from layouts import (
    Written,
    write_esc50,
    write_fsd50k,
    write_manifest,
    write_openmic_hdf5,
)
from sounds import sound

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.data.prepared import INDEX, PreparedDataset, checksum_of
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS
from passt_bench.runner import prepare_data as module
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.spec.recipe import DataSpec

RATE = 16000
WRITERS: dict[str, Callable[[Path], Written]] = {
    "esc50": write_esc50,
    "fsd50k": write_fsd50k,
    "manifest": write_manifest,
    "openmic": write_openmic_hdf5,
}


def bare(data: Dataset, clips: np.ndarray) -> list[str]:
    """Names without the ending that HDF5 files give them."""
    return [data.ids[clip].removesuffix(".mp3") for clip in clips]


def manifest(root: Path, clips: int = 4, seconds: float = 0.1, **changed: np.ndarray) -> Path:
    """Float files, one a clip; the last two are the test's."""
    root.mkdir(parents=True)
    rows = ["path,labels,split"]
    for n in range(clips):
        wave = changed.get(f"clip{n:02}", sound(n, seconds, RATE))
        soundfile.write(root / f"clip{n:02}.wav", wave, RATE, subtype="FLOAT")
        rows.append(f"clip{n:02}.wav,{'ab'[n % 2]},{'test' if n >= clips - 2 else 'train'}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def spoilt(n: int, *samples: float) -> dict[str, np.ndarray]:
    """A clip of `manifest` that has these samples from its fourth on."""
    wave = sound(n, 0.1, RATE)
    wave[3 : 3 + len(samples)] = samples
    return {f"clip{n:02}": wave}


@pytest.mark.parametrize("name", WRITERS)
def test_prepared_clips_are_the_decoded_ones(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    WRITERS[name](root)
    source: Dataset = DATASETS.get(name).build(DataSpec(name, seconds=1.0), RATE, root)
    asked = Preparation(name, root, RATE, workers=2)
    index, was_there = prepare_data(asked)
    assert not was_there
    assert (index.clips, index.skipped, index.cut) == (len(source.ids), (), 0)
    assert prepare_data(asked) == (index, True)
    with pytest.raises(InputError, match="no data set to prepare"):
        prepare_data(replace(asked, root=root / f"prepared-{RATE}"))
    data = open_dataset(DataSpec(name), RATE, asked.folder)
    assert isinstance(data, PreparedDataset)
    assert data.folds == source.folds
    for fold in source.folds or (None,):
        for one, other in zip(data.split(fold), source.split(fold), strict=True):
            assert bare(data, one) == bare(source, other)
            np.testing.assert_array_equal(data.targets[one], source.targets[other])
            assert [data.sources[c] for c in one] == [source.sources[c] for c in other]
    assert (data.validation() is None) == (source.validation() is None)
    assert data.fingerprint.digest != source.fingerprint.digest
    for clip in range(len(data.ids)):
        number = list(source.ids).index(data.ids[clip])
        np.testing.assert_allclose(data.whole(clip), source.whole(number), atol=0.5001 / 32768)
        np.testing.assert_allclose(data.waveform(clip), source.waveform(number), atol=2e-5)


def test_what_breaks_is_named_and_left_out_and_clipping_counted(tmp_path: Path, cli: Cli) -> None:
    root = manifest(tmp_path / "data", 40, **spoilt(7, np.nan), **spoilt(11, 1.5, -2.0))
    code, said = cli("data", "prepare", f"manifest={root}", "--rate", RATE, "--workers", 1)
    assert code == 0
    for words in ("39 clips", "2 samples of 1 clip beyond ±1 clipped", "skipped: clip07", "NaN"):
        assert words in said
    data = open_dataset(DataSpec(name="manifest", seconds=0.1), RATE, root / f"prepared-{RATE}")
    assert len(data.ids) == 39
    assert not any("07" in name for name in data.ids)
    assert "skipped: clip07" in " ".join(data.fingerprint.notes)
    clip = next(n for n, name in enumerate(data.ids) if "11" in name)
    np.testing.assert_allclose(data.waveform(clip)[3:5], [32767 / 32768, -1])
    assert list(data.clip_table().skipped["problem"]) == ["the file holds NaN or infinity"]
    assert (data.fingerprint.expected, data.fingerprint.found) == (40, 39)


def test_too_much_that_breaks_is_refused(tmp_path: Path, cli: Cli) -> None:
    root = manifest(tmp_path / "data", 20, **spoilt(3, np.nan), **spoilt(9, np.nan))
    code, said = cli("data", "prepare", f"manifest={root}", "--rate", RATE, "--workers", 1)
    assert code == 2
    for words in ("more than 5 % of the clips break in decoding", "clip03", "clip09"):
        assert words in said
    assert not (root / f"prepared-{RATE}" / INDEX).exists()


def test_longer_clips_can_be_cut(tmp_path: Path, cli: Cli) -> None:
    longer = {f"clip{n:02}": sound(n, 0.1 * (n + 1), RATE) for n in range(4)}
    root = manifest(tmp_path / "data", **longer)
    words = ("data", "prepare", f"manifest={root}", "--rate", RATE, "--workers", 1)
    code, said = cli(*words, "--seconds", 0.25)
    assert code == 0
    assert "2 of them cut to 0.25 s" in said
    folder = root / f"prepared-{RATE}"
    data = open_dataset(DataSpec(name="manifest", seconds=0.2), RATE, folder)
    assert sorted(data.length(n) or 0 for n in range(4)) == [1600, 3200, 4000, 4000]
    with pytest.raises(InputError, match="were cut at 0.25 s"):
        open_dataset(DataSpec(name="manifest", seconds=0.3), RATE, folder)
    code, said = cli(*words)
    assert code == 2
    assert "holds other prepared clips" in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("--rate", 999),
        ("--rate", 768_001),
        ("--seconds", 0.0),
        ("--seconds", nan),
    ],
)
def test_bad_options(field: str, value: object, tmp_path: Path, mistake: Mistake) -> None:
    root = manifest(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    rate = () if field == "--rate" else ("--rate", RATE)
    error = mistake("data", "prepare", f"manifest={root}", *rate, field, value)
    assert (error.field, str(error.value)) == (field, str(value))
    assert sorted(tmp_path.rglob("*")) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def stopped(asked: Preparation, shards: int) -> None:
    """A preparation that ends after some shards."""
    with pytest.MonkeyPatch.context() as patch:
        calls = iter([None] * (shards - 1))
        patch.setattr(module, "_check_skipped", lambda *given: next(calls))
        with pytest.raises(StopIteration):
            prepare_data(asked)


def test_stops_do_not_change_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = manifest(tmp_path / "data", 40, 0.05)
    monkeypatch.setattr(module, "_SHARD", 16)
    whole, again = tmp_path / "whole", tmp_path / "again"
    index, _ = prepare_data(Preparation("manifest", root, RATE, whole, workers=2))
    shards = [f"waveforms-{n:06}.i16" for n in range(3)]
    assert sorted(contents(whole)) == ["clips.npz", INDEX, *shards]
    assert index.checksum == checksum_of(whole, lambda share: None)
    asked = Preparation("manifest", root, RATE, again)
    stopped(asked, 2)
    before = (again / shards[0]).stat().st_mtime_ns
    (again / shards[1]).with_suffix(".json").unlink()  # killed between samples and list
    (again / f".{shards[2]}.killed").write_bytes(b"half")
    assert prepare_data(asked) == (index, False)
    assert (again / shards[0]).stat().st_mtime_ns == before
    assert contents(again) == contents(whole)


@pytest.mark.parametrize("damaged", ["waveforms-000000.i16", "waveforms-000000.json"])
@pytest.mark.parametrize("how", ["half zeros", "half"])
def test_a_damaged_shard_is_made_again(
    damaged: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD", 4)
    asked = Preparation("manifest", manifest(tmp_path / "data"), RATE, tmp_path / "out")
    whole = replace(asked, out=tmp_path / "whole")
    index, _ = prepare_data(whole)
    stopped(asked, 1)
    path = asked.folder / damaged
    path.write_bytes(half := path.read_bytes()[: path.stat().st_size // 2])
    if how == "half zeros":
        path.write_bytes(half + bytes(len(half)))
    assert prepare_data(asked) == (index, False)
    assert contents(asked.folder) == contents(whole.folder)


def test_what_was_not_begun_here_is_not_continued(tmp_path: Path) -> None:
    asked = Preparation("manifest", manifest(tmp_path / "data"), RATE, tmp_path / "out")
    stopped(replace(asked, sampling_rate=RATE // 2), 1)
    with pytest.raises(InputError) as caught:
        prepare_data(asked)
    assert caught.value.field == "--folder"
    assert not (asked.folder / INDEX).exists()
