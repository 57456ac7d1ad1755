"""Loads weights into a model; what does not fit is adapted, dropped or refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from passt_bench.errors import InputError
from passt_bench.models import ast
from passt_bench.models.ast import from_hugging_face
from passt_bench.models.passt import PaSST, published_blocks
from passt_bench.models.weights.adapt import (
    FRAMES,
    Tensors,
    choose_blocks,
    depth_of,
    fit_columns,
    fit_grid,
    fit_rows,
    from_image_model,
    image_model_as_ast,
    infer,
)
from passt_bench.models.weights.formats import (
    AST,
    AST_HF,
    PASST,
    VIT,
    Family,
    TensorFile,
    family_of,
    read_tensors,
    strip_prefixes,
    unpack,
)
from passt_bench.published_weights import by_file, locate
from passt_bench.spec.recipe import Pair

_LOG = logging.getLogger("passt_bench.weights")
_SHOWN = 6  # names in one line


@dataclass
class Loaded:
    """A report on loaded weights.

    Attributes:
        source: the file's name.
        format: the family of parameter names in the file.
        taken: parameters whose values were taken unchanged.
        adapted: parameter → how the file's values were changed to fit.
        reinitialized: parameter that keeps its initial values → why.
        dropped: tensor of the file that the model does not use → why.
        notes: choices that concern the whole file.
    """

    source: str
    format: str
    taken: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    reinitialized: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> tuple[str, ...]:
        """The report as sentences; parameters with one reason share a line."""
        out = [f"{self.source}: {self.format}, {len(self.taken)} tensors taken unchanged"]
        out += self.notes
        for what, table in (
            ("adapted", self.adapted),
            ("re-initialized", self.reinitialized),
            ("dropped", self.dropped),
        ):
            reasons: dict[str, list[str]] = {}
            for name, why in table.items():
                reasons.setdefault(why, []).append(name)
            out += [f"{what}: {_listed(names)}: {why}" for why, names in reasons.items()]
        return tuple(out)

    def log(self) -> None:
        """Writes every line to the log ``passt_bench.weights``."""
        for line in self.lines():
            _LOG.info(line)


def _listed(names: list[str]) -> str:
    """Names for a line, with one entry per block."""
    short = list(dict.fromkeys(re.sub(r"^((?:v\.)?blocks\.\d+)\..*", r"\1", n) for n in names))
    rest = len(short) - _SHOWN
    return ", ".join(short[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


_ROWS, _COLUMNS = "freq_new_pos_embed", "time_new_pos_embed"  # of PaSST, one per axis
_GRID = "v.pos_embed"  # of AST, for the whole grid
_OWN = Family("names of this package's model", (), heads=("head.",))


def load_weights(
    net: nn.Module,
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    folder: Path | None = None,
) -> Loaded:
    """Loads published or own weights into a model, without executing pickles.

    Reads PaSST's official files, DeiT's and ViT's as timm names them (into a PaSST; a distilled
    DeiT's also into an AST), AST's (its authors' and transformers' names), PANNs' and this
    package's. For another number of classes, the classifier keeps its initial values. For another
    stride or length, the position encodings are resampled. A model of seven blocks takes seven of
    twelve as published. Everything else has to fit; if something does not, the model is unchanged.

    Args:
        net: the model, with initial weights.
        source: a file, or a name of `passt-bench weights list`.
        classes: names of the model's classes; if the file's are known and differ, the classifier
            keeps its initial values although its shape would fit.
        folder: folder of published files; None is the default one.

    Returns:
        What became of each tensor, by name; also written to the log ``passt_bench.weights``.

    Raises:
        InputError: no such file, a broken or hostile one, or weights of another model.
    """
    loaded = load_tensors(net, read_tensors(locate(source, folder)), classes)
    loaded.log()
    return loaded


@torch.no_grad()
def load_tensors(net: nn.Module, file: TensorFile, classes: Sequence[str] | None = None) -> Loaded:
    """Like `load_weights`, for a file that has been read; on the meta device it only checks."""
    target: Tensors = dict(net.state_dict())
    ours = family_of(target) or _OWN
    loaded, theirs, tensors = _translate(file, net, ours)
    # An image model has nothing for the classifier, not even its norm.
    heads = (*theirs.heads, *ours.heads, *(("mlp_head.",) if theirs is VIT else ()))
    others = _other_classes(file, classes)
    rows = tensors[_ROWS].shape[2] if _ROWS in tensors and tensors[_ROWS].ndim == 4 else 0
    ready: Tensors = {}
    for name, own in target.items():
        given = tensors.pop(name, None)
        is_head = name.startswith(heads)
        if given is not None and given.is_floating_point() != own.is_floating_point():
            raise _unfit(file, name, given, own)
        if given is not None and given.shape == own.shape and not (is_head and others):
            ready[name] = given
            if name not in loaded.adapted:
                loaded.taken.append(name)
        elif is_head and (given is None or given.shape[1:] == own.shape[1:]):
            loaded.reinitialized[name] = _why_reinitialized(given, own)
        elif given is not None and name == _ROWS and _same_width(given, own, 1):
            ready[name], loaded.adapted[name] = fit_rows(given, own.shape[2])
        elif given is not None and name == _COLUMNS and _same_width(given, own, 1):
            covered = _covered_columns(net, rows, given.shape[3])
            ready[name], loaded.adapted[name] = fit_columns(given, own.shape[3], covered)
        elif given is not None and name == _GRID and _same_width(given, own, 2):
            ready[name], loaded.adapted[name] = fit_grid(given, _known_grid(net), file.path)
        else:
            raise _unfit(file, name, given, own)
    _check_rest(file, theirs, tensors, heads, loaded)
    for name, tensor in ready.items():
        target[name].copy_(tensor)
    return loaded


def _translate(file: TensorFile, net: nn.Module, ours: Family) -> tuple[Loaded, Family, Tensors]:
    """The file's tensors under the model's names, and the report begun."""
    target: Tensors = dict(net.state_dict())
    stripped = strip_prefixes(file.tensors, target)
    tensors = stripped.tensors
    theirs = family_of(tensors) or _OWN
    loaded = Loaded(file.path.name, theirs.name, dropped=dict(stripped.unused))
    loaded.notes += [stripped.note] if stripped.note else []
    if theirs is AST_HF and ours is AST:
        tensors = from_hugging_face(tensors)
        loaded.notes.append("transformers' names translated to the authors'")
    elif theirs is VIT and ours is PASST:
        image = tensors
        tensors, loaded.adapted, notes = from_image_model(image, target, file.path)
        loaded.notes += notes
        loaded.dropped |= _of_images(image)
    elif theirs is VIT and ours is AST:
        tensors, loaded.adapted = image_model_as_ast(tensors, _known_grid(net), file.path)
        loaded.dropped |= _of_images(stripped.tensors)
    elif theirs is not ours:
        raise InputError(
            f"holds weights under {theirs.name} names, but the model has {ours.name} ones",
            source=file.path,
            field=next(iter(sorted(tensors))),
            remedy="Give weights of that model.",
        )
    if ours is PASST:
        tensors = _cut_depth(file, tensors, target, loaded)
    return loaded, theirs, tensors


def _known_grid(net: nn.Module) -> Pair:
    assert isinstance(net, ast.AST)  # no other model's tensors have these names
    return net.known_grid


def _of_images(tensors: Tensors) -> dict[str, str]:
    heads = ("head.", "head_dist.")
    return {name: "classifier of images" for name in tensors if name.startswith(heads)}


def _cut_depth(file: TensorFile, tensors: Tensors, target: Tensors, loaded: Loaded) -> Tensors:
    have, want = depth_of(tensors), depth_of(target)
    if have == want:
        return tensors
    if have < want:
        raise InputError(
            f"{have} blocks in the file, but {want} in the model",
            source=file.path,
            field="model.depth",
            value=want,
            remedy=f"Use model.depth={have}.",
        )
    tensors, dropped = choose_blocks(tensors, published_blocks(have, want))
    loaded.dropped |= dropped
    loaded.notes.append(next(iter(dropped.values())))
    return tensors


def _covered_columns(net: nn.Module, rows: int, columns: int) -> int:
    """Columns that the time span of a file's encodings covers at the model's stride."""
    assert isinstance(net, PaSST)  # no other model's tensors have these names
    stride, mels = net.stride, net.mels
    inferred = infer(rows, columns, mels)
    if inferred is None:
        return columns
    # Equal rows mean equal strides, unless the model's two strides differ and a published length
    # shows that the file has another stride along time.
    another = stride[0] != stride[1] and inferred[1] in FRAMES
    if rows == mels // stride[0] and not another:
        return columns
    return inferred[1] // stride[1]


def _same_width(given: torch.Tensor, own: torch.Tensor, axis: int) -> bool:
    return given.ndim == own.ndim and given.shape[axis] == own.shape[axis]


def _other_classes(file: TensorFile, classes: Sequence[str] | None) -> bool:
    """Whether the file's classes are known to differ from the model's."""
    if classes is None:
        return False
    facts = unpack(file)
    if facts is not None:
        return list(classes) != facts.get("classes")
    entry = by_file(file.path.name)
    if entry is None or entry.labels == "imagenet":
        return False
    return len(classes) == entry.classes and tuple(classes) != entry.class_names()


def _why_reinitialized(given: torch.Tensor | None, own: torch.Tensor) -> str:
    if given is None:
        return "not in the file"
    if given.shape == own.shape:
        return "other classes in the file"
    return f"{given.shape[0]} classes in the file, {own.shape[0]} in the model"


def _unfit(
    file: TensorFile, name: str, given: torch.Tensor | None, own: torch.Tensor
) -> InputError:
    if given is None:
        return InputError(
            f"is missing; the model has it in shape {tuple(own.shape)}",
            source=file.path,
            field=name,
            remedy="Give complete weights of this model.",
        )
    return InputError(
        f"does not fit the model's {tuple(own.shape)} of {own.dtype}",
        source=file.path,
        field=name,
        value=f"{tuple(given.shape)} of {given.dtype}",
        remedy="Build the model in the size of the file (width, depth, …), or give another file.",
    )


def _check_rest(
    file: TensorFile, family: Family, rest: Tensors, heads: tuple[str, ...], loaded: Loaded
) -> None:
    """Reports or refuses the tensors that the model does not use."""
    for name in rest:
        if name.startswith(family.ignored):
            loaded.dropped[name] = "not a weight of the network"
        elif name.startswith(heads):
            loaded.dropped[name] = "the model has no such classifier"
        else:
            raise InputError(
                "unknown; the model has no such parameter",
                source=file.path,
                field=name,
                value=tuple(rest[name].shape),
                remedy="Build the model that the file was made from, or remove the tensor.",
            )
