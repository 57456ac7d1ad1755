"""Data that change under a result, and what must not stop or mislead a reader of folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from layouts import write_manifest

from passt_bench.data import open_dataset
from passt_bench.data.contents import divided_sources
from passt_bench.errors import InputError
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.spec import DataSpec

SPEC = DataSpec(name="manifest", seconds=1.0)


def digest(root: Path) -> str:
    return open_dataset(SPEC, 16000, root).fingerprint.digest


def test_another_sound_of_the_same_size_is_other_data(tmp_path: Path) -> None:
    written = write_manifest(tmp_path)
    before = digest(tmp_path)
    path = next(clip.path for clip in written.clips if clip.path.suffix == ".wav")
    sound, rate = soundfile.read(path)
    size = path.stat().st_size
    soundfile.write(path, sound[::-1] * 0.5, rate, subtype=soundfile.info(path).subtype)
    assert path.stat().st_size == size
    assert digest(tmp_path) != before


def test_prepared_clips_of_a_list_that_changed_are_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    prepare_data(Preparation("manifest", tmp_path, 16000))
    assert open_dataset(SPEC, 16000, tmp_path).fingerprint.notes[0].startswith("16-bit samples")
    manifest = tmp_path / "manifest.csv"
    lines = manifest.read_text(encoding="utf-8").splitlines()
    manifest.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="have changed since these clips were prepared"):
        open_dataset(SPEC, 16000, tmp_path)
    assert open_dataset(SPEC, 16000, tmp_path / "prepared-16000").ids  # by name, as it is
    assert open_dataset(SPEC, 32000, tmp_path).ids  # nothing is prepared at that rate


def test_prepared_clips_outlive_what_was_taken_away_and_nothing_else(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    prepare_data(Preparation("manifest", tmp_path, 16000))
    manifest = tmp_path / "manifest.csv"
    text = manifest.read_text(encoding="utf-8")
    for damaged in (text.replace(",train", ",trian", 1), text + "a,b,c,d,e,f,g\n"):
        manifest.write_text(damaged, encoding="utf-8")
        with pytest.raises(InputError, match=r"have changed since .* and can no longer be read"):
            open_dataset(SPEC, 16000, tmp_path)
    manifest.write_text(text, encoding="utf-8")
    sounds = [
        path for path in tmp_path.rglob("*") if path.suffix in (".wav", ".flac", ".ogg", ".mp3")
    ]
    for path in sounds[1:]:
        path.unlink()
    with pytest.raises(InputError, match=r"have changed since .* are missing or unreadable"):
        open_dataset(SPEC, 16000, tmp_path)
    sounds[0].unlink()
    assert open_dataset(SPEC, 16000, tmp_path).ids
    manifest.unlink()
    assert open_dataset(SPEC, 16000, tmp_path).ids


def test_a_manifest_of_another_name_is_prepared_beside_it(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    (tmp_path / "manifest.csv").rename(tmp_path / "other.csv")
    asked = Preparation("manifest", tmp_path / "other.csv", 16000)
    prepare_data(asked)
    assert asked.folder == tmp_path / "other" / "prepared-16000"
    assert open_dataset(SPEC, 16000, asked.folder).ids


def test_stretches_of_one_file_in_two_splits_are_found(tmp_path: Path) -> None:
    """Whatever the list says of their sources."""
    sound = np.random.default_rng(0).normal(size=32000) * 0.1
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", sound, 16000)
    rows = ("a.wav,x,train,0,1,one", "a.wav,x,test,0.5,2,two", "b.wav,y,train,,,three",
            "b.wav,y,test,1,2,four")  # fmt: skip
    text = "\n".join(("path,labels,split,start,end,source", *rows, ""))
    (tmp_path / "manifest.csv").write_text(text)
    table = open_dataset(SPEC, 16000, tmp_path).clip_table()
    assert table is not None
    found = list(divided_sources(table))
    assert [line.partition(":")[0] for line in found] == ["a.wav", "b.wav"]


def test_a_pipe_and_an_impossible_name_are_lost_clips(tmp_path: Path) -> None:
    written = write_manifest(tmp_path, each=20)
    path = written.clips[0].path
    path.unlink()
    os.mkfifo(path)
    dataset = open_dataset(SPEC, 16000, tmp_path)
    assert any("not a regular file" in note for note in dataset.fingerprint.notes)
    path.unlink()
    path.symlink_to(path)
    notes = " ".join(open_dataset(SPEC, 16000, tmp_path).fingerprint.notes)
    assert "cannot be read" in notes and str(tmp_path) not in notes


@pytest.mark.parametrize("column", ["Start", "sources", "lables"])
def test_a_column_that_is_spelt_otherwise_is_refused(column: str, tmp_path: Path) -> None:
    write_manifest(tmp_path)
    manifest = tmp_path / "manifest.csv"
    head, *rows = manifest.read_text(encoding="utf-8").splitlines()
    rows = [f"{row},1" for row in rows]
    manifest.write_text("\n".join([f"{head},{column}", *rows, ""]), encoding="utf-8")
    with pytest.raises(InputError, match=f"{column}.*no such column"):
        open_dataset(SPEC, 16000, tmp_path)
    text = manifest.read_text(encoding="utf-8").replace(column, "remark", 1)
    manifest.write_text(text, encoding="utf-8")
    assert open_dataset(SPEC, 16000, tmp_path).ids


def test_times_that_no_file_has_are_told_as_what_they_are(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(16000) * 0.1, 16000)
    rows = [f"a.wav,x,{split},{n / 100},{n / 100 + 0.5}" for n in range(30) for split in
            (("train", "test")[n % 2],)]  # fmt: skip
    rows += ["a.wav,x,train,0.25,1e300", "a.wav,x,train,0.5,0.500001"]
    text = "\n".join(("path,labels,split,start,end", *rows, ""))
    (tmp_path / "manifest.csv").write_text(text)
    dataset = open_dataset(SPEC, 16000, tmp_path)
    notes = " ".join(dataset.fingerprint.notes)
    assert "1 clips left out" in notes and "shorter than a sample" in notes
    assert "1 clips end behind their files; what is not there is silent: a.wav@0.25-1e+300" in notes
