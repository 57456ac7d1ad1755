"""Loads weights into a model; what does not fit is adapted, dropped or refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from passt_bench.errors import InputError, located
from passt_bench.models import ast
from passt_bench.models.frontend import make_frontend
from passt_bench.models.passt import SPECIAL_TOKENS, PaSST
from passt_bench.models.weights import adapt, formats
from passt_bench.models.weights.formats import Family, TensorFile, Tensors
from passt_bench.published_weights import by_file, locate
from passt_bench.records.files import read_bytes
from passt_bench.spec.codec import parse_json
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.recipe import FrontendSpec, Pair

_LOG = logging.getLogger("passt_bench.weights")
_SHOWN = 6  # names in one line
# PANNs' buffers of the front end: the mel filters, and the DFT times the window.
_FILTERS, _STFT = "logmel_extractor.melW", "spectrogram_extractor.stft.conv_{}.weight"
# Names under which settings lie in files of others, and names of classes.
_SETTINGS = re.compile(
    "args|audio|config|cfg|data|feature|front|hparam|hyper|model|option|opts|prepro|setting"
)
_CLASSES = ("classes", "class_names", "class_labels", "labels", "label_names")
# Sampling rate, FFT and upper edge of the released ones.
_PANNS = ((32000, 1024, 14000.0), (16000, 512, 8000.0), (8000, 256, 4000.0))


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
        frontend: the front end that the file's buffers state, if they do (PANNs).
    """

    source: str
    format: str
    taken: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    reinitialized: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    frontend: FrontendSpec | None = None

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


def _listed(names: list[str]) -> str:
    """Names for a line, with one entry per block."""
    short = list(dict.fromkeys(re.sub(r"^((?:v\.)?blocks\.\d+)\..*", r"\1", n) for n in names))
    rest = len(short) - _SHOWN
    return ", ".join(short[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


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
    loaded = load_tensors(net, formats.read_tensors(locate(source, folder)), classes)
    for line in loaded.lines():
        _LOG.info(line)
    return loaded


@torch.no_grad()
def load_tensors(net: nn.Module, file: TensorFile, classes: Sequence[str] | None = None) -> Loaded:
    """Like `load_weights`, for a file that has been read; on the meta device it only checks."""
    target: Tensors = dict(net.state_dict())
    with located(file.path):
        loaded, ready = _fit(net, target, file, _other_classes(file, classes))
    for name, tensor in ready.items():
        target[name].copy_(tensor)
    return loaded


def _fit(net: nn.Module, target: Tensors, file: TensorFile, others: bool) -> tuple[Loaded, Tensors]:
    """The report, and the tensors to copy into the model."""
    ours = formats.family_of(target)
    loaded, theirs, tensors = _translate(file, net, target, ours)
    # An image model has nothing for the classifier, not even its norm.
    heads = (*theirs.heads, *ours.heads, *(("mlp_head.",) if theirs is formats.VIT else ()))
    encoded = tensors.get(adapt.ROWS)
    rows = encoded.shape[2] if encoded is not None and encoded.ndim == 4 else 0
    ready: Tensors = {}
    for name, own in target.items():
        given = tensors.pop(name, None)
        is_head = name.startswith(heads)
        if given is None and not is_head:
            problem = f"is missing; the model has it in shape {tuple(own.shape)}"
            raise InputError(problem, field=name, remedy="Give complete weights of this model.")
        if given is None:
            loaded.reinitialized[name] = "not in the file"
        elif given.is_floating_point() != own.is_floating_point():
            raise _unfit(name, given, own)
        elif given.shape == own.shape and is_head and others:
            loaded.reinitialized[name] = "other classes in the file"
        elif given.shape == own.shape:
            ready[name] = given
            if name not in loaded.adapted:
                loaded.taken.append(name)
        elif is_head and given.shape[1:] == own.shape[1:]:
            counts = f"{given.shape[0]} classes in the file, {own.shape[0]} in the model"
            loaded.reinitialized[name] = counts
        else:
            fitted = _encodings(net, name, given, own, rows)
            if fitted is None:
                raise _unfit(name, given, own)
            ready[name], loaded.adapted[name] = fitted
    for name, tensor in tensors.items():
        if name.startswith(theirs.ignored):
            loaded.dropped[name] = "not a weight of the network"
        elif name.startswith(heads):
            loaded.dropped[name] = "the model has no such classifier"
        else:
            raise InputError(
                "unknown; the model has no such parameter",
                field=name,
                value=tuple(tensor.shape),
                remedy="Build the model that the file was made from, or remove the tensor.",
            )
    return loaded, ready


def _unfit(name: str, given: torch.Tensor, own: torch.Tensor) -> InputError:
    return InputError(
        f"does not fit the model's {tuple(own.shape)} of {own.dtype}",
        field=name,
        value=f"{tuple(given.shape)} of {given.dtype}",
        remedy="Build the model in the size of the file (width, depth, …), or give another file.",
    )


def _encodings(
    net: nn.Module, name: str, given: torch.Tensor, own: torch.Tensor, rows: int
) -> tuple[torch.Tensor, str] | None:
    """Position encodings on the model's grid, and how they were made; None for other tensors.

    The file's encodings are for that many rows.
    """
    width = 2 if name == adapt.GRID else 1  # the axis
    if (
        name not in (adapt.ROWS, adapt.COLUMNS, adapt.GRID)
        or given.ndim != own.ndim
        or given.shape[width] != own.shape[width]
    ):
        return None
    if name == adapt.ROWS:
        how = f"resampled from {given.shape[2]} to {own.shape[2]} rows (bicubic)"
        return adapt.resample(given, (own.shape[2], 1)), how
    if name == adapt.COLUMNS:
        return adapt.fit_columns(given, own.shape[3], _covered_columns(net, rows, given.shape[3]))
    grid = _known_grid(net)
    return adapt.on_grid(given, adapt.grid_of(given.shape[1] - SPECIAL_TOKENS, grid[0]), grid)


def _translate(
    file: TensorFile, net: nn.Module, target: Tensors, ours: Family
) -> tuple[Loaded, Family, Tensors]:
    """The report begun, the file's family, and its tensors under the model's names."""
    tensors, unused, notes = formats.strip_prefixes(file.tensors, target)
    theirs = formats.family_of(tensors)
    loaded = Loaded(file.path.name, theirs.name, dropped=unused, notes=[*file.notes, *notes])
    loaded.frontend = panns_frontend_of(tensors)
    if theirs is formats.AST_HF and ours is formats.AST:
        tensors = ast.from_hugging_face(tensors)
        loaded.notes.append("transformers' names translated to the authors'")
    elif theirs is formats.VIT and ours in (formats.PASST, formats.AST):
        images = [name for name in tensors if name.startswith(formats.VIT.heads)]
        loaded.dropped |= dict.fromkeys(images, "classifier of images")
        if ours is formats.AST:
            grid = _known_grid(net)
            tensors = adapt.image_model_as_ast(tensors, grid, loaded.adapted)
        else:
            if "dist_token" not in tensors:
                why = "the file has no distillation token; it is a ViT, not a distilled DeiT"
                loaded.notes.append(why)
            tensors = adapt.image_model_as_passt(tensors, target, loaded.adapted)
    elif theirs is not ours:
        raise InputError(
            f"holds weights under {theirs.name} names, but the model has {ours.name} ones",
            field=min(tensors, default=None),
            remedy="Give weights of that model.",
        )
    if ours is formats.PASST:
        tensors = _cut_depth(tensors, target, loaded)
    return loaded, theirs, tensors


def _is_close(given: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a buffer is what it should be, up to rounding to half precision."""
    return given.shape == own.shape and torch.allclose(given.float(), own, rtol=1e-3, atol=1e-5)


def panns_frontend_of(tensors: Tensors) -> FrontendSpec | None:
    """The front end whose filters are among the buffers of a PANN; None if there are none.

    The hop is not in the buffers; all released models have 10 ms.

    Raises:
        InputError: filters or a windowed transform of no released model.
    """
    names = [n for n in (_FILTERS, *map(_STFT.format, ("real", "imag"))) if n in tensors]
    if not names:
        return None
    wrong = names
    for rate, n_fft, fmax in _PANNS if _FILTERS in names else _PANNS[:1]:
        spec = replace(frontend_of("cnn14"), sampling_rate=rate, fmax=fmax, hop=rate // 100)
        spec = replace(spec, n_fft=n_fft, window=n_fft)
        own = make_frontend(spec)
        dft = torch.fft.rfft(own.window.diag(), dim=0)[:, None]
        buffers = {_STFT.format("real"): dft.real, _STFT.format("imag"): dft.imag}
        buffers[_FILTERS] = own.filters.T
        differ = [n for n in names if not _is_close(tensors[n], buffers[n])]
        if not differ:
            return spec if _FILTERS in names else None
        wrong = min(wrong, differ, key=len)
    raise InputError(
        "of another front end than those of the released PANNs",
        field=wrong[0],
        value=tuple(tensors[wrong[0]].shape),
        remedy="Give the weights of a released model, or train one with the front end here.",
    )


def _known_grid(net: nn.Module) -> Pair:
    assert isinstance(net, ast.AST)  # no other model's tensors have these names
    return net.known_grid


def _cut_depth(tensors: Tensors, target: Tensors, loaded: Loaded) -> Tensors:
    """Keeps as many blocks as the model has, and renumbers them."""
    have, want = adapt.depth_of(tensors), adapt.depth_of(target)
    if have == want:
        return tensors
    blocks = adapt.published_blocks(have, want)
    why = "the model takes blocks " + ", ".join(map(str, blocks)) + " (depth cut as published)"
    loaded.notes.append(why)
    out: Tensors = {}
    for name, tensor in tensors.items():
        match = adapt.BLOCK.match(name)
        if match is None:
            out[name] = tensor
        elif int(match[1]) in blocks:
            out[f"blocks.{blocks.index(int(match[1]))}.{match[2]}"] = tensor
        else:
            loaded.dropped[name] = why
    return out


def _covered_columns(net: nn.Module, rows: int, columns: int) -> int:
    """Columns that the time span of a file's encodings covers at the model's stride."""
    assert isinstance(net, PaSST)  # no other model's tensors have these names
    stride = net.stride
    inferred = adapt.infer(rows, columns, net.mels)
    if inferred is None:
        return columns
    # Equal rows mean equal strides, unless the model's two strides differ and a published length
    # shows that the file has another stride along time.
    another = stride[0] != stride[1] and inferred[1] in adapt.FRAMES
    if rows == net.mels // stride[0] and not another:
        return columns
    return inferred[1] // stride[1]


def _other_classes(file: TensorFile, classes: Sequence[str] | None) -> bool:
    """Whether the file's classes are known to differ from the model's."""
    if classes is None:
        return False
    facts, entry = file.facts(), by_file(file.path.name)
    if facts is not None:
        return list(classes) != facts.get("classes")
    if names := stated_classes(statements_beside(file)):
        return tuple(classes) != names
    if entry is None or entry.labels == "imagenet":
        return False
    return len(classes) == entry.classes and tuple(classes) != entry.class_names()


class Statement(NamedTuple):
    """A value in a file that describes a model."""

    source: Path
    name: str
    value: Any


def statements_beside(file: TensorFile) -> list[Statement]:
    """What a file states beside its tensors, and what transformers writes into files beside it."""
    found = list(_statements(file.path, file.stated))
    names = ("config.json", "preprocessor_config.json")
    for beside in filter(Path.exists, map(file.path.with_name, names)):
        try:
            content = parse_json(read_bytes(beside))
        except ValueError as error:
            problem = f"not readable as JSON ({error})"
            raise InputError(problem, source=beside, remedy="Replace it.") from None
        found += _statements(beside, content if isinstance(content, dict) else {})
    return found


def _statements(source: Path, content: Mapping[Any, Any], depth: int = 4) -> Iterator[Statement]:
    """The values, and those in settings within; a file can hold itself."""
    for name, value in content.items():
        if isinstance(value, Mapping) and depth and _SETTINGS.search(str(name)):
            yield from _statements(source, value, depth - 1)
        elif value is not None and not torch.is_tensor(value):
            yield Statement(source, name, value)


def stated_classes(stated: Sequence[Statement], count: int | None = None) -> tuple[str, ...]:
    """The names of the classes, if they are stated; else none.

    Raises:
        InputError: one is no text, or occurs twice; or there are not ``count``, if that is given.
    """
    for source, name, value in stated:
        if name == "id2label" and isinstance(value, dict):
            value = [value.get(str(number), value.get(number)) for number in range(len(value))]
        elif name not in _CLASSES or not isinstance(value, (list, tuple)):
            continue
        names = tuple(each for each in value if isinstance(each, str))
        if not len(value) == len(set(names)) == (len(value) if count is None else count):
            raise InputError(
                f"{len(value)} names of classes beside weights of {count or len(set(names))}",
                source=source,
                field=name,
                remedy="Give the file that belongs to these weights.",
            )
        return names
    return ()
