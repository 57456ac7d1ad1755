"""Whose parameter names a weight file has, and what surrounds them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

PREFIXES = ("module.", "_orig_mod.", "net_swa.", "net.")  # DataParallel, torch.compile, Lightning
_COUNTERS = ("n_averaged",)  # torch's AveragedModel counts beside the weights


@dataclass(frozen=True)
class Family:
    """One way to name a model's parameters.

    Attributes:
        name: for messages.
        marks: tensors that only these names have, all of them.
        heads: beginnings of the names that depend on the number of classes.
        ignored: beginnings of names that hold no weights of the network.
    """

    name: str
    marks: tuple[str, ...]
    heads: tuple[str, ...] = ()
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
FAMILIES = (PASST, VIT, AST, AST_HF, PANNS, CP_RESNET, MOBILENET)


def family_of(names: Collection[str]) -> Family | None:
    """The family whose marks all stand among the names."""
    for family in FAMILIES:
        if all(mark in names for mark in family.marks):
            return family
    return None


@dataclass
class Stripped:
    """Tensors under the network's own names.

    Attributes:
        tensors: name → tensor.
        left: names of the file that were left out → why.
        note: which of two networks was chosen; empty where there was one.
    """

    tensors: dict[str, torch.Tensor]
    left: dict[str, str]
    note: str = ""


def strip_prefixes(tensors: Mapping[str, torch.Tensor], known: Collection[str] = ()) -> Stripped:
    """Takes wrappers' prefixes off; of plain and averaged weights it chooses the averaged.

    Args:
        tensors: as the file has them.
        known: the model's own names; a file with exactly these is left as it is.
    """
    if set(tensors) == set(known):
        return Stripped(dict(tensors), {})
    groups: dict[str, dict[str, str]] = {}
    for full in tensors:
        name, owner = full, ""
        while (prefix := next((p for p in PREFIXES if name.startswith(p)), None)) is not None:
            owner = prefix if prefix.startswith("net") else owner
            name = name.removeprefix(prefix)
        groups.setdefault(owner, {})[name] = full
    chosen = next((owner for owner in ("net_swa.", "net.", "") if owner in groups), "")
    left = {
        full: f"not among the weights under {chosen}*"
        for owner, names in groups.items()
        if owner != chosen
        for full in names.values()
    }
    note = ""
    if chosen == "net_swa." and "net." in groups:
        note = "the averaged weights (net_swa.*) were chosen, the plain ones (net.*) left out"
    picked = {}
    for name, full in groups[chosen].items():
        if name in _COUNTERS:
            left[full] = "a counter of the averaging"
        else:
            picked[name] = tensors[full]
    return Stripped(picked, left, note)
