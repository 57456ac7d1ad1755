"""Reads weight files without executing anything in them, and recognizes parameter names.

This package writes its metadata into a safetensors file as one JSON text: the order of several
texts would vary between processes, and so would the bytes of the same model.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from passt_bench.errors import InputError, located
from passt_bench.records.files import check_size, check_zip
from passt_bench.spec.codec import parse_json

Tensors = dict[str, torch.Tensor]
# A word in the names under which trainers put averaged tensors: ema_model, net_swa, averaged, …
# Adam's exp_avg are of gradients.
_AVERAGED = re.compile(
    r"^(?:ema|swa)|(?:ema|swa)$|(?:^|_)(?:ema|swa|(?<!exp_)avg|averaged?|averaging)(?:_|$)"
)
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z]+")
# Where trainers put tensors; the first that a file has is read, but averaged ones before.
_NESTED = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "params",
    "weights",
    "module",
    "shadow",
)
_DEPTH = 4  # of entries within entries; a file can hold itself
# Lightning's hyper-parameters come in classes of its own; read as plain dictionaries.
_AS_DICT: list[Any] = [
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (dict, "lightning.pytorch.utilities.parsing.AttributeDict"),
    (dict, "lightning_fabric.utilities.data.AttributeDict"),
    (dict, "lightning.fabric.utilities.data.AttributeDict"),
]
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_STARTS = (
    (("<!doctype", "<html", "<?xml", "<head"), "a web page instead of weights"),
    (("version https://git-lfs",), "a pointer of Git LFS instead of weights"),
)
_STATE_DICT = "Give a state dict, or a mapping with one under 'state_dict' or 'model'."
_AGAIN = "Get the file again from its source."
_METADATA = "passt_bench"  # name of this package's text in a safetensors file
SCHEMA = 1


@dataclass(frozen=True)
class TensorFile:
    """A weight file: tensors by name on the CPU, and the texts beside them (safetensors)."""

    path: Path
    tensors: Tensors
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # which of several sets of tensors was read
    stated: dict[str, Any] = field(default_factory=dict)  # what a file of torch.save adds to them

    def facts(self) -> dict[str, Any] | None:
        """What `pack` wrote; None if it is not a file of this package.

        Raises:
            InputError: they are not JSON, or have a newer schema.
        """
        if _METADATA not in self.metadata:
            return None
        try:
            facts = parse_json(self.metadata[_METADATA].encode())
        except ValueError:
            facts = None
        schema = facts.get("schema") if isinstance(facts, dict) else None
        if not isinstance(schema, int) or schema > SCHEMA:
            raise InputError(
                "metadata that this version cannot read",
                source=self.path,
                field="schema",
                value=schema,
                remedy=f"This version reads schemas up to {SCHEMA}; install a newer passt-bench, "
                "or save the model again.",
            )
        return dict(facts)


def pack(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as the metadata of a safetensors file."""
    content = {"schema": SCHEMA, **facts}
    return {_METADATA: json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False)}


def read_tensors(path: Path) -> TensorFile:
    """Reads safetensors, or what ``torch.save`` wrote, without executing pickles.

    If a file of ``torch.save`` holds more than a state dict, its averaged weights are read
    (``model_ema`` and the like), or else its entry ``state_dict``, ``model`` or the like.

    Raises:
        InputError: the file is missing, empty, cut off, not a weight file, or holds objects other
            than plain data, or numbers that are not finite.
    """
    with located(path):
        if _start(path)[8:9] != b"{":
            loaded, notes, stated = _innermost(_read_torch(path))
            return TensorFile(path, _checked(loaded, path), notes=notes, stated=stated)
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = dict(file.metadata() or {})
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"not a whole safetensors file ({error})", remedy=_AGAIN) from None
        return TensorFile(path, _checked(tensors, path), metadata)


def _start(path: Path) -> bytes:
    """The first bytes of a file that may hold weights."""
    if path.is_dir():
        inside = [p.name for p in sorted(path.iterdir()) if p.suffix in _SUFFIXES]
        remedy = f"Give a file in it: {', '.join(inside[:5])}." if inside else "Give a file."
        raise InputError("a folder, not a file of weights", remedy=remedy)
    if not path.is_file():
        remedy = "Give a weight file, or a name of `passt-bench weights list`."
        raise InputError("no such file", remedy=remedy)
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise InputError("the file is empty", remedy=_AGAIN)
    text = start.decode("latin-1").lstrip().lower()
    for beginnings, problem in _STARTS:
        if text.startswith(beginnings):
            raise InputError(problem, remedy=_AGAIN)
    if not (start.startswith((b"PK", b"\x80")) or start[8:9] == b"{"):
        raise InputError("neither safetensors nor a file of torch.save", remedy=_AGAIN)
    return start


def _read_torch(path: Path) -> Any:
    with ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        pickles: list[Any] = [opened.enter_context(mmap(file.fileno(), 0, access=ACCESS_READ))]
        if zipfile.is_zipfile(path):
            check_zip(path)
            archive = opened.enter_context(zipfile.ZipFile(path))
            pickles = [archive.read(n) for n in archive.namelist() if n.endswith(".pkl")]
        if any(each.find(b"\nbytearray\n") >= 0 for each in pickles):
            remedy = "Save only the tensors."  # torch would make one of any size that is stated
            raise InputError("holds an array of bytes", field="bytearray", remedy=remedy)
    try:
        with torch.serialization.safe_globals(_AS_DICT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text recommends to allow the object; files are not trusted.
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise InputError(
            "the file holds Python objects beside tensors, which are not loaded",
            field=match.group(1) if match else None,
            remedy="Where the file was made, save only its tensors: "
            "torch.save(checkpoint['state_dict'], FILE).",
        ) from None
    except Exception as error:  # torch raises many kinds for a broken file
        first = str(error).strip().split("\n")[0]
        raise InputError(f"not a whole file of torch.save ({first})", remedy=_AGAIN) from None


def _is_averaged(name: Any) -> bool:
    """Whether trainers name averaged weights so, in any spelling: ema_model, modelEma, SWA."""
    words = _WORD_BREAK.sub("_", name).lower() if isinstance(name, str) else ""
    return bool(_AVERAGED.search(words.strip("_")))


def _are_weights(found: Tensors, plain: Tensors) -> bool:
    """Whether tensors fit the plain weights by name and shape, or else are of a known family.

    Metrics and an optimizer's state have names like those of averaged weights.
    """
    shared = found.keys() & plain.keys()
    if not shared:
        return family_of(found) is not OWN or (bool(found) and not plain)
    return all(found[name].shape == plain[name].shape for name in shared)


def _bare(entries: Any) -> Tensors:
    """The tensors in a mapping under the network's own names."""
    pairs = entries.items() if isinstance(entries, Mapping) else ()
    return strip_prefixes({n: t for n, t in pairs if isinstance(n, str) and torch.is_tensor(t)})[0]


def _innermost(
    loaded: Any, depth: int = _DEPTH, known: dict[tuple[int, int], Any] | None = None
) -> tuple[Any, tuple[str, ...], dict[str, Any]]:
    """The mapping that holds the tensors, notes if there are several, and what else was stored.

    A small file can hold one mapping under many names, and each of these in another: ``known`` has
    the results so far.
    """
    known = {} if known is None else known
    if not isinstance(loaded, Mapping):
        return loaded, (), {}
    callbacks = loaded.get("callbacks")  # of Lightning; some hold averaged weights
    entries = {**(callbacks if isinstance(callbacks, Mapping) else {}), **loaded}
    averaged = [n for n in entries if _is_averaged(n)]
    names = [n for n in (*averaged, *_NESTED) if depth and isinstance(entries.get(n), Mapping)]
    for place in {(id(entries[n]), depth): entries[n] for n in names}.items():
        known[place[0]] = known.get(place[0]) or _innermost(place[1], depth - 1, known)
    inner = {n: known[id(entries[n]), depth] for n in names}
    bare = {n: _bare(found) for n, (found, _, _) in inner.items()}
    usual = [n for n in _NESTED if bare.get(n)]
    plain = bare[usual[0]] if usual else _bare(loaded)
    sets = [n for n in averaged if n in bare and _are_weights(bare[n], plain)]
    sets = [n for n in sets if all(map(torch.is_tensor, inner[n][0].values()))]
    names = [*sets, *usual]
    if not names:
        kept = {n: v for n, v in loaded.items() if n not in _COUNTERS or torch.is_tensor(v)}
        return kept, (), {}
    tensors, notes, stated = inner[names[0]]
    stated = {**loaded, **stated}
    kinds = Mapping, list, tuple
    unread = [n for n in averaged if n not in sets and isinstance(entries[n], kinds)]
    others = [n for n in loaded if n not in (*names, *unread) and isinstance(loaded[n], Mapping)]
    left = names[1:] + [n for n in others if any(map(torch.is_tensor, loaded[n].values()))]
    if left:  # state_dict has the averaged weights of Lightning's WeightAveraging
        kind = "averaged" if sets or "current_model_state" in loaded else "plain"
        notes = (f"the {kind} weights ({names[0]}) were chosen, {left} left out", *notes)
    if unread:
        notes = (f"{unread} cannot be read as weights and were left out", *notes)
    return tensors, notes, stated


def _checked(loaded: Any, path: Path) -> Tensors:
    """The mapping of names to finite, dense tensors in what was loaded from a file."""
    if not isinstance(loaded, Mapping) or not loaded:
        problem = f"holds a {type(loaded).__name__} without named tensors"
        raise InputError(problem, remedy=_STATE_DICT)
    found = [each for each in loaded.values() if isinstance(each, torch.Tensor)]
    needed = sum(each.numel() * each.element_size() for each in found)
    check_size(needed, path, "its tensors")  # many may share one piece of the file
    for name, tensor in loaded.items():
        problem, value, remedy = "", "", ""
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            problem, value, remedy = "not a tensor", type(tensor).__name__, _STATE_DICT
        elif tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            problem, value = "not a plain dense tensor", str(tensor.layout)
            remedy = "Save the weights as dense tensors."
        elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            problem = "holds NaN or infinity"
            remedy = "Take a checkpoint from before the training diverged."
        if problem:
            raise InputError(problem, field=str(name), value=value or None, remedy=remedy)
    return {name: tensor.detach() for name, tensor in loaded.items()}


@dataclass(frozen=True)
class Family:
    """One way to name a model's parameters.

    Attributes:
        name: name for messages.
        marks: names that identify the family, if a file has all of them.
        heads: prefixes of the names that depend on the number of classes.
        ignored: prefixes of names that are not weights of the network.
    """

    name: str
    marks: tuple[str, ...]
    heads: tuple[str, ...]
    ignored: tuple[str, ...] = ()


PASST = Family(
    "PaSST", ("time_new_pos_embed", "freq_new_pos_embed"), heads=("head.1.", "head_dist.")
)
VIT = Family(
    "ViT or DeiT (timm's names)",
    ("pos_embed", "cls_token", "patch_embed.proj.weight"),
    heads=("head.", "head_dist."),
    ignored=("pre_logits.",),
)
AST = Family(
    "AST",
    ("v.pos_embed", "v.cls_token"),
    heads=("mlp_head.1.",),
    ignored=("v.head.", "v.head_dist."),  # classifiers of images, never used on audio
)
AST_HF = Family(
    "AST (transformers' names)",
    ("audio_spectrogram_transformer.embeddings.position_embeddings",),
    heads=("classifier.dense.",),
)
PANNS = Family(
    "PANNs",
    ("bn0.weight", "conv_block1.conv1.weight"),
    heads=("fc_audioset.",),
    ignored=("spectrogram_extractor.", "logmel_extractor."),
)
CP_RESNET = Family(
    "CP-ResNet", ("in_c.0.weight", "feed_forward.0.weight"), heads=("feed_forward.",)
)
MOBILENET = Family(
    "MobileNetV3", ("features.0.0.weight", "classifier.3.weight"), heads=("classifier.3.",)
)
OWN = Family("names of this package's model", (), heads=("head.",))  # marks no file by itself


def family_of(names: Collection[str]) -> Family:
    """The family whose marks are all among the names."""
    for family in (PASST, VIT, AST, AST_HF, PANNS, CP_RESNET, MOBILENET):
        if all(mark in names for mark in family.marks):
            return family
    return OWN


_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_ONLINE = "online_model."  # of ema-pytorch, beside ema_model. and like it under ema.
_PLAIN = ("net.", "model.", _ONLINE)  # of trainers, before weights that are not averaged
_SHOWN = 5
# torch's AveragedModel and others count beside the weights.
_COUNTERS = ("n_averaged", "num_updates", "updates", "decay", "initted", "step")


def strip_prefixes(
    tensors: Tensors, known: Collection[str] = ()
) -> tuple[Tensors, dict[str, str], list[str]]:
    """Removes prefixes of wrappers; of plain and averaged weights, chooses the averaged.

    A file with exactly the ``known`` names, those of the model, is left as it is. Returns tensors
    under the network's own names, names that are not used → why, and notes.
    """
    if set(tensors) == set(known):
        return dict(tensors), {}, []
    groups: dict[str, dict[str, str]] = {}
    for full in tensors:
        name, owner = full, ""
        while "." in name:
            prefix = name.partition(".")[0] + "."
            if prefix in _PLAIN or _is_averaged(prefix):
                owner = owner if _is_averaged(owner) and prefix != _ONLINE else prefix
            elif prefix not in _WRAPPERS:
                break
            name = name.removeprefix(prefix)
        groups.setdefault(owner, {})[name] = full
    plain = {n: tensors[f] for o in groups if not _is_averaged(o) for n, f in groups[o].items()}
    for owner in [*filter(_is_averaged, groups)]:
        found = {n: tensors[full] for n, full in groups[owner].items()}
        if found.keys().isdisjoint(known) and not _are_weights(found, plain):
            # A part of the network whose name sounds like averages, or statistics.
            for name, full in groups.pop(owner).items():
                home = next((p for p in _PLAIN if full.startswith(p)), "")
                groups.setdefault(home, {})[owner + name] = full
    owners = [*filter(_is_averaged, groups), *(p for p in _PLAIN if p in groups)]
    chosen = owners[0] if owners else ""
    picked = groups.pop(chosen)
    why = f"not among the weights under {chosen}*"
    unused = {full: why for names in groups.values() for full in names.values()}
    unused |= {picked.pop(n): "a counter of the averaging" for n in _COUNTERS if n in picked}
    left = [f"{owner}*" for owner in owners[1:]]
    tops = dict.fromkeys(f"{n.partition('.')[0]}.*" for n in groups.get("", ()) if "." in n)
    left += list(tops)[:_SHOWN]  # e.g. a teacher's
    notes = []
    if left:
        kind = "plain" if chosen in _PLAIN else "averaged"
        notes = [f"the {kind} weights ({chosen}*) were chosen, {', '.join(left)} left out"]
    shared = os.path.commonprefix(list(picked))  # noqa: RUF071 - cut at a dot
    shared = shared[: shared.rfind(".") + 1]
    bare = {name.removeprefix(shared): full for name, full in picked.items()}
    fits = family_of(bare) is not OWN or set(bare) == set(known)
    if shared and fits and family_of(picked) is OWN:
        picked = bare
        notes.append(f"the prefix of all names, {shared}, was removed")
    return {name: tensors[full] for name, full in picked.items()}, unused, notes
