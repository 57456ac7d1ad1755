"""Model files: saved ones, with recipe and class names inside, and published ones without.

The reference code's files are bare state dicts. Width, depth, patch and classes follow from their
shapes; so do stride and frames, because the position encodings have ``128 // stride`` rows
and ``frames // stride`` columns. The hop of the front end and the class names follow from the
name of a published file, the filters from PANNs' buffers. What a file states beside its tensors, or
transformers beside the file, is used, or refused where it differs. What is not stated is assumed
(for 527 classes, AudioSet), and noted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as to_safetensors

from passt_bench import __version__
from passt_bench.errors import InputError, located
from passt_bench.models.ast import from_hugging_face
from passt_bench.models.base import AudioModel
from passt_bench.models.frontend import frame_count
from passt_bench.models.passt import SPECIAL_TOKENS
from passt_bench.models.weights import formats
from passt_bench.models.weights.adapt import depth_of, grid_of, infer
from passt_bench.models.weights.formats import TensorFile, Tensors
from passt_bench.models.weights.load import (
    Statement,
    load_tensors,
    panns_frontend_of,
    stated_classes,
    statements_beside,
)
from passt_bench.published_weights import Published, by_file, locate
from passt_bench.records.files import check_size, write_atomically
from passt_bench.spec.codec import to_plain, validate
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.recipe import DataSpec, FrontendSpec, ModelSpec, Recipe, TrainingSpec
from passt_bench.vocabulary import class_names

_LOG = logging.getLogger("passt_bench.weights")
_HEAD_WIDTH = 64  # of DeiT and all models derived from it
_SECONDS = 10.0  # AudioSet's clips
_LIMITS = {  # of the metadata in a file
    **{f"model.{name}": (1, 2**16) for name in ("width", "heads")},
    **{f"frontend.{name}": (1, 2**16) for name in ("n_fft", "window", "hop")},
    **{"model.depth": (1, 200), "frontend.mels": (1, 1024), "data.seconds": (0, 86_400)},
    "frontend.sampling_rate": (1_000, 768_000),
}
_SPELLINGS = {  # of settings in files of others → that of transformers or torchaudio
    **dict.fromkeys(("sample_rate", "samplerate", "resample_rate", "sr", "fs"), "sampling_rate"),
    **dict.fromkeys(("hop_size", "hopsize", "hop"), "hop_length"),
    **dict.fromkeys(("window_size", "winsize", "window_length", "win_len"), "win_length"),
    **dict.fromkeys(("num_mel_bins", "mel_bins", "num_mels", "nmels"), "n_mels"),
    **{"nfft": "n_fft", "fft_size": "n_fft", "f_min": "fmin", "f_max": "fmax"},
    **{"dataset_mean": "mean", "norm_mean": "mean", "dataset_std": "std", "norm_std": "std"},
    **{"target_length": "max_length", "fstride": "frequency_stride", "tstride": "time_stride"},
}
_MOST = 0.95  # of which shorter models cover less


def check_published(entry: Published, path: Path) -> None:
    """Compares a file's names and shapes with the table of published weights.

    Raises:
        InputError: it is another model, or not a weight file.
    """
    tensors = formats.strip_prefixes(formats.read_tensors(path).tensors)[0]
    wanted = formats.VIT if entry.labels == "imagenet" else formats.PASST
    if formats.family_of(tensors) is not wanted:
        names = sorted(tensors)[:3]
        raise InputError(f"not {wanted.name}", field="parameters", value=names)
    found: dict[str, Any] = {"width": tensors["cls_token"].shape[-1], "depth": depth_of(tensors)}
    if wanted is formats.PASST:
        own = _infer_passt(tensors, entry)
        found |= {"classes": _classes_of(tensors, wanted), "frames": own.frames}
        found["stride"] = own.stride[0] if own.stride and len({*own.stride}) == 1 else own.stride
    for field, value in found.items():
        if (expected := getattr(entry, field)) not in (value, None):
            raise InputError(f"{entry.name} has {expected}", field=field, value=value)


def _classes_of(tensors: Tensors, family: formats.Family) -> int:
    name = f"{family.heads[0]}weight"
    if name not in tensors or tensors[name].ndim != 2:
        raise InputError(
            "the file has no classifier",
            field=name,
            remedy="Load it into a model with load_weights; it cannot predict on its own.",
        )
    return tensors[name].shape[0]


def _infer_passt(tensors: Tensors, entry: Published | None) -> ModelSpec:
    """Infers a PaSST's size from the shapes of its parameters."""
    rows, columns = tensors["freq_new_pos_embed"].shape[2], tensors["time_new_pos_embed"].shape[3]
    weight, mels = tensors["patch_embed.proj.weight"], frontend_of("passt_s").mels
    found = infer(rows, columns, mels, (entry.frames,) if entry else ())
    width = weight.shape[0]
    if found is None or weight.ndim != 4 or width % _HEAD_WIDTH:
        raise InputError(
            f"with a width of {width}, no PaSST on {mels} mels has these rows",
            field="freq_new_pos_embed",
            value=tuple(tensors["freq_new_pos_embed"].shape),
            remedy="Build the model yourself and use load_weights.",
        )
    return ModelSpec(
        name="passt_s",
        patch=(weight.shape[2], weight.shape[3]),
        stride=found[0],
        width=width,
        depth=depth_of(tensors),
        heads=width // _HEAD_WIDTH,
        frames=found[1],
    )


def _translated(file: TensorFile) -> tuple[Tensors, list[str]]:
    """The tensors under their authors' names, and notes on the choice."""
    tensors, _, chosen = formats.strip_prefixes(file.tensors)
    if formats.family_of(tensors) is formats.AST_HF:
        tensors = from_hugging_face(tensors)
    return tensors, chosen


def infer_ast(file: TensorFile, stated: Sequence[Statement]) -> ModelSpec | None:
    """The model of a file, if it is an AST."""
    tensors = _translated(file)[0]
    return _infer_ast(tensors, stated) if formats.family_of(tensors) is formats.AST else None


def _infer_ast(tensors: Tensors, stated: Sequence[Statement]) -> ModelSpec:
    weight = tensors["v.patch_embed.proj.weight"]
    places = tensors["v.pos_embed"].shape[1] - SPECIAL_TOKENS
    # All released models have a stride of 10 along frequency, and with it 12 rows.
    strides = [each.value for each in stated if each.name in ("frequency_stride", "fstride")]
    rows, columns = grid_of(places, 8 if 16 in (strides or [16 if places % 12 else 10]) else 12)
    stride = 10 if rows == 12 else 16
    return ModelSpec(
        name="ast" if stride == 10 else "ast_n",
        patch=(weight.shape[2], weight.shape[3]),
        stride=(stride, stride),
        width=weight.shape[0],
        depth=depth_of(tensors),
        heads=max(1, weight.shape[0] // _HEAD_WIDTH),
        frames=(columns - 1) * stride + weight.shape[3],
    )


def _infer_panns(tensors: Tensors) -> ModelSpec:
    width, _, kernel, _ = tensors["conv_block1.conv1.weight"].shape
    name = "cnn6" if kernel == 5 else "cnn10"
    return ModelSpec(name="cnn14" if "conv_block6.conv1.weight" in tensors else name, width=width)


def frontend_as_stated(
    model: ModelSpec,
    spec: FrontendSpec,
    stated: Sequence[Statement],
    remedy: str = "Give the file that belongs to these weights.",
) -> FrontendSpec:
    """The front end at the length of a model, with the length and normalisation stated for AST.

    Refuses other statements that differ from the tensors or the front end here.
    """
    is_ast, (rows, stride) = spec.name == "kaldi", model.stride or (None, None)

    def columns(frames: Any) -> int:
        return ((frames or 0) - (model.patch or (0, 0))[1]) // (stride or 1)

    if is_ast and columns(spec.frames) != columns(model.frames):
        spec = replace(spec, frames=model.frames)
    have: dict[str, Any] = {
        **{"sampling_rate": spec.sampling_rate, "hop_length": spec.hop, "win_length": spec.window},
        **{"n_mels": spec.mels, "n_fft": spec.n_fft, "fmin": spec.fmin, "fmax": spec.fmax},
        **{"hidden_size": model.width, "num_hidden_layers": model.depth},
        **{"num_attention_heads": model.heads, "frequency_stride": rows, "time_stride": stride},
        **{"do_normalize": True, "max_length": spec.frames or model.frames},
        **{"mean": spec.mean, "std": spec.std / 2 if is_ast else spec.std},  # AST's code doubles it
    }
    used: dict[str, Any] = {}
    for source, written, value in stated:
        name = _SPELLINGS.get(written, written)
        if (own := have.get(name)) is None:
            continue
        fits = value == own
        kind = bool if own is True else type(own) if isinstance(own, int) else (int, float)
        if not isinstance(value, kind) or (own is not True and isinstance(value, bool)):
            fits = False
        elif is_ast and name in ("mean", "std", "do_normalize", "max_length"):
            used[name] = value
            fits = math.isfinite(value) and (name != "std" or value > 0)
            fits = fits and (name != "max_length" or columns(value) == columns(model.frames))
        if not fits:
            raise InputError(
                f"does not fit the tensors, or the front end here ({own})",
                source=source,
                field=written,
                value=value,
                remedy=remedy,
            )
    if not used.get("do_normalize", True):
        used |= {"mean": 0.0, "std": 0.5}
    mean, std = float(used.get("mean", spec.mean)), 2.0 * used.get("std", spec.std / 2)
    return replace(spec, frames=used.get("max_length", spec.frames), mean=mean, std=std)


def _describe(
    tensors: Tensors, entry: Published | None, stated: Sequence[Statement]
) -> tuple[Recipe, tuple[str, ...], list[str]]:
    """Model, front end, clip length and loss of an official file, a name per logit, and notes."""
    family = formats.family_of(tensors)
    if family is formats.PASST:
        model = _infer_passt(tensors, entry)
    elif family is formats.AST:
        model = _infer_ast(tensors, stated)
    elif family is formats.PANNS:
        model = _infer_panns(tensors)
    else:
        kind = "unknown parameters" if family is formats.OWN else family.name
        raise InputError(
            f"{kind}: no audio model can be recognized",
            field=min(tensors, default=None),
            remedy="Give a file of this package, or an official one of PaSST, AST or PANNs.",
        )
    count = _classes_of(tensors, family)
    labels = entry.labels if entry else "audioset" if count == 527 else ""
    names = stated_classes(stated, count)
    classes = "" if names else f", classes of {labels}" if labels else f", {count} classes"
    if entry is None and names and names != class_names(labels, count):
        labels = ""
    names = names or class_names(labels, count)
    frontend = panns_frontend_of(tensors) or frontend_of(model.name)
    frontend = frontend_as_stated(model, frontend, stated)
    if entry is not None or model.frames == 3200:  # which in 10 s mean a hop of 100
        frontend = replace(frontend, hop=entry.hop if entry else 100)
    seconds = entry.clip if entry else _SECONDS
    covered = (frontend.frames or model.frames or math.inf) * frontend.hop / frontend.sampling_rate
    if entry is None and covered < _MOST * seconds:
        seconds = covered
    recipe = Recipe(
        model=model,
        frontend=frontend,
        data=DataSpec(name=labels or "unknown", seconds=seconds),
        training=TrainingSpec(loss="ce" if labels == "esc50" else "bce"),
    )
    kind = "one class" if labels == "esc50" else "several classes"
    assumed = (
        f"not all of this is stated in the file: {frontend.sampling_rate} Hz, a hop of "
        f"{frontend.hop} samples, mean {frontend.mean:g} and deviation {frontend.std:g}, clips of "
        f"{seconds:g} s, {kind} per clip{classes}"
    )
    return recipe, names, [assumed] if entry is None else []


class Model(NamedTuple):
    """A model in evaluation mode, its recipe (of an official file as far as known), its classes."""

    net: AudioModel
    recipe: Recipe
    classes: tuple[str, ...]


def save_model(
    path: Path,
    net: AudioModel,
    recipe: Recipe,
    classes: Sequence[str],
    *,
    metrics: Mapping[str, float] | None = None,
    key: str = "",
) -> Path:
    """Writes a model as safetensors, atomically; ``key`` is that of the run that trained it.

    Of the recipe, paths of this machine are removed.
    """
    named = Path(recipe.init.checkpoint).name if recipe.init.checkpoint else None
    recipe = replace(recipe, init=replace(recipe.init, checkpoint=named))
    facts = {
        "version": __version__,
        "recipe": to_plain(recipe),
        "classes": list(classes),
        "metrics": dict(metrics or {}),
        "key": key,
    }
    if net.thresholds is not None:
        facts["thresholds"] = net.thresholds
    state = getattr(net, "_orig_mod", net).state_dict()  # beneath torch.compile
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    write_atomically(path, to_safetensors(plain, formats.pack(facts)))
    return path


def read_model(source: str | Path, folder: Path | None = None) -> Model:
    """Builds the model of a file of this package, or of an official one of PaSST, AST or PANNs.

    The source is a file, or a name of `passt-bench weights list`, looked up in ``folder``.

    Raises:
        InputError: no such file, a broken one, or one whose model cannot be recognized.
    """
    return read_noted_model(source, folder)[0]


def read_noted_model(source: str | Path, folder: Path | None = None) -> tuple[Model, list[str]]:
    """Like `read_model`; with notes on what is assumed, and on the weights that were chosen."""
    file = formats.read_tensors(locate(source, folder))
    facts, notes = file.facts(), list(file.notes)
    if facts is not None:
        recipe = validate(Recipe, facts.get("recipe"), source=file.path)
        classes = validate(tuple[str, ...], facts.get("classes"), source=file.path)
    else:
        tensors, chosen = _translated(file)
        stated = statements_beside(file)
        file = TensorFile(file.path, tensors)
        with located(file.path):
            recipe, classes, assumed = _describe(tensors, by_file(file.path.name), stated)
        notes += [*chosen, *assumed]
    # Imported here, because that module imports this package.
    from passt_bench.models import from_recipe

    with located(file.path):
        _check_limits(recipe)
        size = recipe, len(classes), frame_count(recipe.frontend, recipe.data.seconds)
        with torch.device("meta"):
            planned = from_recipe(*size)
    needed = sum(parameter.nbytes for parameter in planned.parameters())
    check_size(needed, file.path, "the model that its metadata describe")
    net = from_recipe(*size)
    loaded = load_tensors(net, file)
    with torch.no_grad():  # what the file lacks, e.g. a classifier that nothing reads
        for name, parameter in net.named_parameters():
            if name in loaded.reinitialized:
                net.init_parameter(name, parameter, torch.Generator())
    if facts is not None and facts.get("thresholds") is not None:
        limits = validate(tuple[float, ...], facts["thresholds"], source=file.path)
        net.thresholds = limits
        if len(limits) != len(classes) or not all(0 <= each <= 1 for each in limits):
            problem, remedy = "not a probability for each class", "Train the model again."
            raise InputError(problem, source=file.path, field="thresholds", remedy=remedy)
    for note in notes:
        _LOG.warning("%s: %s", file.path.name, note)
    return Model(net.eval(), recipe, classes), notes


def _check_limits(recipe: Recipe) -> None:
    """Refuses metadata with a size that no model has, before anything of that size is made."""
    for name, (low, high) in _LIMITS.items():
        part, _, field = name.partition(".")
        value = getattr(getattr(recipe, part), field)
        if value is not None and not low <= value <= high:
            remedy = f"The metadata should have {low} to {high}; get the file again."
            raise InputError("out of range", field=name, value=value, remedy=remedy)
