from pathlib import Path

import pandas as pd
import pytest
from sounds import sound, write_sound

from passt_bench.data import open_dataset
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
    counts = split_manifest(write(tmp_path, many()))
    assert (
        counts.loc[["a", "b", "c"], ["train", "validation", "test"]].to_numpy().tolist()
        == [[28, 4, 8]] * 3
    )
    table = pd.read_csv(tmp_path / "manifest.csv")
    assert list(table) == ["path", "labels", "source", "split"]
    assert (table.groupby("source")["split"].nunique() == 1).all()


def test_folds_are_of_equal_size(tmp_path: Path) -> None:
    counts = split_manifest(write(tmp_path, many()), folds=5)
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


def test_a_folder_per_class_becomes_a_manifest_that_can_be_read(tmp_path: Path) -> None:
    for name in ("heron", "bittern"):
        for number in range(6):
            write_sound(tmp_path / name / f"{number}.wav", sound(number, 0.2, 8000), 8000)
    split_manifest(tmp_path, test=0.34, validation=0)
    dataset = open_dataset(DataSpec("manifest", seconds=0.2), 8000, tmp_path)
    train, test = dataset.split(None)
    assert dataset.fingerprint.classes == ("bittern", "heron")
    assert (len(train), len(test)) == (8, 4)


@pytest.mark.parametrize(
    ("columns", "rows", "field"),
    [
        ("path,split,labels", [("a.wav", "train", "x")], "split"),
        ("file,labels", [("a.wav", "x")], "path"),
        ("path,labels", [("a.wav", "x")], "test"),
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


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither"):
        split_manifest(tmp_path)
