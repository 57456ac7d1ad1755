"""Reading files: hostile, broken and foreign ones are refused, nothing is executed."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from passt_bench.errors import InputError
from passt_bench.models.weights.formats import read_tensors, strip_prefixes

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Hostile:
    """A pickle of it makes a file where its reader executes pickles."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("under", [None, "state_dict", "model"])
def test_tensors_are_read(tmp_path: Path, under: str | None, form: str) -> None:
    content: object = OrderedDict(TENSORS) if under is None else {under: TENSORS, "epoch": 3}
    path = tmp_path / "w.any"
    if form == "safetensors":
        save_file(TENSORS, path, metadata={"say": "hello"})
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    found = read_tensors(path)
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)
    assert found.metadata == ({"say": "hello"} if form == "safetensors" else {})


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path: Path, kind: str) -> None:
    path, mark = tmp_path / "w.pt", tmp_path / "executed"
    content = {"state_dict": TENSORS, "hyper_parameters": Hostile(mark)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(InputError) as caught:
        read_tensors(path)
    assert not mark.exists()
    assert caught.value.source == path
    assert "allowlist" not in str(caught.value)  # nobody is advised to trust the file
    if kind == "zip":
        assert caught.value.field == "posix.mkdir"
        # The test itself would notice an execution.
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_lightnings_hyper_parameters_are_read_as_a_plain_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    # The name of the class in the file, as Lightning writes it, without Lightning.
    torch.save({"state_dict": TENSORS, "hyper_parameters": OrderedDict(lr=1)}, path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    head, _, tail = parts[pickled].rpartition(b"collections\nOrderedDict\n")
    parts[pickled] = head + b"pytorch_lightning.utilities.parsing\nAttributeDict\n" + tail
    with zipfile.ZipFile(path, "w") as new:
        for name, data in parts.items():
            new.writestr(name, data)
    assert read_tensors(path).tensors.keys() == TENSORS.keys()


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("torch half", "not a whole file of torch.save"),
        ("safe half", "not a whole safetensors file"),
        ("safe more", "not a whole safetensors file"),
        ("empty", "the file is empty"),
        ("html", "a web page"),
        ("lfs", "a pointer of Git LFS"),
        ("text", "neither safetensors nor"),
        ("absent", "no such file"),
    ],
)
def test_broken_files_say_what_they_are(tmp_path: Path, kind: str, problem: str) -> None:
    path = tmp_path / "w.pt"
    torch.save(TENSORS, tmp_path / "torch")
    save_file(TENSORS, tmp_path / "safe")
    saved, safe = ((tmp_path / name).read_bytes() for name in ("torch", "safe"))
    content = {
        "torch half": saved[: len(saved) // 2],
        "safe half": safe[: len(safe) // 2],
        "safe more": struct.pack("<Q", 2**60) + b"{" + safe[9:],
        "empty": b"",
        "html": b"\n <!DOCTYPE html><html>Not found</html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "text": b"hello, these are no weights",
    }
    if kind in content:
        path.write_bytes(content[kind])
    with pytest.raises(InputError, match=problem) as caught:
        read_tensors(path)
    assert caught.value.source == path


@pytest.mark.parametrize(
    ("content", "field", "value"),
    [
        ([torch.ones(1)], None, None),
        ({}, None, None),
        ({"a": torch.ones(1), "epoch": 3}, "epoch", "int"),
        ({1: torch.ones(1)}, "1", "Tensor"),
        ({"a": torch.eye(2).to_sparse()}, "a", "torch.sparse_coo"),
        ({"a": torch.tensor([1.0, torch.inf])}, "a", None),
    ],
)
def test_other_contents_are_refused(
    tmp_path: Path, content: object, field: str | None, value: str | None
) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError) as caught:
        read_tensors(tmp_path / "w.pt")
    assert (caught.value.field, caught.value.value) == (field, value)


def test_a_folder_given_as_a_checkpoint_is_named_with_the_files_in_it(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"a folder, not a file.*in it: model\.safetensors"):
        read_tensors(tmp_path)


def test_prefixes_that_are_the_models_own_names_stay() -> None:
    own = {"net.weight": torch.ones(1)}
    assert strip_prefixes(own, own)[0] == own
    tensors, unused, _ = strip_prefixes({"net.a": torch.ones(1), "mel.window": torch.ones(1)})
    assert list(tensors) == ["a"]
    assert list(unused) == ["mel.window"]
    parts = {f"net.{name}": torch.ones(1) for name in ("a", "avg.a.b", "swa_head.c")}
    assert list(strip_prefixes(parts)[0]) == ["a", "avg.a.b", "swa_head.c"]
