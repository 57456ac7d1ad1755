"""`data prepare`: decoded once is what is decoded each time, and it goes on after a stop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from layouts import write_esc50, write_fsd50k, write_manifest, write_openmic_hdf5
from sounds import sound

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.data.hdf5 import Hdf5Dataset
from passt_bench.data.prepared import PreparedDataset
from passt_bench.data.prepared_files import INDEX, WAVEFORMS, read_index, write_index
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.runner.prepared_form import Entry, FlatFile
from passt_bench.spec.recipe import DataSpec

Cli = Callable[..., tuple[int, str]]
RATE = 16000


def source_of(name: str, root: Path, seconds: float = 1.0) -> Dataset:
    spec = DataSpec(name=name, seconds=seconds)
    dataset: Dataset = DATASETS.get(name).build(spec, RATE, root)
    return dataset


def bare(data: Dataset, clips: np.ndarray) -> list[str]:
    """Names without the ending that HDF5 files give them."""
    return [data.ids[clip].removesuffix(".mp3") for clip in clips]


def assert_same_splits(found: Dataset, source: Dataset) -> None:
    assert found.folds == source.folds
    for fold in source.folds or (None,):
        for one, other in zip(found.split(fold), source.split(fold), strict=True):
            assert bare(found, one) == bare(source, other)
            np.testing.assert_array_equal(found.targets[one], source.targets[other])
            assert [found.sources[c] for c in one] == [source.sources[c] for c in other]
    assert (found.validation() is None) == (source.validation() is None)


@pytest.mark.parametrize("name", ["esc50", "fsd50k", "manifest", "openmic"])
def test_prepared_clips_are_the_decoded_ones(name: str, tmp_path: Path) -> None:
    writers = {
        "esc50": write_esc50, "fsd50k": write_fsd50k,
        "manifest": write_manifest, "openmic": write_openmic_hdf5,
    }  # fmt: skip
    writers[name](tmp_path / "data")  # type: ignore[operator]
    source = source_of(name, tmp_path / "data")
    index, was_there = prepare_data(Preparation(name, tmp_path / "data", RATE, workers=2))
    assert not was_there
    assert (index.clips, index.lost, index.cut) == (len(source.ids), (), 0)
    data = open_dataset(DataSpec(name=name), RATE, tmp_path / "data")
    assert isinstance(data, PreparedDataset)
    assert_same_splits(data, source)
    for clip in range(len(data.ids)):
        number = list(source.ids).index(data.ids[clip])
        np.testing.assert_allclose(data.whole(clip), source.whole(number), atol=0.5001 / 32768)
        np.testing.assert_allclose(data.waveform(clip), source.waveform(number), atol=2e-5)
    assert data.fingerprint.digest != source.fingerprint.digest
    assert prepare_data(Preparation(name, tmp_path / "data", RATE)) == (index, True)


def test_the_bytes_do_not_hang_on_the_number_of_processes(tmp_path: Path) -> None:
    write_fsd50k(tmp_path / "data")
    digests = set()
    for workers in (1, 3):
        out = tmp_path / f"out{workers}"
        prepare_data(Preparation("fsd50k", tmp_path / "data", RATE, out=out, workers=workers))
        files = sorted(path for path in out.iterdir() if path.suffix != ".lock")
        digests.add(tuple((p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files))
        index = read_index(out)
        stored = hashlib.sha256((out / WAVEFORMS).read_bytes()).hexdigest()
        assert index.checksum == stored
    assert len(digests) == 1
    assert [name for name, _ in next(iter(digests))] == ["clips.npz", INDEX, WAVEFORMS]


@pytest.mark.parametrize("name", ["esc50", "fsd50k", "openmic"])
def test_the_published_layout(name: str, tmp_path: Path) -> None:
    writers = {"esc50": write_esc50, "fsd50k": write_fsd50k, "openmic": write_openmic_hdf5}
    written = writers[name](tmp_path / "data")  # type: ignore[operator]
    source = source_of(name, tmp_path / "data")
    out = tmp_path / "out"
    index, _ = prepare_data(Preparation(name, tmp_path / "data", RATE, form="hdf5", out=out))
    data = open_dataset(DataSpec(name=name), RATE, out)
    assert isinstance(data, Hdf5Dataset)
    assert_same_splits(data, source)
    assert not (out / WAVEFORMS).exists()
    assert index.files
    write_index(out, replace(index, source=replace(index.source, digest="other")))
    elsewhere = open_dataset(DataSpec(name=name), RATE, out)
    assert elsewhere.fingerprint.digest != data.fingerprint.digest
    for clip in range(len(data.ids)):
        number = [n.removesuffix(".mp3") for n in source.ids].index(data.ids[clip][:-4])
        near = np.corrcoef(data.waveform(clip), source.waveform(number))[0, 1]
        assert near > 0.98
    if name != "esc50":  # the files are found by their published names as well
        (out / INDEX).unlink()
        (out / "vocabulary.csv").write_text(
            "".join(f"{n},{c},/m/{n}\n" for n, c in enumerate(written.classes))
        )
        again = open_dataset(DataSpec(name=name), RATE, out)
        assert list(again.ids) == list(data.ids)


def manifest(root: Path, waves: dict[str, np.ndarray], rate: int = RATE) -> Path:
    """Float files, one a clip; the last is the test's."""
    root.mkdir(parents=True)
    rows = ["path,labels,split"]
    for number, (name, wave) in enumerate(waves.items()):
        soundfile.write(root / name, wave, rate, subtype="FLOAT")
        rows.append(f"{name},{'ab'[number % 2]},{'test' if number >= len(waves) - 2 else 'train'}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def test_what_breaks_is_named_and_left_out_and_clipping_is_counted(
    tmp_path: Path, cli: Cli
) -> None:
    waves = {f"{n:02}.wav": sound(n, 0.1, RATE) for n in range(40)}
    waves["07.wav"][5] = np.nan
    waves["11.wav"][[3, 4]] = [1.5, -2.0]
    root = manifest(tmp_path / "data", waves)
    code, said = cli("data", "prepare", f"manifest={root}", "--rate", RATE, "--workers", 1)
    assert code == 0
    assert "39 clips" in said
    assert "2 samples of 1 clips beyond ±1 clipped" in said
    assert "1 could not be decoded and were skipped: 07" in said
    assert "the file holds NaN or infinity" in said
    data = open_dataset(DataSpec(name="manifest", seconds=0.1), RATE, root)
    assert len(data.ids) == 39
    assert not any("07" in name for name in data.ids)
    assert "1 clips could not be decoded and were skipped: 07" in " ".join(data.fingerprint.notes)
    clip = next(n for n, name in enumerate(data.ids) if "11" in name)
    np.testing.assert_allclose(data.waveform(clip)[3:5], [32767 / 32768, -1])
    table = data.clip_table()
    assert table is not None
    assert list(table.skipped.reasons) == ["the file holds NaN or infinity"]


def test_hdf5_files_hide_nothing_that_was_lost(tmp_path: Path, cli: Cli) -> None:
    waves = {f"{n:02}.wav": sound(n, 0.1, RATE) for n in range(60)}
    waves["07.wav"][5] = np.nan
    waves["59.wav"][5] = np.nan
    root = manifest(tmp_path / "data", waves)
    (root / "03.wav").unlink()
    told, checked = [], []
    for form in ("cache", "hdf5"):
        out = tmp_path / form
        words = ("--rate", RATE, "--workers", 1, "--format", form, "--folder", out)
        assert cli("data", "prepare", f"manifest={root}", *words)[0] == 0
        data = open_dataset(DataSpec(name="manifest", seconds=0.1), RATE, out)
        found, table = data.fingerprint, data.clip_table()
        assert table is not None
        lost = table.skipped
        told.append(
            (found.expected, found.found, found.notes[1:], table.splits, table.expected,
             list(lost.names), lost.split.tolist(), list(lost.reasons)),
        )  # fmt: skip
        code, said = cli("data", "check", f"manifest={out}", "--json", "--no-duplicates")
        assert code == 1
        checks = json.loads(said)
        checked.append((checks["parts"], checks["findings"]))
    assert told[0] == told[1]
    assert told[1][:2] == (60, 57)
    assert told[1][5] == ["07.wav", "59.wav"]
    assert checked[0] == checked[1]
    kinds = {item["kind"]: item for item in checked[1][1]}
    assert kinds["broken"]["count"] == 2
    assert "the data that the clips were made from" in kinds["broken"]["remedy"]
    assert kinds["not listed"]["count"] == 1
    assert "published" not in kinds["not listed"]["remedy"]


def test_too_much_that_breaks_is_refused_and_the_rest_can_be_mended(
    tmp_path: Path, cli: Cli
) -> None:
    waves = {f"{n:02}.wav": sound(n, 0.1, RATE) for n in range(20)}
    for name in ("03.wav", "09.wav"):
        waves[name][0] = np.nan
    root = manifest(tmp_path / "data", waves)
    code, said = cli("data", "prepare", f"manifest={root}", "--rate", RATE, "--workers", 1)
    assert code == 2
    assert "more than 5 % of the clips break in decoding" in said
    assert "03" in said and "09" in said
    assert not (root / f"prepared-{RATE}" / INDEX).exists()
    assert isinstance(open_dataset(DataSpec(name="manifest"), RATE, root), Dataset)


def test_longer_clips_can_be_cut(tmp_path: Path, cli: Cli) -> None:
    root = manifest(tmp_path / "data", {f"{n}.wav": sound(n, 0.1 * n, RATE) for n in (1, 2, 3, 4)})
    words = ("data", "prepare", f"manifest={root}", "--rate", RATE, "--workers", 1)
    code, said = cli(*words, "--seconds", 0.25)
    assert code == 0
    assert "2 of them cut to 0.25 s" in said
    data = open_dataset(DataSpec(name="manifest", seconds=0.2), RATE, root)
    assert sorted(data.length(n) or 0 for n in range(4)) == [1600, 3200, 4000, 4000]
    with pytest.raises(InputError, match="were cut at 0.25 s"):
        open_dataset(DataSpec(name="manifest", seconds=0.3), RATE, root)
    code, said = cli(*words)
    assert code == 2
    assert "holds other prepared clips" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", 12345, "--format", "hdf5"), "--rate = 12345: mp3 has no such sampling rate"),
        (("--rate", RATE, "--format", "zarr"), "--format = 'zarr': unknown value"),
        (("--rate", 1), "--rate = 1: must be above 999. Give Hz"),
        (("--rate", 999), "--rate = 999: must be above 999"),
        (("--rate", 768_001), "--rate = 768001: must be at most 768000"),
        (("--rate", RATE, "--seconds", 0), "--seconds = 0.0: must be above 0"),
        (("--rate", RATE, "--seconds", "nan"), "--seconds = nan: must be above 0"),
        (("--rate", RATE, "--seconds", "inf"), "--seconds = inf: must be at most 86400"),
    ],
)
def test_bad_options_write_nothing(
    words: tuple[object, ...], message: str, tmp_path: Path, cli: Cli
) -> None:
    root = manifest(tmp_path / "data", {f"{n}.wav": sound(n, 0.1, RATE) for n in range(4)})
    before = sorted(tmp_path.rglob("*"))
    code, said = cli("data", "prepare", f"manifest={root}", *words)
    assert code == 2
    assert message in said
    assert sorted(tmp_path.rglob("*")) == before


def test_prepared_clips_are_not_prepared_again(tmp_path: Path) -> None:
    root = manifest(tmp_path / "data", {f"{n}.wav": sound(n, 0.1, RATE) for n in range(4)})
    prepare_data(Preparation("manifest", root, RATE))
    with pytest.raises(InputError, match="no data set to prepare"):
        prepare_data(Preparation("manifest", root / f"prepared-{RATE}", RATE))


IDENTITY = {"clips": 9}


def entries(folder: Path) -> list[tuple[bytes, Entry]]:
    return [(bytes([number]) * 6, Entry([4, 2], samples=3)) for number in range(3)]


def test_a_flat_file_goes_on_behind_its_last_whole_part(tmp_path: Path) -> None:
    """Cut at every byte of file and journal, as a kill may leave them, it comes to the same."""
    path = tmp_path / "whole.i16"
    with FlatFile(path, IDENTITY) as flat:
        for data, entry in entries(tmp_path):
            flat.append(data, entry)
        checksum = flat.verify(lambda share: None)
    whole, journal = path.read_bytes(), flat.journal.read_bytes()
    assert checksum == hashlib.sha256(whole).hexdigest()
    lines = journal.splitlines(keepends=True)
    for cut in range(len(journal) + 1):
        done = max(0, journal[:cut].count(b"\n") - 1)  # parts that the journal knows
        for beyond in (0, 5):
            (tmp_path / "cut.i16").write_bytes(whole[: 6 * done + beyond])
            (tmp_path / "cut.journal").write_bytes(journal[:cut])
            with FlatFile(tmp_path / "cut.i16", IDENTITY) as again:
                assert len(again.entries) == done
                for data, entry in entries(tmp_path)[done:]:
                    again.append(data, entry)
                assert again.verify(lambda share: None) == checksum
            assert (tmp_path / "cut.i16").read_bytes() == whole
            assert (tmp_path / "cut.journal").read_bytes() == b"".join(lines)


def test_a_flat_file_of_other_work_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "a.i16"
    with FlatFile(path, IDENTITY) as flat:
        flat.append(*entries(tmp_path)[0])
    with pytest.raises(InputError, match="other clips was begun there"):
        FlatFile(path, {"clips": 10})
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match="shorter than its journal says"):
        FlatFile(path, IDENTITY)
    path.write_bytes(content[:-1] + b"x")
    with FlatFile(path, IDENTITY) as flat, pytest.raises(InputError, match="part 0 differs"):
        flat.verify(lambda share: None)
    flat.journal.unlink()
    with pytest.raises(InputError, match="not begun by this command"):
        FlatFile(path, IDENTITY)
    assert json.loads(json.dumps(IDENTITY)) == IDENTITY
