"""Trained models as one file: safetensors with the recipe and the class names inside."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from passt_bench import __version__
from passt_bench.errors import InputError
from passt_bench.models.ast import from_hugging_face
from passt_bench.models.frontend import frame_count
from passt_bench.models.weights.fetch import locate
from passt_bench.models.weights.files import TensorFile, read_tensors
from passt_bench.models.weights.load import load_tensors
from passt_bench.models.weights.metadata import pack, unpack
from passt_bench.models.weights.names import AST_HF, PASST, family_of, strip_prefixes
from passt_bench.models.weights.official import describe
from passt_bench.records.files import write_atomically
from passt_bench.spec.override import adapter, validate
from passt_bench.spec.recipe import Recipe


class Model(NamedTuple):
    """A model that is ready to use.

    Attributes:
        net: with its weights, in evaluation mode.
        recipe: what it was made with; of an official file as much as can be told.
        classes: a name for each logit.
    """

    net: nn.Module
    recipe: Recipe
    classes: tuple[str, ...]


def save_model(
    path: Path,
    net: nn.Module,
    recipe: Recipe,
    classes: Sequence[str],
    *,
    metrics: Mapping[str, float] | None = None,
    key: str = "",
) -> Path:
    """Writes a model as safetensors, atomically.

    Args:
        path: of the file.
        net: its parameters and buffers are written.
        recipe: what it was made with; no path of this machine is kept of it.
        classes: a name for each logit.
        metrics: how good it was found to be.
        key: of the run that made it.
    """
    named = recipe.init.checkpoint
    recipe = replace(
        recipe, init=replace(recipe.init, checkpoint=Path(named).name if named else None)
    )
    facts = {
        "version": __version__,
        "recipe": adapter(Recipe).dump_python(recipe, mode="json"),
        "classes": list(classes),
        "metrics": dict(metrics or {}),
        "key": key,
    }
    state = getattr(net, "_orig_mod", net).state_dict()  # beneath torch.compile
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    write_atomically(path, to_safetensors(plain, pack(facts)))
    return path


def read_model(source: str | Path, folder: Path | None = None) -> Model:
    """Builds the model of a file: one of this package, or an official one of PaSST, AST or PANNs.

    Args:
        source: a file, or a name of `passt-bench weights list`.
        folder: where published files lie, if not in the usual place.

    Raises:
        InputError: no such file, a broken one, or one that does not tell its model.
    """
    file = read_tensors(locate(source, folder))
    facts = unpack(file)
    if facts is not None:
        recipe = validate(Recipe, facts.get("recipe"), source=file.path)
        classes = validate(tuple[str, ...], facts.get("classes"), source=file.path)
    else:
        tensors = strip_prefixes(file.tensors).tensors
        if family_of(tensors) is AST_HF:
            tensors = from_hugging_face(tensors)
        file = TensorFile(file.path, tensors)
        recipe, classes = describe(tensors, file.path)
    # Late, for that module imports this package.
    from passt_bench.models import from_recipe

    net = from_recipe(recipe, len(classes), frame_count(recipe.frontend, recipe.data.seconds))
    loaded = load_tensors(net, file)
    with torch.no_grad():  # what the file lacks, e.g. a classifier that nothing reads
        for name, parameter in net.named_parameters():
            if name in loaded.remade:
                net.fill(name, parameter, torch.Generator())  # type: ignore[operator]
    return Model(net.eval(), recipe, classes)


def export_model(source: str | Path, path: Path) -> Path:
    """Writes a PaSST's parameters alone, under official names, for the reference code to load.

    Args:
        source: a file of this package, or any that `read_model` reads.
        path: of the new file, as ``torch.save`` writes it.

    Raises:
        InputError: the model is no PaSST.
    """
    model = read_model(source)
    state = model.net.state_dict()
    if family_of(state) is not PASST:
        raise InputError(
            "the reference code has PaSST alone",
            source=Path(source),
            field="model.name",
            value=model.recipe.model.name,
            remedy="Give a PaSST.",
        )
    buffer = io.BytesIO()
    torch.save(OrderedDict((name, tensor.clone()) for name, tensor in state.items()), buffer)
    write_atomically(path, buffer.getvalue())
    return path
