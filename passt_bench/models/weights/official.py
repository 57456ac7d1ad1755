"""Published files as models: what a file's shapes and name tell of stride, length, front end.

The reference code's files are bare state dicts. Width, depth, patch and classes follow from their
shapes; so do stride and frames, for the position encodings have ``128 // stride`` rows and
``frames // stride`` columns. The hop of the front end and the class names follow from the file's
name where it is a published one; else the usual hop and, for 527 classes, AudioSet are assumed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from passt_bench.errors import InputError
from passt_bench.models.ast import SPECIAL_TOKENS
from passt_bench.models.weights.adapt import Tensors, depth_of, grid_of
from passt_bench.models.weights.files import read_tensors
from passt_bench.models.weights.geometry import infer
from passt_bench.models.weights.names import (
    AST,
    PANNS,
    PASST,
    VIT,
    family_of,
    strip_prefixes,
)
from passt_bench.models.weights.table import Published, by_file
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.recipe import (
    DataSpec,
    FrontendSpec,
    ModelSpec,
    Pair,
    Recipe,
    TrainingSpec,
)
from passt_bench.vocabulary import class_names

_HEAD_WIDTH = 64  # of every DeiT and of all that came from it
_SECONDS = 10.0  # AudioSet's clips


def check_published(entry: Published, path: Path) -> None:
    """Compares a file's names and shapes with what the table says of it.

    Raises:
        InputError: it is another model, or no weight file at all.
    """
    tensors = strip_prefixes(read_tensors(path).tensors).tensors
    wanted = VIT if entry.labels == "imagenet" else PASST
    if family_of(tensors) is not wanted:
        raise InputError(
            f"not {wanted.name}", source=path, field="parameters", value=sorted(tensors)[:3]
        )
    expected: dict[str, object] = {"width": entry.width, "depth": entry.depth}
    found: dict[str, object] = {
        "width": tensors["cls_token"].shape[-1],
        "depth": depth_of(tensors),
    }
    if wanted is PASST:
        geometry = infer_passt(tensors, path, entry)
        expected |= {"classes": entry.classes, "frames": entry.frames}
        found |= {"classes": _classes_of(tensors, path), "frames": geometry.frames}
        if entry.stride is not None:
            expected["stride"] = (entry.stride, entry.stride)
            found["stride"] = geometry.stride
    for field, value in expected.items():
        if found[field] != value:
            raise InputError(
                f"{entry.name} has {value}", source=path, field=field, value=found[field]
            )


def _classes_of(tensors: Tensors, path: Path, name: str = "head.1.weight") -> int:
    if name not in tensors or tensors[name].ndim != 2:
        raise InputError(
            "there is no classifier in the file",
            source=path,
            field=name,
            remedy="Load it into a model with load_weights; alone it predicts nothing.",
        )
    return tensors[name].shape[0]


def infer_passt(tensors: Tensors, path: Path, entry: Published | None = None) -> ModelSpec:
    """A PaSST's size from the shapes of its parameters.

    Raises:
        InputError: shapes that no PaSST of 128 mels has.
    """
    rows, columns = tensors["freq_new_pos_embed"].shape[2], tensors["time_new_pos_embed"].shape[3]
    weight, mels = tensors["patch_embed.proj.weight"], frontend_of("passt_s").mels
    found = infer(rows, columns, mels, (entry.frames,) if entry else ())
    width = weight.shape[0]
    if found is None or weight.ndim != 4 or width % _HEAD_WIDTH:
        raise InputError(
            f"with a width of {width}, no PaSST on {mels} mels has these rows",
            source=path,
            field="freq_new_pos_embed",
            value=tuple(tensors["freq_new_pos_embed"].shape),
            remedy="Build the model yourself and use load_weights.",
        )
    stride, frames = found
    return ModelSpec(
        name="passt_s",
        patch=(weight.shape[2], weight.shape[3]),
        stride=stride,
        width=width,
        depth=depth_of(tensors),
        heads=width // _HEAD_WIDTH,
        frames=frames,
    )


def _infer_ast(tensors: Tensors, path: Path) -> ModelSpec:
    weight = tensors["v.patch_embed.proj.weight"]
    patch: Pair = (weight.shape[2], weight.shape[3])
    rows, columns = grid_of(tensors["v.pos_embed"].shape[1] - SPECIAL_TOKENS, 8, path)
    stride = 10 if rows == 12 else 16
    return ModelSpec(
        name="ast" if stride == 10 else "ast_n",
        patch=patch,
        stride=(stride, stride),
        width=weight.shape[0],
        depth=depth_of([name.removeprefix("v.") for name in tensors]),
        heads=max(1, weight.shape[0] // _HEAD_WIDTH),
        frames=(columns - 1) * stride + patch[1],
    )


def _infer_panns(tensors: Tensors) -> ModelSpec:
    width, _, kernel, _ = tensors["conv_block1.conv1.weight"].shape
    name = "cnn6" if kernel == 5 else "cnn10"
    return ModelSpec(name="cnn14" if "conv_block6.conv1.weight" in tensors else name, width=width)


def _frontend(model: ModelSpec, entry: Published | None) -> FrontendSpec:
    """The model's own, with the published file's hop; 3200 frames in 10 s are a hop of 100."""
    spec = frontend_of(model.name)
    if entry is not None:
        return replace(spec, hop=entry.hop)
    if model.frames == 3200:
        return replace(spec, hop=100)
    return spec


def describe(tensors: Tensors, path: Path) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe and the class names of a file that holds parameters alone.

    Args:
        tensors: of a PaSST, AST or PANNs, under their official names.
        path: of the file; its name may be that of a published one.

    Returns:
        A recipe with model, front end, clip length and loss, and a name for each logit.

    Raises:
        InputError: whose weights these are cannot be told, or they have no classifier.
    """
    family, entry = family_of(tensors), by_file(path.name)
    if family is PASST:
        model, head = infer_passt(tensors, path, entry), "head.1.weight"
    elif family is AST:
        model, head = _infer_ast(tensors, path), "mlp_head.1.weight"
    elif family is PANNS:
        model, head = _infer_panns(tensors), "fc_audioset.weight"
    else:
        raise InputError(
            f"{family.name if family else 'unknown parameters'}: no model of audio can be told",
            source=path,
            field=min(tensors),
            remedy="Give a file of this package, or an official one of PaSST, AST or PANNs.",
        )
    count = _classes_of(tensors, path, head)
    labels = entry.labels if entry else "audioset" if count == 527 else ""
    recipe = Recipe(
        model=model,
        frontend=_frontend(model, entry),
        data=DataSpec(name=labels or "unknown", seconds=entry.clip if entry else _SECONDS),
        training=TrainingSpec(loss="ce" if labels == "esc50" else "bce"),
    )
    return recipe, class_names(labels, count)
