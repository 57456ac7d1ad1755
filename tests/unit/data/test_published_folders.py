"""The published data sets in their official folders, written small here; real ones of ESC-10."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import Written, signal

from passt_bench.data import Dataset, audioset, find_folders, open_dataset
from passt_bench.errors import InputError
from passt_bench.spec.recipe import DataSpec

# Name → (writer, published clips to train on, to evaluate, to choose by; of ESC-50 those listed).
FOLDERS: dict[str, tuple[Callable[[Path], Written], tuple[int, ...]]] = {
    "audioset": (layouts.write_audioset_folder, (2063949, 20371, 0)),
    "fsd50k": (layouts.write_fsd50k, (36796, 10231, 4170)),
    "openmic": (layouts.write_openmic, (14915, 5085, 0)),
    "dcase20": (layouts.write_dcase20, (13962, 2968, 0)),
    "esc50": (layouts.write_esc50, (3,) * 5),
}
PARTS = {"train": "train", "evaluate": "test", "eval": "test", "test": "test", "val": "validation"}
PARTS |= {"balanced_train": "train", "unbalanced_train": "train"}
PARTS |= {f"fold{fold}": f"fold {fold}" for fold in range(1, 6)}


def read(name: str, root: Path | None, rate: int = 8000) -> Dataset:
    return open_dataset(DataSpec(name=name, seconds=0.5), rate, root)


@pytest.fixture(params=FOLDERS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Written]:
    name: str = request.param
    return name, FOLDERS[name][0](tmp_path / "data")


def test_what_was_written_is_found_and_read(case: tuple[str, Written]) -> None:
    name, written = case
    assert find_folders(written.root.parent) == {name: written.root}
    data = read(name, written.root)
    found = data.fingerprint
    assert (found.dataset, found.classes) == (name, written.classes)
    assert found.multi_label == (name not in ("dcase20", "esc50"))
    assert (found.found, found.expected) == (len(written.clips), sum(FOLDERS[name][1]))
    table = data.clip_table()
    assert table is not None
    assert table.expected == FOLDERS[name][1]
    order = np.array([data.ids.index(clip.name) for clip in written.clips])
    assert np.array_equal(data.targets[order], written.targets(), equal_nan=True)
    for index, clip in zip(order, written.clips, strict=True):
        assert table.splits[table.split[index]] == PARTS[clip.split]
        assert data.sound(index) == clip.path
    assert (data.validation() is None) == (name != "fsd50k")
    assert data.folds == ((1, 2, 3, 4, 5) if name == "esc50" else ())
    assert data.waveform(int(data.split(1 if data.folds else None)[1][0])).std() > 0.01
    of = dict(zip(data.ids, data.sources, strict=True))
    if name == "esc50":
        assert all(source == clip.split("-")[1] for clip, source in of.items())
    if name == "dcase20":  # scenes of one place are of one source
        assert of["bus-lisbon-1001-40000-a"] == of["bus-lisbon-1001-40000-s1"] == "lisbon-1001"
    for clip in written.clips:
        assert clip.path is not None
        folder = clip.path.parent / "moved"
        folder.mkdir(exist_ok=True)
        clip.path.rename(folder / f"{clip.path.stem}.FLAC")  # what it is its content tells
    assert read(name, written.root).fingerprint.digest == found.digest


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("audioset", layouts.write_audioset_hdf5),
        ("fsd50k", layouts.write_fsd50k_hdf5),
        ("openmic", layouts.write_openmic_hdf5),
    ],
)
def test_hdf5_files_come_first(tmp_path: Path, name: str, write: Callable[[Path], Written]) -> None:
    root, below = tmp_path / "data", "" if name == "fsd50k" else "mp3"
    FOLDERS[name][0](root)
    listed = read(name, root).fingerprint
    written = write(root / below)
    data = read(name, root)
    assert [Path(each).stem for each in data.ids] == [Path(c.name).stem for c in written.clips]
    assert np.array_equal(data.targets[np.arange(len(data.ids))], written.targets(), equal_nan=True)
    assert data.fingerprint.classes == listed.classes
    assert data.fingerprint.expected == listed.expected
    assert data.fingerprint.digest != listed.digest
    table = data.clip_table()
    assert table is not None
    for index, clip in enumerate(written.clips):
        assert table.splits[table.split[index]] == PARTS[clip.split]
        heard = signal(clip, 1.0, 32000)[:16000:4]
        assert np.corrcoef(data.waveform(index), heard)[0, 1] > 0.95
    for path in root.iterdir():  # and they alone will do
        if path.suffix != ".hdf" and path.name not in ("mp3", "vocabulary.csv"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert find_folders(tmp_path) == {name: root}
    assert read(name, root).fingerprint == data.fingerprint


def test_needs_a_folder_with_its_lists(tmp_path: Path) -> None:
    for name in FOLDERS:
        with pytest.raises(InputError, match=f"--data {name}=DIR"):
            read(name, None)
        with pytest.raises(InputError, match="no such folder"):
            read(name, tmp_path / "absent")
        with pytest.raises(InputError):
            read(name, tmp_path)


def test_missing_clips(case: tuple[str, Written]) -> None:
    name, written = case
    for clip in written.clips[: len(written.clips) // 2]:
        assert clip.path is not None
        clip.path.unlink()
    if name != "audioset":
        with pytest.raises(InputError, match="are missing or unreadable"):
            read(name, written.root)
        return
    found = read(name, written.root).fingerprint
    assert (found.found, found.expected) == (10, 2084320)


@pytest.mark.parametrize(
    ("parts", "published"),
    [
        (("balanced_train", "eval"), 22160 + 20371),
        (("unbalanced_train", "eval"), 2041789 + 20371),
        (("eval",), 20371),
    ],
)
def test_audioset_with_one_training_part_or_none(
    tmp_path: Path, parts: tuple[str, ...], published: int
) -> None:
    layouts.write_audioset_folder(tmp_path, dict.fromkeys(parts, 4), ending="flac")
    data = read("audioset", tmp_path)
    assert [len(part) for part in data.split(None)] == [4 * (len(parts) - 1), 4]
    assert data.fingerprint.expected == published


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("Y--PJHxphWEs.mp3", ("--PJHxphWEs",)),
        ("--PJHxphWEs.wav", ("--PJHxphWEs",)),
        ("--PJHxphWEs_30.000.flac", ("--PJHxphWEs",)),
        ("Y--PJHxphWEs_30.000_40.000.wav", ("--PJHxphWEs",)),
        ("YabcdefghijK.mp3", ("abcdefghijK",)),
        ("Yabcdefghij.mp3", ("Yabcdefghij",)),  # a video whose own name begins with Y
        ("Yabcdefghij_30.mp3", ("Yabcdefghij",)),
        ("Yabcdefghij__30.mp3", ("abcdefghij_", "Yabcdefghij")),  # either
        ("abc.mp3", ()),
        ("abcdefghijklmn.mp3", ()),
    ],
)
def test_names_of_videos(file: str, names: tuple[str, ...]) -> None:
    assert audioset.video_names(file) == names


Edit = tuple[str, str, str, str | None, str | None]
# File, what is there, what replaces it, field and value of the error.
BROKEN: dict[str, list[Edit]] = {
    "audioset": [
        ("eval_segments.csv", "\n# YTID", "\nabc, 0.000, 1.000\n# YTID", None, None),
        ("eval_segments.csv", "\n# YTID", '\nabc, 0.0, 1.0, ""\n# YTID', "positive_labels", ""),
        ("eval_segments.csv", '"/m/', '"/x/', "positive_labels", "/x/"),
    ],
    "fsd50k": [
        ("FSD50K.ground_truth/dev.csv", ",val\n", ",dev\n", "split", "dev"),
        (
            "FSD50K.ground_truth/dev.csv",
            "mids,split",
            "mids,part",
            "split",
            "fname,labels,mids,part",
        ),
        ("FSD50K.ground_truth/eval.csv", ',"A', ',"Noise,A', "labels", "Noise,A"),
        ("FSD50K.ground_truth/vocabulary.csv", "0,", "7,", "classes", None),
    ],
    "openmic": [
        ("partitions/split01_test.csv", "0", "1", "sample_key", "1"),
    ],
    "dcase20": [
        ("evaluation_setup/fold1_train.csv", "\tbus", "\tship", "scene_label", "ship"),
        ("evaluation_setup/fold1_train.csv", "bus-lisbon-", "bus-", "filename", "audio/bus-"),
        ("evaluation_setup/fold1_evaluate.csv", "\tscene_label", "", "scene_label", "filename"),
    ],
    "esc50": [
        ("meta/esc50.csv", "2,0,dog", "2,0.5,dog", "target", "0.5"),
        ("meta/esc50.csv", "2,0,dog", "2,0,", "category", ""),
        ("meta/esc50.csv", "2,0,dog", "2,0,cat", "category", "cat"),
        ("meta/esc50.csv", "2,0,dog", "2,1,dog", "target", "1"),
        ("meta/esc50.csv", "2,0,dog", "100,0,dog", "fold", "100"),
        ("meta/esc50.csv", "2-200-A-0.wav", "../../x.wav", "filename", "../../x.wav"),
        ("meta/esc50.csv", ",fold", ",part", "fold", "filename,part"),
    ],
}


@pytest.mark.parametrize(("name", "edit"), [(n, e) for n, edits in BROKEN.items() for e in edits])
def test_names_what_is_broken(tmp_path: Path, name: str, edit: Edit) -> None:
    FOLDERS[name][0](tmp_path)
    file, old, new, field, value = edit
    path = tmp_path / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read(name, tmp_path)
    found = error.value
    assert str(found.source).startswith(str(path))
    assert (found.field, found.value is None) == (field, value is None)
    assert str(found.value).startswith(value or "")
    assert found.remedy


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("audioset", "eval_segments.csv"),
        ("fsd50k", "FSD50K.ground_truth/eval.csv"),
        ("openmic", "partitions/split01_test.csv"),
        ("dcase20", "evaluation_setup/fold1_evaluate.csv"),
        ("esc50", "meta/esc50.csv"),
    ],
)
def test_a_clip_that_is_listed_twice_is_refused(tmp_path: Path, name: str, file: str) -> None:
    FOLDERS[name][0](tmp_path)
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text(text + text.splitlines()[-1] + "\n")
    with pytest.raises(InputError, match=r"line \d+: .*listed twice"):
        read(name, tmp_path)


def test_names_with_blanks_are_found_as_written_or_without_them(tmp_path: Path) -> None:
    FOLDERS["esc50"][0](tmp_path)
    meta, before = tmp_path / "meta" / "esc50.csv", read("esc50", tmp_path).fingerprint.found
    head, first, second, *rest = meta.read_text().splitlines()
    audio = next((tmp_path / "audio").rglob(first.split(",")[0].rpartition(".")[0] + ".*"))
    audio.rename(audio.with_name(" " + audio.name))
    lines = [f'" {line.replace(",", chr(34) + ",", 1)}' for line in (first, second)]
    meta.write_text("\n".join([head, *lines, *rest, ""]))
    data = read("esc50", tmp_path)
    assert data.fingerprint.found == before and sum(name[0] == " " for name in data.ids) == 2


@pytest.fixture
def openmic_columns(tmp_path: Path) -> dict[str, np.ndarray]:
    layouts.write_openmic(tmp_path)
    with np.load(tmp_path / "openmic-2018.npz") as file:
        return {name: file[name] for name in file.files}


def test_openmic_names_as_the_published_file_holds_them(
    openmic_columns: dict[str, np.ndarray], tmp_path: Path
) -> None:
    before, path = read("openmic", tmp_path), tmp_path / "openmic-2018.npz"
    columns = openmic_columns | {"sample_key": openmic_columns["sample_key"].astype(object)}
    np.savez(path, **columns)
    assert read("openmic", tmp_path).fingerprint == before.fingerprint
    labels = columns["Y_true"]
    unknown = np.where(np.arange(20) == 0, np.nan, labels)
    for changed, message in (
        (labels[:, :19], r"labels \(13, 19\) and masks \(13, 20\) where \(13, 20\)"),
        (unknown, "without NaN"),
    ):
        np.savez(path, **columns | {"Y_true": changed})
        with pytest.raises(InputError, match=message):
            read("openmic", tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not OpenMIC's labels"):
        read("openmic", tmp_path)


def test_a_pickle_in_openmic_runs_nothing(
    openmic_columns: dict[str, np.ndarray], tmp_path: Path
) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "harm"), "w")

    harm = np.array([Harm()] * 13, dtype=object)
    np.savez(tmp_path / "openmic-2018.npz", **openmic_columns | {"sample_key": harm})
    with pytest.raises(InputError, match=r"not OpenMIC's labels \(io.open is not text\)"):
        read("openmic", tmp_path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.data
@pytest.mark.skipif("PASST_BENCH_DATA" not in os.environ, reason="PASST_BENCH_DATA is not set")
def test_real_recordings() -> None:
    spec = DataSpec("esc50", seconds=5.0)
    data = open_dataset(spec, 32000, Path(os.environ["PASST_BENCH_DATA"]) / "esc10")
    assert data.fingerprint.found == data.fingerprint.expected == 400
    assert (data.targets[np.arange(400)].sum(axis=0) == [40] * 10).all()
    for fold in data.folds:
        train, test = data.split(fold)
        assert (len(train), len(test)) == (320, 80)
        assert not {data.sources[i] for i in train} & {data.sources[i] for i in test}
        wave = data.waveform(int(test[0]))
        assert wave.shape == (160000,)
        assert 1e-4 < wave.std() < 1
