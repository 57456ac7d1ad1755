"""Initial weights of a cell: drawn from its seed, or a checkpoint found when the study is planned.

A checkpoint enters a key by the hash of its content; a record keeps its file name alone. Whatever
of the model the checkpoint does not give (another classifier, say) is drawn from the cell's seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from passt_bench.errors import InputError
from passt_bench.models import AudioModel, from_recipe, initialize
from passt_bench.models.frontend import frame_count
from passt_bench.models.weights import load_weights, locate
from passt_bench.spec.recipe import DataSpec, Recipe


def settle_init(recipe: Recipe, classes: Sequence[str]) -> tuple[Recipe, Path | None]:
    """Finds a recipe's checkpoint, checks that it fits the model, and notes its hash.

    Args:
        recipe: its ``init.checkpoint`` is a file or a name of `passt-bench weights list`.
        classes: names of the model's logits.

    Returns:
        The recipe with ``init.sha256`` and the file's bare name, and where the file is (None for
        weights from scratch).

    Raises:
        InputError: a checkpoint that is missing, named in vain, or no fit for the model.
    """
    init = recipe.init
    if init.source == "scratch":
        for name in ("checkpoint", "sha256"):
            if getattr(init, name) is not None:
                raise InputError(
                    "given, and the weights are to come from scratch",
                    field=f"init.{name}",
                    value=getattr(init, name),
                    remedy="Set init.source=checkpoint, or leave it out.",
                )
        return recipe, None
    if init.checkpoint is None:
        raise InputError(
            "no file",
            field="init.checkpoint",
            remedy="Give a file or a name of `passt-bench weights list`, or init.source=scratch.",
        )
    path = locate(init.checkpoint).resolve()
    if not path.is_file():
        raise InputError(
            "no such file",
            field="init.checkpoint",
            value=init.checkpoint,
            remedy="Give a weight file, or a name of `passt-bench weights list`.",
        )
    found = sha256_of(path)
    if init.sha256 is not None and init.sha256 != found:
        raise InputError(
            f"the file {path.name} has another: {found}",
            field="init.sha256",
            value=init.sha256,
            remedy="Give the file that is meant, or leave the hash out.",
        )
    shape = Recipe(
        recipe.model, frontend=recipe.frontend, data=DataSpec(seconds=recipe.data.seconds)
    )
    _check_fit(shape, path, found, tuple(classes))
    return replace(recipe, init=replace(init, checkpoint=path.name, sha256=found)), path


def sha256_of(path: Path) -> str:
    """The hash of a file's content; read again only where size or time of the file changed."""
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
    load_weights(net, path, classes=classes)


def fill(
    net: AudioModel, recipe: Recipe, seed: int, checkpoint: Path | None, classes: Sequence[str]
) -> tuple[str, ...]:
    """Gives a model its initial weights.

    Args:
        net: of the recipe.
        recipe: as `settle_init` left it.
        seed: of what does not come from the checkpoint.
        checkpoint: where the file is.
        classes: names of the model's logits.

    Returns:
        What was taken, adapted, re-initialized and dropped, as sentences; nothing from scratch.

    Raises:
        RuntimeError: the file changed since the study was planned.
    """
    initialize(net, seed)
    if checkpoint is None:
        return ()
    if sha256_of(checkpoint) != recipe.init.sha256:
        raise RuntimeError("the checkpoint changed since the study was planned; run it again")
    return load_weights(net, checkpoint, classes=classes).lines()
