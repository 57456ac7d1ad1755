"""Weight files to tensors, without executing anything that a file holds."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from passt_bench.errors import InputError

_NESTED = ("state_dict", "model")  # where trainers put the tensors among other things
# Lightning's hyper-parameters come in classes of its own; read as plain dictionaries.
_AS_DICT: list[Any] = [
    (dict, f"{module}.AttributeDict")
    for module in (
        "pytorch_lightning.utilities.parsing",
        "lightning.pytorch.utilities.parsing",
        "lightning_fabric.utilities.data",
        "lightning.fabric.utilities.data",
    )
]
_STARTS = (
    (("<!doctype", "<html", "<?xml", "<head"), "a web page instead of weights"),
    (("version https://git-lfs",), "a pointer of Git LFS instead of weights"),
)


@dataclass(frozen=True)
class TensorFile:
    """What a weight file holds.

    Attributes:
        path: of the file.
        tensors: name → tensor on the CPU.
        metadata: texts beside the tensors (safetensors).
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_tensors(path: Path) -> TensorFile:
    """Reads safetensors, or what ``torch.save`` wrote, without executing pickles.

    Of a file of ``torch.save`` that holds more than a state dict, what stands under
    ``state_dict`` or ``model`` is taken.

    Raises:
        InputError: the file is missing, empty, cut off, no weight file, holds objects that are not
            plain data, or numbers that are not finite.
    """
    if _start(path)[8:9] == b"{":
        return _checked(_read_safetensors(path))
    return _checked(TensorFile(path, _state_of(_read_torch(path), path)))


def _start(path: Path) -> bytes:
    """The first bytes of a file that may hold weights."""
    if not path.is_file():
        raise InputError(
            "no such file",
            source=path,
            remedy="Give a weight file, or a name of `passt-bench weights list`.",
        )
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise _broken(path, "the file is empty")
    text = start.decode("latin-1").lstrip().lower()
    for beginnings, problem in _STARTS:
        if text.startswith(beginnings):
            raise _broken(path, problem)
    if not (start.startswith((b"PK", b"\x80")) or start[8:9] == b"{"):
        raise _broken(path, "neither safetensors nor a file of torch.save")
    return start


def _broken(path: Path, problem: str) -> InputError:
    return InputError(problem, source=path, remedy="Get the file again, from where it came.")


def _read_safetensors(path: Path) -> TensorFile:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path, f"not a whole safetensors file ({error})") from None
    return TensorFile(path, tensors, metadata)


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_AS_DICT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text recommends to allow the object; a file from elsewhere earns no trust.
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise InputError(
            "the file holds Python objects beside tensors, which are not loaded",
            source=path,
            field=found.group(1) if found else None,
            remedy="Where the file was made, write its tensors alone: "
            "torch.save(checkpoint['state_dict'], FILE).",
        ) from None
    except Exception as error:  # torch raises many kinds for a broken file
        first = str(error).strip().split("\n")[0]
        raise _broken(path, f"not a whole file of torch.save ({first})") from None


def _state_of(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    """The mapping of names to tensors in what was loaded."""
    if isinstance(loaded, Mapping):
        for name in _NESTED:
            if isinstance(loaded.get(name), Mapping):
                loaded = loaded[name]
                break
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(
            f"holds a {type(loaded).__name__} instead of named tensors"
            if not isinstance(loaded, Mapping)
            else "holds no tensors",
            source=path,
            remedy="Give a state dict, or a mapping with one under 'state_dict' or 'model'.",
        )
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(
                "not a tensor",
                source=path,
                field=str(name),
                value=type(value).__name__,
                remedy="Give a state dict, or a mapping with one under 'state_dict' or 'model'.",
            )
    return {str(name): value.detach() for name, value in loaded.items()}


def _checked(file: TensorFile) -> TensorFile:
    if not file.tensors:
        raise InputError(
            "holds no tensors", source=file.path, remedy="Give a file with a model's weights."
        )
    for name, tensor in file.tensors.items():
        plain = tensor.layout == torch.strided and not tensor.is_quantized
        if not plain or tensor.device.type != "cpu":
            raise InputError(
                "not a plain dense tensor",
                source=file.path,
                field=name,
                value=str(tensor.layout),
                remedy="Save the weights as dense tensors.",
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                "holds NaN or infinity",
                source=file.path,
                field=name,
                remedy="Take a checkpoint from before the training diverged.",
            )
    return file
