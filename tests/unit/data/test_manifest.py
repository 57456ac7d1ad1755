"""Recordings of one's own: labels, splits, folds, stretches, and every way to get a row wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from layouts import write_manifest

from passt_bench.data import find_folders, open_dataset
from passt_bench.data.fingerprint import class_notes
from passt_bench.data.layout import FolderDataset
from passt_bench.data.targets import PackedTargets
from passt_bench.errors import InputError
from passt_bench.spec.recipe import DataSpec

RATE = 8000


def read(root: Path, rate: int = RATE, **fields: object) -> FolderDataset:
    spec = DataSpec(name="manifest", **{"seconds": 0.1, **fields})  # type: ignore[arg-type]
    found = open_dataset(spec, rate, root)
    assert isinstance(found, FolderDataset)
    return found


def ramp(path: Path, seconds: float = 1.0, volume: float = 1.0) -> None:
    """A file that says by its values where in it one is."""
    wave = volume * np.arange(round(seconds * RATE)) / (10 * RATE)
    soundfile.write(path, wave, RATE, subtype="FLOAT")


def write(root: Path, text: str) -> Path:
    """A manifest with the files that it names."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.csv").write_text(text)
    for name in "abcd":
        ramp(root / f"{name}.wav")
    return root


SMALL = "path,labels,split\na.wav,dog,train\nb.wav,cat,train\nc.wav,dog,test\nd.wav,cat,test\n"


def test_one_label_a_clip_and_letters_of_utf_8(tmp_path: Path) -> None:
    root = write(tmp_path, SMALL.replace("dog", "Käuzchen"))
    data = read(root)
    assert data.fingerprint.classes == ("Käuzchen", "cat")
    assert not data.fingerprint.multi_label
    assert data.fingerprint.notes == ()
    assert isinstance(data.targets, PackedTargets)
    assert data.targets[np.arange(4)].tolist() == [[1, 0], [0, 1]] * 2
    assert list(data.ids) == list(data.sources) == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert [list(part) for part in data.split(None)] == [[0, 1], [2, 3]]
    assert data.validation() is None
    content = (root / "manifest.csv").read_bytes()
    (root / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + content)
    assert read(root).fingerprint == data.fingerprint
    (root / "manifest.csv").write_bytes(content.decode().encode("latin-1"))
    with pytest.raises(InputError, match=r"manifest\.csv: not a text file in UTF-8"):
        read(root)


@pytest.mark.parametrize(("folds", "multi_label"), [(0, False), (0, True), (3, False)])
def test_what_was_written_is_read(folds: int, multi_label: bool, tmp_path: Path) -> None:
    written = write_manifest(tmp_path, folds=folds, multi_label=multi_label)
    data = read(tmp_path, 16000, seconds=1.0)
    assert data.fingerprint.multi_label == multi_label
    assert data.fingerprint.classes == written.classes
    order = [data.ids.index(clip.name) for clip in written.clips]
    assert np.array_equal(data.targets[np.array(order)], written.targets())
    assert set(data.fingerprint.sampling_rates) == {"16000", "32000", "44100"}
    assert {data.length(index) for index in order} == {None, 25600}
    assert data.folds == tuple(range(1, folds + 1))
    parts = {f"fold{fold}": data.split(fold)[1] for fold in data.folds}
    if not folds:
        parts = dict(zip(("train", "test"), data.split(None), strict=True))
        parts["validation"] = data.validation()
    for name, clips in parts.items():
        assert {data.ids[i] for i in clips} == {clip.name for clip in written.of(name)}
    for fold in data.folds:
        assert sorted(np.concatenate(data.split(fold))) == list(range(len(data.ids)))
        assert data.validation() is None
    for wrong in (None, 0, 4) if folds else (1,):
        with pytest.raises(InputError, match="no such fold"):
            data.split(wrong)


@pytest.mark.parametrize(
    ("word", "test"), [("val", "test"), ("valid", "eval"), ("validation", "evaluation")]
)
def test_names_of_splits(tmp_path: Path, word: str, test: str) -> None:
    text = SMALL.replace(",test", f",{test}").replace("b.wav,cat,train", f"b.wav,cat,{word}")
    data = read(write(tmp_path, text))
    assert [list(part) for part in data.split(None)] == [[0], [2, 3]]
    assert list(data.validation()) == [1]  # type: ignore[arg-type]
    assert data.fingerprint.notes == (
        "1 classes without a clip in train: cat",
        "1 classes without a clip in validation: dog",
    )


def test_stretches_of_files(tmp_path: Path) -> None:
    text = (
        "path,labels,split,start,end\n"
        "a.wav,dog,train,0.25,0.3\na.wav,cat,train,0.5,\na.wav,cat,test,,0.05\nb.wav,dog,test,,\n"
    )
    data = read(write(tmp_path, text))
    assert list(data.ids) == ["a.wav@0-0.05", "a.wav@0.25-0.3", "a.wav@0.5-", "b.wav"]
    assert list(data.sources) == ["a.wav", "a.wav", "a.wav", "b.wav"]
    seconds = data.clip_table().clips["seconds"].to_numpy()
    assert seconds.tolist() == pytest.approx([0.05, 0.05, 0.5, 1.0])
    assert [data.length(i) for i in range(4)] == [None, None, 4000, 8000]
    wave = data.waveform(1)
    assert wave[0] == pytest.approx(0.025)
    assert wave[399] == pytest.approx((0.25 + 399 / RATE) / 10)
    assert not wave[400:].any()  # nothing is heard of what follows the clip
    assert data.waveform(2)[0] == pytest.approx(0.05)
    assert data.excerpt(2, 3900)[:100].all()
    assert not data.excerpt(2, 3900)[100:].any()


def test_a_vocabulary_gives_the_order(tmp_path: Path) -> None:
    root = write(tmp_path, SMALL)
    (root / "classes.txt").write_text("dog\ncow\ncat\n")
    data = read(root)
    assert data.fingerprint.classes == ("dog", "cow", "cat")
    assert data.targets[np.arange(2)].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert "1 classes without a clip in train: cow" in data.fingerprint.notes
    (root / "classes.txt").write_text("dog\ncow\n")
    with pytest.raises(InputError, match=r"line 3: labels = 'cat': classes.txt lacks 'cat'"):
        read(root)
    (root / "classes.txt").write_text("dog\ncat\ndog\n")
    with pytest.raises(InputError, match="classes = 'dog'"):
        read(root)
    (root / "classes.txt").unlink()
    (root / "vocabulary.csv").write_text("0,dog,/m/1\n1,cat,/m/2\n")
    assert read(root).fingerprint.classes == ("dog", "cat")
    (root / "vocabulary.csv").write_text("1,dog\n0,cat\n")
    with pytest.raises(InputError, match="not a list of names"):
        read(root)


def test_the_file_itself_may_be_given(tmp_path: Path) -> None:
    root = write(tmp_path / "mine", SMALL)
    (root / "manifest.csv").rename(root / "other.csv")
    assert read(root / "other.csv").fingerprint.found == 4
    with pytest.raises(InputError, match="no manifest"):
        read(root)
    with pytest.raises(InputError, match="--data manifest=DIR"):
        open_dataset(DataSpec(name="manifest"), RATE, None)
    (root / "other.csv").rename(root / "manifest.csv")
    assert find_folders(tmp_path) == {"manifest": root}


def test_the_digest_tells_what_was_found(tmp_path: Path) -> None:
    root = write(tmp_path, SMALL)
    plain = read(root).fingerprint.digest
    # Rate and length stand in the recipe; the order of rows does not count.
    assert read(root, 16000, seconds=0.3, train_clips=1).fingerprint.digest == plain
    head, *rows = SMALL.splitlines()
    write(root, "\n".join([head, *rows[::-1], ""]))
    assert read(root).fingerprint.digest == plain
    changed = {plain}
    for text in (
        SMALL.replace("a.wav,dog", "a.wav,cat"),
        SMALL.replace("b.wav,cat,train", "b.wav,cat,val"),
        SMALL.replace("dog", "wolf"),
        SMALL.replace("split\n", "split,source\n").replace("n\n", "n,x\n").replace("t\n", "t,y\n"),
        SMALL.replace("split\n", "split,end\n").replace("n\n", "n,0.5\n").replace("t\n", "t,1\n"),
    ):
        changed.add(read(write(root, text)).fingerprint.digest)
    write(root, SMALL)
    for seconds, volume in ((1.5, 1.0), (1.0, 0.5)):  # the other is a sound of the same size
        ramp(root / "a.wav", seconds, volume)
        changed.add(read(root).fingerprint.digest)
    assert len(changed) == 8


ROWS = {
    "climbs out": ("../a.wav,dog,train", "path", "../a.wav"),
    "absolute": ("/a.wav,dog,train", "path", "/a.wav"),
    "climbs on Windows": ("..\\x.wav,dog,train", "path", "..\\x.wav"),
    "climbs here alone": ("a\\b/../../c.wav,dog,train", "path", "a\\b/../../c.wav"),
    "a drive": ("C:\\a.wav,dog,train", "path", "C:\\a.wav"),
    "no path": (",dog,train", "path", ""),
    "no label": ("a.wav,,train", "labels", ""),
    "backslashes": ("x\\a.wav,dog,train", "path", "x\\a.wav"),
    "no split": ("a.wav,dog,", "split", ""),
    "an empty label": ("a.wav,dog;;cat,train", "labels", "dog;;cat"),
    "a label twice": ("a.wav,dog;dog,train", "labels", "dog;dog"),
    "a row twice": ("d.wav,dog,train", "path", "d.wav"),
    "a row twice in another form": ("x/../d.wav,dog,train", "path", "x/../d.wav"),
    "another split": ("a.wav,dog,dev", "split", "dev"),
    "no fold": ("a.wav,dog,", "fold", ""),
    "a fold below 0": ("a.wav,dog,-1", "fold", "-1"),
    "a fold beyond": ("a.wav,dog,99999", "fold", "99999"),
    "start is no number": ("a.wav,dog,train,one,2", "start", "one"),
    "start is negative": ("a.wav,dog,train,-1,2", "start", "-1"),
    "end is no number": ("a.wav,dog,train,0,nan", "end", "nan"),
    "end before start": ("a.wav,dog,train,0.5,0.2", "end", "0.2"),
    "too few values": ("a.wav,dog", None, None),
    "too many values": ("a.wav,dog,cat,train", None, None),
}


@pytest.mark.parametrize("case", ROWS)
def test_names_the_broken_row(tmp_path: Path, case: str) -> None:
    row, field, value = ROWS[case]
    text = SMALL.replace("a.wav,dog,train\n", "")
    if field == "fold":
        text = text.replace("split", "fold").replace("train", "1").replace("test", "2")
    if field in ("start", "end"):
        text = text.replace("split\n", "split,start,end\n")
        text = re.sub(r",(train|test)$", r",\1,,", text, flags=re.MULTILINE)
    root = write(tmp_path, f"{text}{row}\n")
    with pytest.raises(InputError) as error:
        read(root)
    found = error.value
    assert (found.source, found.field, found.value) == (f"{root}/manifest.csv line 5", field, value)
    assert case != "no label" or "separated by ';'" in str(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL.replace("path", "file"), "path = 'file,labels,split': missing columns"),
        (SMALL.replace(",split", "").replace(",t", ";t"), "neither split nor fold.* data split"),
        (SMALL.replace("split", "part"), "first line = .*neither split nor fold"),
        (SMALL.replace("labels", "fold"), "first line = .*both of split and fold"),
        (SMALL.replace("path,labels,split", "labels,label,split"), "both of labels and label"),
        (SMALL.replace("split", "split,split").replace("n\n", "n,n\n"), "split = .*named twice"),
        (SMALL.replace("split", "split,,").replace("n\n", "n,,\n"), "2 columns have no name"),
        *(
            (re.sub("$", f",{column}", SMALL, count=1, flags=re.M), f"{column}.*no such column")
            for column in ("Start", "sources", "lables")
        ),
        ("path,labels,split\n", "no clips are listed"),
        ("", "neither split nor fold"),
        (SMALL.partition("\n")[2], "first line = .*neither split nor fold.*path,labels,split"),
        (SMALL.replace(",", ";"), "neither split nor fold.*with commas"),
        (SMALL.replace(",", "\t"), "neither split nor fold.*with commas"),
        # The second has as many values as columns, and rows lost in one.
        *(
            (SMALL.replace(*quote, 1), f"line 2: {values} values for 3 columns in lines 2 to 5. "
             "Put values that contain a delimiter in quotes, and close each quote")
            for values, quote in ((2, (",dog,", ',"dog,')), (3, (",train", ',"train')))
        ),
        (SMALL.replace("test", "train"), "no clip of the split 'test'"),
    ],
)  # fmt: skip
def test_refuses_lists_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path, text))


def test_clips_of_background_have_no_label_where_others_have_several(tmp_path: Path) -> None:
    text = SMALL.replace("a.wav,dog", "a.wav,dog;cat").replace("d.wav,cat", "d.wav,")
    data = read(write(tmp_path, text))
    assert data.fingerprint.multi_label
    assert data.targets[np.array([0, 3])].tolist() == [[1, 1], [0, 0]]


def test_columns_that_count_for_nothing_are_named(tmp_path: Path) -> None:
    text = re.sub("$", ",0,1", SMALL.replace("split", "split,start_time,end_time"), flags=re.M)
    text = text.replace("end_time,0,1", "end_time").removesuffix(",0,1")
    data = read(write(tmp_path, text))
    assert "columns that are not used: start_time, end_time" in data.fingerprint.notes


@pytest.mark.parametrize(
    ("classes", "note"),
    [
        (("gr\u00fcn", "gru\u0308n"), r"classes that look alike: 'gru\u0308n' and 'gr\xfcn'"),
        (("Blau", "blau"), "classes that look alike: 'Blau' and 'blau'"),
        (("rot", "ro\u200bt"), r"classes that look alike: 'rot' and 'ro\u200bt'"),
        (("rot", "rot\ufe0f"), r"classes that look alike: 'rot' and 'rot\ufe0f'"),
        (("rot", "r\u3164ot"), r"classes that look alike: 'rot' and 'r\u3164ot'"),
        (("dog", "cat", "dog, cat"), "classes that may be lists: 'dog, cat'"),
        (("dog,cat", "dog, wet"), "classes that may be lists: 'dog,cat'"),
        (("['dog']", "cat"), "classes that may be lists: \"['dog']\""),
        (("Male speech, man speaking", "child's"), None),
    ],
)
def test_classes_that_look_alike_are_named(
    classes: tuple[str, ...], note: str | None, tmp_path: Path
) -> None:
    rows = [f'{name}.wav,"{classes[at % len(classes)]}",{split}' for at, (name, split) in
            enumerate(zip("abcd", ("train", "train", "train", "test"), strict=True))]  # fmt: skip
    data = read(write(tmp_path, "\n".join(["path,labels,split", *rows, ""])))
    assert set(data.fingerprint.classes) == set(classes)
    found = [each for each in data.fingerprint.notes if each.startswith("classes that")]
    assert found == ([note] if note else [])


def test_a_name_with_blanks_at_its_ends_is_looked_up_as_written(tmp_path: Path) -> None:
    root = write(tmp_path, SMALL + '" e.wav",dog,test\n"f.wav ",cat,test\n h.wav ,dog,train\n')
    for name in (" e.wav", "f.wav ", "h.wav"):
        (root / name).write_bytes((root / "a.wav").read_bytes())
    assert [name for name in read(root).ids if name not in SMALL] == [" e.wav", "f.wav ", "h.wav"]


def test_a_name_that_differs_in_case_or_ending_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, SMALL.replace("d.wav", "d"))
    with pytest.raises(InputError, match=r"d \(no such file, but there is d\.wav\)"):
        read(root)
    write(root, SMALL.replace("d.wav", "D.wav"))
    with pytest.raises(InputError, match=r"D\.wav \(no such file, but there is d\.wav\)"):
        read(root)
    write(root, SMALL.replace("d.wav", "Sub/a/D.wav"))
    (root / "sub" / "A").mkdir(parents=True)
    (root / "d.wav").rename(root / "sub" / "A" / "d.wav")
    with pytest.raises(InputError, match=r"no such file, but there is sub/A/d\.wav\)"):
        read(root)


def test_of_look_alikes_the_one_that_is_there_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, SMALL.replace("d.wav", "gr\u00fcn.wav"))
    (root / "d.wav").rename(root / "gru\u0308n.wav")
    with pytest.raises(InputError, match=r"but there is \S+u0308n\.wav"):
        read(root)
    for given, there in (("gr\u00fcn", "gru\u0308n"), ("Blau", "blau")):
        write(root, SMALL.replace("dog", given))
        (root / "classes.txt").write_text(f"cat\n{there}\n", encoding="utf-8")
        with pytest.raises(InputError) as error:
            read(root)
        assert f"classes.txt lacks {given!a}, but has {there!a}" in str(error.value)


def test_all_look_alikes_are_named() -> None:
    names = [f"{case}{number}" for number in range(9) for case in "aA"]
    (note,) = class_notes(np.zeros((0, 18)), np.zeros(0), (), names)
    assert note.count(" and ") == 9 and note.endswith("'a8' and 'A8'")


def test_a_backslash_within_a_name_is_a_letter(tmp_path: Path) -> None:
    names = ("x\\e.wav", "x\\..\\f.wav", "..g\\h.wav")
    root = write(tmp_path, SMALL + "".join(f"{name},dog,test\n" for name in names))
    for name in names:
        ramp(root / name)
    assert read(root).fingerprint.found == 4 + len(names)


@pytest.mark.parametrize("line", [1, 3])
def test_a_quote_without_end_is_told_where_it_begins(line: int, tmp_path: Path) -> None:
    lines = [*SMALL.splitlines(), *(f"e{number:05}.wav,dog,train" for number in range(10_000))]
    lines[line - 1] = '"' + lines[line - 1]
    root = write(tmp_path, "\n".join([*lines, ""]))
    with pytest.raises(InputError, match="field larger than field limit") as error:
        read(root)
    assert str(error.value).startswith(f"{root / 'manifest.csv'} line {line}: ")
    assert "Look for a quote that is not closed" in str(error.value)


def test_links_may_lead_elsewhere(tmp_path: Path) -> None:
    root = write(tmp_path / "list", SMALL)
    (root / "a.wav").rename(tmp_path / "far.wav")
    (root / "a.wav").symlink_to(tmp_path / "far.wav")
    assert read(root).fingerprint.found == 4
    (root / "manifest.csv").unlink()
    (root / "manifest.csv").mkdir()
    with pytest.raises(InputError, match="no manifest"):
        read(root)
