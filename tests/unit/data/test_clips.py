"""Data sets of files: formats, parts of clips, lost files, and what is remembered of headers."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
from sounds import sound, write_sound

from passt_bench.data import scan
from passt_bench.data.clip_table import TEST, TRAIN, ListingBuilder
from passt_bench.data.layout import FolderDataset, open_listing
from passt_bench.errors import InputError
from passt_bench.spec.recipe import DataSpec

SPEC = DataSpec(name="manifest", seconds=0.2)


def fill(root: Path, names: list[str], seconds: float = 0.1, rate: int = 8000) -> None:
    for seed, name in enumerate(names):
        write_sound(root / name, sound(seed, seconds, rate), rate)


def read(
    root: Path, names: list[str], rate: int = 8000, spec: DataSpec = SPEC, **how: bool
) -> FolderDataset:
    """Every other clip is for training."""
    builder = ListingBuilder()
    for number, name in enumerate(names):
        builder.add(name, name, ["dog" if number % 4 < 2 else "cat"], (TRAIN, TEST)[number % 2])
    return open_listing(builder.listing(root), spec, rate, **how)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(scan.CACHE_VARIABLE, str(folder))
    return folder


def test_only_what_is_needed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{at}.wav" for at in range(4)]
    fill(tmp_path, names, seconds=20.0)
    data = read(tmp_path, names, 16000)
    taken: list[int] = []
    plain = soundfile.SoundFile.read

    def counting(file: soundfile.SoundFile, *args: object, **more: object) -> np.ndarray:
        block = plain(file, *args, **more)
        taken.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    data.excerpt(0, 16000 * 15)
    assert sum(taken) < 8000 * 1.5  # of 160,000


def test_what_was_found(tmp_path: Path) -> None:
    fill(tmp_path, ["a.wav", "b.flac"], 0.1)
    write_sound(tmp_path / "c.ogg", sound(3, 0.5, 16000, 2), 16000)
    fill(tmp_path, ["d.wav"], 0.05, 44100)
    data = read(tmp_path, ["a.wav", "b.flac", "c.ogg", "d.wav"])
    table = data.clip_table()
    assert table.splits == ("train", "test", "validation")
    assert table.expected == (2, 2, 0)
    assert table.clips["rate"].tolist() == [8000, 8000, 16000, 44100]
    assert table.clips["channels"].tolist() == [1, 1, 2, 1]
    assert table.clips["seconds"].tolist() == pytest.approx([0.1, 0.1, 0.5, 0.05], abs=1e-3)
    assert table.path(2) == data.sound(2) == tmp_path / "c.ogg"
    assert data.fingerprint.sampling_rates == {"16000": 1, "44100": 1, "8000": 2}
    assert "2 clips resampled to 8000 Hz by torchaudio sinc_interp_hann" in data.fingerprint.notes
    assert "1 clips of several channels mixed to one" in data.fingerprint.notes
    wave = data.waveform(3)
    assert wave[:400].any()
    assert not wave[400:].any()  # padded
    assert data.length(0) is None
    assert data.length(2) == 4000


def test_lost_files_are_counted_and_named(tmp_path: Path) -> None:
    names = [f"{at:02}.wav" for at in range(40)]
    fill(tmp_path, names)
    (tmp_path / "07.wav").unlink()
    (tmp_path / "10.wav").write_bytes((tmp_path / "10.wav").read_bytes()[:500])
    data = read(tmp_path, names)
    assert (data.fingerprint.expected, data.fingerprint.found) == (40, 38)
    assert not {"07.wav", "10.wav"} & set(data.ids)
    lost = data.clip_table().skipped
    assert (list(lost["name"]), list(lost["split"])) == (["07.wav", "10.wav"], [TEST, TRAIN])
    labels = data.clip_table().skipped_targets
    assert labels is not None
    assert labels[np.arange(2)].tolist() == [[1, 0], [1, 0]]  # cats
    assert lost["problem"][0] == "no such file" and lost["problem"][1].startswith("cut off")
    note = data.fingerprint.notes[0]
    assert note.startswith("2 clips left out, 1 missing and 1 without sound: 07.wav (no such file)")
    assert str(tmp_path) not in note
    (tmp_path / "13.wav").unlink()
    with pytest.raises(InputError, match=r"3 of 40 clips are missing or unreadable"):
        read(tmp_path, names)


def test_a_file_without_the_right_to_read_is_named(tmp_path: Path) -> None:
    names = [f"{at:02}.wav" for at in range(20)]
    fill(tmp_path, names)
    (tmp_path / "03.wav").chmod(0)
    before = os.geteuid()
    try:
        if before == 0:  # who may read all
            for path in (tmp_path, *tmp_path.parents):
                if path.stat().st_mode & 0o005 != 0o005:
                    path.chmod(0o755)
            os.seteuid(65534)
        data = read(tmp_path, names)
    finally:
        os.seteuid(before)
    assert list(data.clip_table().skipped["problem"]) == ["cannot be read (Permission denied)"]


def test_any_number_may_be_missing_where_nobody_has_all(tmp_path: Path) -> None:
    names = [f"{at:02}.wav" for at in range(40)]
    fill(tmp_path, names[:20])
    with pytest.raises(InputError, match="20 of 40"):
        read(tmp_path, names)
    data = read(tmp_path, names, incomplete=True)
    assert (data.fingerprint.expected, data.fingerprint.found) == (40, 20)
    assert data.fingerprint.notes[0].endswith("and 15 more")
    for at in (0, 1):  # 2 of the 20 that are there
        (tmp_path / names[at]).write_bytes(b"")
    with pytest.raises(InputError, match="2 of 40"):
        read(tmp_path, names, incomplete=True)
    with pytest.raises(InputError, match="4 of 4"):
        read(tmp_path / "absent", names[:4], incomplete=True)


def test_stretches_that_their_file_does_not_hold(tmp_path: Path) -> None:
    fill(tmp_path, ["a.wav"], 1.0)
    builder = ListingBuilder(["dog"])
    odd = {7: (5.0, 6.0), 8: (0.16, 6.0), 9: (0.18, 1e300), 10: (0.2, 0.200001)}
    for number in range(60):
        start, end = odd.get(number, (number / 70, number / 70 + 0.1))
        builder.add(f"{number:02}", "a.wav", ["dog"], number % 2, start=start, end=end)
    data = open_listing(builder.listing(tmp_path), SPEC, 8000)
    lost = data.clip_table().skipped
    assert list(lost["name"]) == ["07", "10"]
    assert lost["problem"][0] == "starts at 5 s, its file ends at 1 s"
    assert "shorter than a sample" in lost["problem"][1]
    late = "2 clips end behind their files; what is not there is silent: 08, 09"
    assert late in data.fingerprint.notes
    assert data.length(data.ids.index("08")) == round((1 - 0.16) * 8000)


def test_headers_are_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_MIN_FILES_TO_CACHE", 10)
    read_header = mock.Mock(wraps=scan.read_header)
    monkeypatch.setattr(scan, "read_header", read_header)

    def opened() -> list[str]:
        calls = read_header.call_args_list.copy()
        read_header.reset_mock()
        return sorted(call.args[0].name for call in calls)

    names = [f"{at:02}.wav" for at in range(60)]
    fill(tmp_path, names)
    read(tmp_path, names[:4])
    assert not cache.exists()  # few files are read again faster
    assert opened() == names[:4]
    (tmp_path / names[5]).write_bytes(b"")
    first = read(tmp_path, names)
    assert opened() == names
    assert read(tmp_path, names).fingerprint == first.fingerprint
    assert opened() == [names[5]]  # what is lost may come back
    fill(tmp_path, [names[5]])
    fill(tmp_path, [names[9]], seconds=0.15)
    third = read(tmp_path, names)
    assert opened() == [names[5], names[9]]
    assert third.fingerprint.found == 60
    assert third.clip_table().clips["seconds"][9] == pytest.approx(0.15)
    (index,) = (cache / "headers").iterdir()
    index.write_bytes(b"spoilt")
    assert read(tmp_path, names).fingerprint == third.fingerprint
    assert opened() == names


def test_a_cache_that_takes_nothing_does_no_harm(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_MIN_FILES_TO_CACHE", 1)
    cache.write_text("a file where the folder should be")
    names = [f"{at}.wav" for at in range(4)]
    fill(tmp_path, names)
    assert read(tmp_path, names).fingerprint.found == 4
    monkeypatch.setenv(scan.CACHE_VARIABLE, "/proc/nothing")
    assert read(tmp_path, names).fingerprint.found == 4
