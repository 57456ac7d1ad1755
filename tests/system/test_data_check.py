"""`data check`: what is there is counted, what would spoil a study is found and named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures import Cli, Mistake
from layouts import (
    write_audioset_hdf5,
    write_esc50,
    write_hdf5,
    write_manifest,
)
from sounds import encoded, sound, write_sound

from passt_bench.data import open_dataset
from passt_bench.data.prepared import shard_name
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.spec.recipe import DataSpec

Check = Callable[..., dict[str, Any]]


@pytest.fixture
def checked(cli: Cli, tmp_path: Path) -> Check:
    """Checks a data set, which fails unless it is clean; the JSON, with findings by kind."""

    def run(named: str, *options: object, clean: bool = False) -> dict[str, Any]:
        out = tmp_path / "report.json"
        code, said = cli("data", "check", named, *options, "--json", "--output", out)
        told = json.loads(out.read_text())
        assert json.loads(said.replace("\n", " ")) == told
        assert told["clean"] == (code == 0) == clean
        told["findings"] = {item["kind"]: item for item in told["findings"]}
        return told

    return run


def names(told: dict[str, Any], kind: str) -> list[str]:
    found = told["findings"].get(kind, {"names": [], "count": 0})
    assert found["count"] == len(found["names"])
    return list(found["names"])


def test_a_clean_folder(tmp_path: Path, cli: Cli) -> None:
    written = write_manifest(tmp_path / "own")
    write_sound(written.root / "more" / "spare.wav", sound(9, 0.2, 8000), 8000)
    code, said = cli("data", "check", f"manifest={written.root}", "--decode")
    assert code == 0
    data = open_dataset(DataSpec(name="manifest", seconds=1.0), 16000, written.root)
    for fragment in (
        "train │ 6 │ 0 │ 0 │", "validation │ 6 │ 0 │ 0 │", "test │ 6 │ 0 │ 0 │",
        "Note: 1 audio file in the folder that no row names: more/spare.wav; "
        "`passt-bench data split --again` lists folders of classes again.",
        "bell │ 2 │ 2 │ 2 │ 0 │", "Lengths: 0.7 s (6 clips), 1 s (6 clips), 1.6 s (6 clips).",
        "44100 Hz (9 clips)", "Channels: 1 (9 clips), 2 (9 clips).",
        f"Digest: {data.fingerprint.digest}, 18 of 18 clips.",
        "No problems found (every file was decoded).", "Decoded 18 of 18 clips.",
        f"Next: passt-bench data prepare manifest={written.root}",
    ):  # fmt: skip
        assert fragment in said


def test_missing_and_broken_files_are_counted(tmp_path: Path, checked: Check, cli: Cli) -> None:
    written = write_manifest(tmp_path / "own", each=45, seconds=(0.02,))
    gone, empty = written.of("train")[4:130:21], written.of("test")[8]
    for clip in gone:
        clip.path.unlink()
    empty.path.write_bytes(b"")
    told = checked(f"manifest={written.root}", "--no-duplicates")
    assert names(told, "missing") == [f"train {clip.name}" for clip in gone]
    assert names(told, "broken") == [f"test {empty.name} (empty, 0 bytes)"]
    train, test, _ = told["parts"]
    assert train == {"name": "train", "expected": 135, "found": 129, "missing": 6, "broken": 0}
    assert (test["missing"], test["broken"]) == (0, 1)
    assert {item["name"]: item["lost"] for item in told["classes"]} == {
        "bell": 0, "engine": 6, "voice": 1,
    }  # fmt: skip
    assert (told["found"], told["expected"]) == (398, 405)
    code, said = cli("data", "check", f"manifest={written.root}", "--no-duplicates")
    assert code == 1
    for words in ("missing: 6: ", "and 1 more. ", "Identical files were not looked for.",
                  "Next: fix what is listed above"):  # fmt: skip
        assert words in said


@pytest.mark.parametrize("name", ["manifest", "esc50", "audioset"])
@pytest.mark.parametrize("left", [0, 1])
def test_what_may_not_run_is_checked(name: str, left: int, tmp_path: Path, checked: Check) -> None:
    write = {"manifest": write_manifest, "esc50": write_esc50, "audioset": write_audioset_hdf5}
    written = write[name](tmp_path / name, seconds=(0.2,) if name == "manifest" else 0.2)
    if name == "audioset":
        for split in {clip.split for clip in written.clips}:
            clips = written.of(split)
            sounds = [encoded(sound(9, 0.2, 32000), 32000, "mp3")] * left
            write_hdf5(
                written.root / f"{split}_segments_mp3.hdf",
                [clip.name for clip in clips],
                [*sounds, *[b""] * (len(clips) - left)],
                np.packbits(written.targets(split) > 0, axis=-1),
            )
    for clip in written.clips[left:]:
        if clip.path:
            clip.path.unlink()
    told = checked(f"{name}={written.root}")
    assert "may be" in told["refusal"]
    lost = sum(part["missing"] + part["broken"] for part in told["parts"])
    found = sum(part["found"] for part in told["parts"])
    assert found == (3 * left if name == "audioset" else left) == len(written.clips) - lost
    assert sum(len(names(told, kind)) for kind in ("missing", "broken")) == lost
    unknown = told["findings"].get("not listed", {"count": 0})["count"]
    assert len(written.clips) + unknown == told["expected"]


def test_one_file_under_two_names_and_a_class_without_clips(tmp_path: Path, checked: Check) -> None:
    written = write_manifest(tmp_path / "own", seconds=(0.2,))
    (first, second, *_), (third, *_) = written.of("train"), written.of("test")
    for target in (second, third):
        shutil.copy(first.path, target.path)
    manifest = written.root / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",voice,test", ",bell,test"))
    told = checked(f"manifest={written.root}")
    assert names(told, "identical across splits") == [
        f"train {first.name} = train {second.name} = test {third.name}"
    ]
    assert names(told, "identical files") == []
    assert names(told, "class without a positive") == ["test voice"]


def test_decoding_finds_equal_sound_nan_and_silence(tmp_path: Path, checked: Check) -> None:
    written = write_manifest(tmp_path / "own", seconds=(1.0,))
    wav, flac, quiet, opposed, nan = written.of("train")[:5]
    wave = (20000 * sound(98, 0.5, 16000)).astype(np.int16)
    soundfile.write(opposed.path, np.stack([wave, -wave], axis=1), 16000, format="WAV")
    for clip in (wav, flac):
        write_sound(clip.path, (20000 * sound(99, 0.5, 16000)).astype(np.int16), 16000)
    soundfile.write(quiet.path, np.zeros(44100), 44100, format="OGG")
    samples = sound(1, 1.0, 44100)
    samples[3] = np.nan
    soundfile.write(nan.path, samples, 44100, subtype="FLOAT")
    told = checked(f"manifest={written.root}", clean=True)
    assert told["findings"] == {}
    told = checked(f"manifest={written.root}", "--decode")
    assert names(told, "broken") == [f"train {nan.name} (the file holds NaN or infinity)"]
    assert names(told, "digital silence") == [f"train {quiet.name}"]
    assert names(told, "channels that cancel") == [f"train {opposed.name}"]
    assert names(told, "identical sound") == [f"train {wav.name} = train {flac.name}"]
    assert (told["parts"][0]["found"], told["parts"][0]["broken"]) == (5, 1)
    for clip in (nan, flac):
        write_sound(clip.path, sound(1, 1.0, 44100), 44100)
    told = checked(f"manifest={written.root}", "--decode", clean=True)
    assert list(told["findings"]) == ["digital silence", "channels that cancel"]


def test_one_source_in_two_folds(tmp_path: Path, checked: Check) -> None:
    written = write_esc50(tmp_path / "esc", seconds=0.2)
    meta = written.root / "meta" / "esc50.csv"
    rows = [row.split(",") for row in meta.read_text().splitlines()]
    rows[4][5] = rows[1][5]  # src_file of a clip of fold 2 becomes that of one of fold 1
    meta.write_text("\n".join(map(",".join, rows)) + "\n")
    told = checked(f"esc50={written.root}")
    first, other = written.of("fold1")[0].name, written.of("fold2")[0].name
    assert names(told, "one source in two splits") == [
        f"{rows[1][5]}: fold 1 {first}, fold 2 {other}"
    ]


def test_a_name_that_stands_in_two_hdf5_files(tmp_path: Path, checked: Check) -> None:
    written = write_audioset_hdf5(tmp_path / "as", seconds=0.5)
    name = written.of("balanced_train")[0].name
    sounds = [encoded(sound(seed, 0.5, 32000), 32000, "mp3") for seed in (70, 71)]
    write_hdf5(
        written.root / "eval_segments_mp3.hdf",
        [name, "Yother.mp3"],
        sounds,
        np.packbits(np.eye(2, 527, dtype=np.uint8), axis=-1),
    )
    told = checked(f"audioset={written.root}", "--decode")
    (twice,) = names(told, "identical across splits")
    assert twice.startswith("train ") and " = test " in twice and name in twice
    assert len(names(told, "one source in two splits")) == 1
    assert told["rates"] == {"32000": 16}
    assert [part["found"] for part in told["parts"]] == [14, 2]


def test_an_empty_row_of_an_hdf5_file_is_no_file_to_replace(tmp_path: Path, checked: Check) -> None:
    write_hdf5(
        tmp_path / "as" / "eval_segments_mp3.hdf",
        [f"Y{number:011}.mp3" for number in range(21)],
        [*[encoded(sound(1, 0.1, 32000), 32000, "mp3")] * 20, b""],
        np.packbits(np.eye(21, 527, dtype=np.uint8), axis=-1),
    )
    told = checked(f"audioset={tmp_path / 'as'}", "--no-duplicates")
    assert len(names(told, "broken")) == 1
    assert "rows of the HDF5 file" in told["findings"]["broken"]["remedy"]
    assert "published" in told["findings"]["not listed"]["remedy"]


def test_prepared_clips_need_no_rate_or_seconds(tmp_path: Path, cli: Cli, mistake: Mistake) -> None:
    written = write_manifest(tmp_path / "own")
    prepare_data(Preparation("manifest", written.root, 16000, seconds=0.8))
    folder = written.root / "prepared-16000"
    named = f"manifest={folder}"
    code, said = cli("data", "check", named)
    assert code == 0
    assert "Sampling rates: 16000 Hz (18 clips)." in said
    assert f"Next: passt-bench data check {named} --decode" in said
    code, said = cli("data", "check", named, "--rate", 16000, "--seconds", 0.5, "--decode")
    assert code == 0
    assert f"Next: passt-bench run STUDY --data {named}" in said
    for option, value in (("--rate", 32000), ("--seconds", 1.0)):
        error = mistake("data", "check", named, option, value)
        assert (error.field, error.value) == (option, value)
    assert mistake("data", "check", f"manifest={written.root}", "--rate", 10).field == "--rate"
    samples = np.fromfile(folder / shard_name(0), dtype="<i2")
    samples[0] ^= 1  # the first of a clip: the digest does not cover it
    samples.tofile(folder / shard_name(0))
    assert cli("data", "check", named)[0] == 0
    error = mistake("data", "check", named, "--decode")
    assert error.source == folder and error.problem.startswith("the checksum differs")


def test_bad_input(mistake: Mistake) -> None:
    error = mistake("data", "check", "manifest")
    assert (error.field, error.value) == ("NAME=DIR", "manifest")
    assert mistake("data", "check", "nothing=.").remedy.startswith("Known: ")
    assert "procedural" in mistake("data", "check", "synthetic=.").problem
