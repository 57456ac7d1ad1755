"""Initial weights of a cell: drawn from its seed, or a model file found when the study is planned.

A model file enters a key by the hash of its content; a record keeps only its file name. Parameters
that the file does not have (such as another classifier) are drawn from the cell's seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from passt_bench.errors import InputError
from passt_bench.models import AudioModel, from_recipe, initialize, load_weights
from passt_bench.models.frontend import frame_count
from passt_bench.models.weights.formats import read_tensors
from passt_bench.models.weights.load import load_tensors, statements_beside
from passt_bench.models.weights.model_file import frontend_as_stated, infer_ast
from passt_bench.published_weights import locate
from passt_bench.runner.kept_models import find_model
from passt_bench.spec.recipe import DataSpec, ModelSpec, Recipe


def resolve_init(recipe: Recipe, classes: Sequence[str], runs: Path) -> tuple[Recipe, Path | None]:
    """Finds a recipe's initial weights and checks that they fit the model with these classes.

    ``runs`` is the folder of records in which a kept model is found by its name.

    Returns:
        The recipe with ``init.sha256`` and only the file's name, and the path of the file (None for
        weights from scratch).

    Raises:
        InputError: the file is missing, not needed, or does not fit the model.
    """
    init = recipe.init

    def wrong(name: str, problem: str, remedy: str) -> InputError:
        value = getattr(init, name)
        return InputError(problem, field=f"init.{name}", value=value, remedy=remedy)

    if init.source == "scratch":
        for name in ("checkpoint", "sha256"):
            if getattr(init, name) is not None:
                remedy = "Set init.source=checkpoint, or omit this field."
                raise wrong(name, "is set, but init.source is scratch", remedy)
        return recipe, None
    if init.checkpoint is None:
        remedy = "Give a file or a name from `passt-bench weights list`, or init.source=scratch."
        raise wrong("checkpoint", "no file given", remedy)
    path = locate(find_model(init.checkpoint, runs, "init.checkpoint")).resolve()
    if not path.is_file():
        remedy = "Give a model file, or a name from `passt-bench weights list`."
        raise wrong("checkpoint", "no such file", remedy)
    digest = sha256_of(path)
    if init.sha256 not in (None, digest):
        remedy = "Give the file with this hash, or omit the hash."
        raise wrong("sha256", f"the hash of {path.name} is {digest}", remedy)
    shape = Recipe(
        recipe.model, frontend=recipe.frontend, data=DataSpec(seconds=recipe.data.seconds)
    )
    _check_fit(shape, path, digest, tuple(classes))
    return replace(recipe, init=replace(init, checkpoint=path.name, sha256=digest)), path


def sha256_of(path: Path) -> str:
    """The hash of a file's content; read again only if size or modification time changed."""
    state = path.stat()
    return _hash(path, state.st_size, state.st_mtime_ns)


@lru_cache
def _hash(path: Path, size: int, time: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache
def _check_fit(shape: Recipe, path: Path, digest: str, classes: tuple[str, ...]) -> None:
    """Refuses a file that does not fit, before anything runs."""
    with torch.device("meta"):
        net = from_recipe(shape, len(classes), frame_count(shape.frontend, shape.data.seconds))
    file = read_tensors(path)
    own, buffers = shape.frontend, load_tensors(net, file, classes).frontend
    wanted = replace(own, frames=None)  # lengths may differ, and so may the size of the model
    fields = ("sampling_rate", "n_fft", "window", "mels", "fmin", "fmax")  # that buffers state
    if buffers is not None:
        wanted = replace(wanted, **{name: getattr(buffers, name) for name in fields})
    stated = statements_beside(file) if file.facts() is None else []
    remedy = "Set the recipe's front end to what is stated, or begin with other weights."
    model = infer_ast(file, stated) or ModelSpec(shape.model.name)
    wanted = frontend_as_stated(model, wanted, stated, remedy)
    for name in (*fields, "mean", "std"):
        if (value := getattr(own, name)) != (needed := getattr(wanted, name)):
            said = (name, f"dataset_{name}", f"norm_{name}", "do_normalize")
            beside = (each.source for each in stated if each.name in said)
            raise InputError(
                f"the weights were trained with {needed}, as the file or one beside it states",
                source=next(beside, path),
                field=f"frontend.{name}",
                value=value,
                remedy=f"Set frontend.{name}={needed}, or begin with other weights.",
            )


def load_initial_weights(
    net: AudioModel, recipe: Recipe, seed: int, checkpoint: Path | None, classes: Sequence[str]
) -> tuple[str, ...]:
    """Gives a model the initial weights that `resolve_init` found, and draws the others.

    Returns:
        Sentences about loaded, adapted, newly drawn and dropped weights; none from scratch.

    Raises:
        RuntimeError: the file changed since the study was planned.
    """
    initialize(net, seed)
    if checkpoint is None:
        return ()
    if sha256_of(checkpoint) != recipe.init.sha256:
        raise RuntimeError("the model file changed since the study was planned; run it again")
    return load_weights(net, checkpoint, classes=classes).lines()
