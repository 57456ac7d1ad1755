import re
from pathlib import Path

import pandas as pd
import pytest
from sounds import sound, write_sound

from passt_bench.data import open_dataset
from passt_bench.data.check import check
from passt_bench.errors import InputError
from passt_bench.runner.split_data import split_manifest
from passt_bench.spec import DataSpec


def write(folder: Path, rows: list[tuple[str, ...]], columns: str = "path,labels,source") -> Path:
    lines = [columns, *(",".join(row) for row in rows)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def many(clips: int = 120) -> list[tuple[str, ...]]:
    """Three classes in turn, four clips of a class from each source."""
    return [(f"{n}.wav", "abc"[n % 3], f"s{n % 3}-{n // 12}") for n in range(clips)]


def test_splits_are_balanced_and_keep_a_source_together(tmp_path: Path) -> None:
    root = tmp_path / "my clips"
    root.mkdir()
    counts, notes = split_manifest(write(root, many()))
    again = f"`passt-bench data split 'manifest={root}'"
    assert notes == [
        "Fewer than 5 clips for validation, too few to choose an epoch: a, b, c; `train` trains to "
        f"the end. Rather divide into folds: {again} --into-folds 5 --again`; or leave validation "
        f"out: {again} --test 0.2 --validation 0 --again`."
    ]
    assert (
        counts.loc[["a", "b", "c"], ["train", "validation", "test"]].to_numpy().tolist()
        == [[28, 4, 8]] * 3
    )
    table = pd.read_csv(root / "manifest.csv")
    assert list(table) == ["path", "labels", "source", "split"]
    assert (table.groupby("source")["split"].nunique() == 1).all()


def test_clips_without_a_label_are_divided_and_are_no_class(tmp_path: Path) -> None:
    rows = [(f"{n}.wav", ("dog", "rain", "dog;rain", "")[n % 4]) for n in range(40)]
    counts, notes = split_manifest(write(tmp_path, rows, "path,labels"))
    assert list(counts.index) == ["(no label)", "dog", "rain"]
    assert counts.loc["(no label)"].sum() == 10 and (counts > 0).all().all()
    assert "an epoch: dog, rain; `train`" in notes[1]


def test_folds_are_of_equal_size(tmp_path: Path) -> None:
    counts, notes = split_manifest(write(tmp_path, many()), folds=5)
    assert not notes
    assert list(counts) == ["1", "2", "3", "4", "5"]
    assert (counts == 8).all().all()


def test_the_seed_decides(tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        split_manifest(write(folder, many()), seed=seed)
        found.append((folder / "manifest.csv").read_text())
    assert found[0] == found[1] != found[2]


def record(*names: str) -> None:
    for number, name in enumerate(names):
        write_sound(Path(name), sound(number, 0.2, 8000), 8000)


def test_a_folder_per_class_becomes_a_manifest_that_can_be_read(tmp_path: Path) -> None:
    record(*(f"{tmp_path}/{name}/{n}.wav" for name in ("heron", "bittern") for n in range(6)))
    (tmp_path / "heron" / "7.wav").touch()
    (tmp_path / "heron" / "about.txt").touch()
    _, notes = split_manifest(tmp_path, test=0.34, validation=0)
    assert notes == [
        "1 file left out: heron/7.wav (empty, 0 bytes).",
        "Files passed over: 1 .txt.",
        "No column source: each of the 12 files counts as a recording of its own. If several come "
        "from one, add that column and divide again, or test clips leak.",
    ]
    dataset = open_dataset(DataSpec("manifest", seconds=0.2), 8000, tmp_path)
    train, test = dataset.split(None)
    assert dataset.fingerprint.classes == ("bittern", "heron")
    assert (len(train), len(test)) == (8, 4)


def test_files_and_folders_whose_names_are_not_utf_8_are_left_out_and_named(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        record(*(f"{tmp_path}/{name}/{number}.wav" for number in range(3)))
    (tmp_path / "x" / "0.wav").rename(tmp_path / "x" / "caf\udce9.wav")
    (tmp_path / "z").rename(tmp_path / "z\udce9")
    _, notes = split_manifest(tmp_path, test=0.5, validation=0)
    assert notes[0].startswith("4 files left out: 'x/caf\\udce9.wav' (its name is not UTF-8), 'z")
    table = pd.read_csv(tmp_path / "manifest.csv")
    assert sorted(table["path"]) == ["x/1.wav", "x/2.wav", "y/0.wav", "y/1.wav", "y/2.wav"]
    (tmp_path / "manifest.csv").unlink()
    (tmp_path / "y").rename(tmp_path / "y\udce9")
    with pytest.raises(InputError, match=r"fewer than two classes; 7 files left out: .*not UTF-8"):
        split_manifest(tmp_path)


@pytest.mark.parametrize(
    ("columns", "rows", "field"),
    [
        ("path,split,labels", [("a.wav", "train", "x")], "split"),
        ("file,labels", [("a.wav", "x")], "path"),
        ("path,labels", [("a.wav", "x"), ("b.wav", "y")], "test"),
        ("path,labels", [("a.wav", "x"), ("b.wav", "x")], "labels"),
    ],
)
def test_what_cannot_be_divided_is_left_as_it_is(
    tmp_path: Path, columns: str, rows: list[tuple[str, ...]], field: str
) -> None:
    write(tmp_path, rows, columns)
    before = (tmp_path / "manifest.csv").read_bytes()
    with pytest.raises(InputError) as error:
        split_manifest(tmp_path)
    assert error.value.field == field
    assert (tmp_path / "manifest.csv").read_bytes() == before


def test_a_division_is_replaced_only_on_request(tmp_path: Path) -> None:
    split_manifest(write(tmp_path, many()))
    with pytest.raises(InputError) as error:
        split_manifest(tmp_path, folds=5)
    assert (error.value.field, error.value.value) == ("split", "84 train, 12 validation, 24 test")
    assert "--again" in str(error.value)
    assert list(split_manifest(tmp_path, folds=5, again=True)[0]) == ["1", "2", "3", "4", "5"]
    assert list(pd.read_csv(tmp_path / "manifest.csv")) == ["path", "labels", "source", "fold"]


def test_folders_of_classes_are_listed_again(tmp_path: Path) -> None:
    record(*(f"{tmp_path}/{name}/{n}.wav" for name in ("heron", "bittern") for n in range(6)))
    split_manifest(tmp_path, folds=2)
    _, notes = split_manifest(tmp_path, folds=2, again=True)
    assert len(notes) == 1 and "No column source" in notes[0]
    record(*(f"{tmp_path}/crake/{n}.wav" for n in range(6)))
    (tmp_path / "heron" / "3.wav").unlink()
    counts, notes = split_manifest(tmp_path, folds=2, again=True)
    assert counts.sum(axis=1).to_dict() == {"bittern": 6, "crake": 6, "heron": 5}
    assert notes[0] == (
        "The folders were listed again: 6 files not listed before (crake/0.wav, crake/1.wav, "
        "crake/2.wav, crake/3.wav, crake/4.wav and 1 more), 1 file listed before and not found now "
        "(heron/3.wav)."
    )
    (tmp_path / "heron" / "3.wav").touch()  # broken
    assert split_manifest(tmp_path, folds=2, again=True)[1][0].startswith("1 file left out: heron/")
    (tmp_path / "heron" / "3.wav").unlink()


@pytest.mark.parametrize("own_column", [False, True])
def test_rows_that_are_not_of_folders_stay_and_files_without_a_row_are_named(
    tmp_path: Path, own_column: bool
) -> None:
    record(*(f"{tmp_path}/{name}/{n}.wav" for name in ("heron", "bittern") for n in range(6)))
    split_manifest(tmp_path, folds=2)
    file = tmp_path / "manifest.csv"
    rows = pd.read_csv(file)
    rows = rows.assign(source=range(12)) if own_column else rows.replace("bittern", "owl")
    rows.to_csv(file, index=False)
    record(f"{tmp_path}/crake/1.wav", f"{tmp_path}/crake/2.wav")
    (tmp_path / "heron" / "3.wav").unlink()
    counts, notes = split_manifest(tmp_path, folds=2, again=True)
    assert counts.to_numpy().sum() == 12 and "crake" not in counts.index
    assert "but 2 files not listed before (crake/1.wav, crake/2.wav), 1 file listed" in notes[0]
    assert "remove manifest.csv, to list the folders again" in notes[0]


def test_identical_files_stay_in_one_part(tmp_path: Path) -> None:
    for name in "ab":
        record(*(f"{tmp_path}/{name}/{number}.wav" for number in range(8)))
    content = (tmp_path / "a" / "3.wav").read_bytes()
    for number in range(6):
        (tmp_path / "a" / f"copy {number}.wav").write_bytes(content)
    _, notes = split_manifest(tmp_path, test=0.3, validation=0.2)
    assert "Identical files stay in one part: a/0.wav = b/0.wav" in notes[0]
    parts = pd.read_csv(tmp_path / "manifest.csv", index_col="path")["split"]
    assert len({parts[f"a/{name}.wav"] for name in ("3", *(f"copy {n}" for n in range(6)))}) == 1
    assert all(parts[f"a/{number}.wav"] == parts[f"b/{number}.wav"] for number in range(8))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither"):
        split_manifest(tmp_path)


@pytest.mark.parametrize("takes", [("-A", "-B"), ("_1", "_2"), ("-A-41", "-B-41")])
def test_takes_that_may_be_of_one_recording_are_named(tmp_path: Path, takes: tuple[str]) -> None:
    rows = [(f"{n}x{take}.wav", "ab"[n % 2]) for n in range(40) for take in takes]
    _, notes = split_manifest(write(tmp_path, rows, "path,labels"), validation=0)
    table = pd.read_csv(tmp_path / "manifest.csv", index_col="path")["split"]
    assert len(notes) == 1
    pair = re.findall(r"\S+?\.wav", notes[0])
    assert re.sub(r"[-_].*", "", pair[0]) == re.sub(r"[-_].*", "", pair[1])
    assert table[pair[0]] != table[pair[1]]


def test_a_check_says_that_takes_are_in_several_splits(tmp_path: Path) -> None:
    rows = [("a-A.wav", "x", "train", "1"), ("a-B.wav", "x", "test", "2"), ("b.wav", "y", "test")]
    record(*(f"{tmp_path}/{row[0]}" for row in rows))
    found = []
    for width, columns in ((3, "path,labels,split"), (4, "path,labels,split,source")):
        write(tmp_path, [(*row, "3")[:width] for row in rows], columns)
        dataset = open_dataset(DataSpec("manifest", seconds=0.2), 8000, tmp_path)
        notes = check(dataset, lambda *_: None, compare=False).notes
        found.append([note for note in notes if "takes" in note])
    assert found[0][0].startswith("no column source") and not found[1]
    assert "(1 times, first train a-A.wav and test a-B.wav)" in found[0][0]


def test_folders_called_like_splits_are_the_splits(tmp_path: Path) -> None:
    record(*(f"{tmp_path}/{split}/{n}/x.wav" for split in ("train", "eval") for n in "ab"))
    counts, notes = split_manifest(tmp_path)
    assert counts.to_dict() == {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}
    assert notes[0] == "The folders eval, train are taken as splits, not as classes."
    (tmp_path / "manifest.csv").unlink()
    assert list(split_manifest(tmp_path, folds=2)[0]) == ["1", "2"]


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        (("train", "val"), "these look like splits, not classes"),
        (("train", "test", "dev"), "these look like splits, not classes"),
        (("mine",), "fewer than two classes"),
    ],
)
def test_folders_that_are_not_classes_are_refused(
    tmp_path: Path, folders: tuple[str, ...], problem: str
) -> None:
    record(*(f"{tmp_path}/{folder}/{label}/x.wav" for folder in folders for label in "ab"))
    with pytest.raises(InputError, match=problem):
        split_manifest(tmp_path)
    assert not (tmp_path / "manifest.csv").exists()
