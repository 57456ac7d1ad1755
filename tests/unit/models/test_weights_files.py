"""Reading files: hostile, broken and foreign ones are refused, nothing is executed."""

from __future__ import annotations

import argparse
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
    """A pickle of it would make a file where its reader executes pickles."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("under", [None, "state_dict", "model"])
def test_files_of_torch_save_are_read(tmp_path: Path, under: str | None, legacy: bool) -> None:
    content: object = OrderedDict(TENSORS) if under is None else {under: TENSORS, "epoch": 3}
    path = tmp_path / "w.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = read_tensors(path).tensors
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_safetensors_are_read_with_their_texts(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.any", metadata={"say": "hello"})
    found = read_tensors(tmp_path / "w.any")
    assert found.metadata == {"say": "hello"}
    assert torch.equal(found.tensors["a.weight"], TENSORS["a.weight"])


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path: Path, kind: str) -> None:
    path, mark = tmp_path / "w.pt", tmp_path / "executed"
    content = {"state_dict": TENSORS, "hyper_parameters": Hostile(mark)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(InputError, match="w.pt") as caught:
        read_tensors(path)
    assert not mark.exists()
    assert "allowlist" not in str(caught.value)  # nobody is told to trust the file
    if kind == "zip":
        assert "posix.mkdir" in str(caught.value)
        assert "state_dict" in str(caught.value)
        # The test itself would notice an execution.
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_foreign_classes_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "args": argparse.Namespace(lr=1)}, tmp_path / "w.ckpt")
    with pytest.raises(InputError) as caught:
        read_tensors(tmp_path / "w.ckpt")
    assert caught.value.field == "argparse.Namespace"
    assert "torch.save(checkpoint['state_dict'], FILE)" in str(caught.value)


def test_lightnings_hyper_parameters_are_read_as_a_plain_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    # The name of the class in the file, as Lightning writes it, without Lightning.
    torch.save({"state_dict": TENSORS, "hyper_parameters": OrderedDict(lr=1)}, path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    lightning = b"pytorch_lightning.utilities.parsing\nAttributeDict\n"
    changed = [name for name in parts if name.endswith("data.pkl")]
    head, _, tail = parts[changed[0]].rpartition(b"collections\nOrderedDict\n")
    parts[changed[0]] = head + lightning + tail
    with zipfile.ZipFile(path, "w") as new:
        for name, data in parts.items():
            new.writestr(name, data)
    assert read_tensors(path).tensors.keys() == TENSORS.keys()


def _write(path: Path, kind: str) -> None:
    whole = path.with_suffix(".whole")
    if kind.startswith("torch"):
        torch.save(TENSORS, whole)
    else:
        save_file(TENSORS, whole)
    data = whole.read_bytes()
    whole.unlink()
    path.write_bytes(
        {
            "torch half": data[: len(data) // 2],
            "torch start": data[:30],
            "safe half": data[: len(data) // 2],
            "safe less": data[:-1],
            "safe more": struct.pack("<Q", 2**60) + b"{" + data[9:],
            "empty": b"",
            "html": b"\n <!DOCTYPE html><html>Not found</html>",
            "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "text": b"hello, these are no weights",
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("torch half", "not a whole file of torch.save"),
        ("torch start", "not a whole file of torch.save"),
        ("safe half", "not a whole safetensors file"),
        ("safe less", "not a whole safetensors file"),
        ("safe more", "not a whole safetensors file"),
        ("empty", "the file is empty"),
        ("html", "a web page"),
        ("lfs", "a pointer of Git LFS"),
        ("text", "neither safetensors nor"),
    ],
)
def test_broken_files_say_what_they_are(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "w.pt"
    _write(path, kind)
    with pytest.raises(InputError, match=message) as caught:
        read_tensors(path)
    assert caught.value.source == path
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list without named tensors"),
        ({}, "holds a dict without named tensors"),
        ({"a": torch.ones(1), "epoch": 3}, "epoch = 'int': not a tensor"),
        ({1: torch.ones(1)}, "1 = 'Tensor': not a tensor"),
        ({"a": torch.eye(2).to_sparse()}, "not a plain dense tensor"),
        ({"a": torch.tensor([1.0, torch.inf])}, "a: holds NaN or infinity"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "w.pt")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.pt: no such file.*weights list"):
        read_tensors(tmp_path / "none.pt")


def test_prefixes_that_are_the_models_own_names_stay() -> None:
    own = {"net.weight": torch.ones(1)}
    assert strip_prefixes(own, own)[0] == own
    tensors, unused, _ = strip_prefixes({"net.a": torch.ones(1), "mel.window": torch.ones(1)})
    assert list(tensors) == ["a"]
    assert unused == {"mel.window": "not among the weights under net.*"}
