"""Ensembles: the mean of the logits of models, each with its own stride and front end.

Paper, section 4.1 and Table 2; ``EnsembelerModel`` of the reference code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from passt_bench.errors import InputError, choose_from
from passt_bench.models.frontend import make_frontend
from passt_bench.models.weights import Model, read_model
from passt_bench.torchaudio_guard import resample

_S10 = ("passt_s_swa_p16_128_ap476", "passt_s_swa_p16_128_ap4761", "passt_s_p16_128_ap472")
_S12 = ("passt_s_p16_s12_128_ap470", "passt_s_swa_p16_s12_128_ap473")
_S14 = ("passt_s_p16_s14_128_ap469", "passt_s_swa_p16_s14_128_ap471")
_S16 = ("passt_s_p16_s16_128_ap468", "passt_s_swa_p16_s16_128_ap473")
_FOUR = (_S10[0], _S12[1], _S14[1], _S16[1])
# As in config_updates.py of the reference code; 2, 4, 5 and 9 are the rows of Table 2.
ENSEMBLES: dict[str, tuple[str, ...]] = {
    "ensemble_s16_14": (_S14[1], _S16[1]),
    "ensemble_s10": _S10,
    "ensemble_4": _FOUR,
    "ensemble_5": (*_FOUR, _S10[1]),
    "ensemble_many": (*_S10, *_S12, *_S14, *_S16),
}


class Member(nn.Module):
    """A model with its front end: waveform in, logits out."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.recipe = model.recipe
        self.frontend = make_frontend(model.recipe.frontend)
        self.net = model.net

    @property
    def sampling_rate(self) -> int:
        """Sampling rate of its front end in Hz."""
        return self.recipe.frontend.sampling_rate

    @property
    def clip(self) -> float:
        """Length of its training clips in seconds; shorter audio is padded to it."""
        return self.recipe.data.seconds

    @property
    def window(self) -> float:
        """Longest input in seconds: what its time encodings cover, but at least a clip."""
        covered = (self.recipe.model.frames or 0) * self.recipe.frontend.hop
        return max(self.clip, covered / self.sampling_rate)

    def forward(self, waveform: torch.Tensor, sampling_rate: int) -> torch.Tensor:
        """Waveform (B, samples) of that rate → logits (B, classes), float32."""
        if sampling_rate != self.sampling_rate:
            waveform = resample(waveform, sampling_rate, self.sampling_rate)
        return self.net(self.frontend(waveform)).float()


class Ensemble(nn.Module):
    """The mean of the members' logits; a single model is an ensemble of one.

    Args:
        models: the members; they must have the same classes in the same order, and the same loss.
        names: names of the models, for messages.

    Attributes:
        classes: a name for each logit.
        multi_label: whether a clip may have several classes (sigmoid), or has one (softmax).
        sampling_rate: Hz of its input: the highest of the members.
        clip: minimum length in seconds; shorter audio must be padded at its end.
        window: maximum length in seconds; longer audio must be cut into windows.

    Raises:
        InputError: no member, or members with different classes or losses.
    """

    def __init__(self, models: Sequence[Model], names: Sequence[str] = ()) -> None:
        super().__init__()
        if not models:
            raise InputError("no member", field="ensemble", remedy="Give at least one model file.")
        self.members = nn.ModuleList(Member(model) for model in models)
        members = [member for member in self.members if isinstance(member, Member)]
        first = models[0]
        for index, model in enumerate(models):
            source = names[index] if index < len(names) else f"member {index + 1}"
            if model.classes != first.classes:
                raise InputError(
                    "members of an ensemble must have the same classes in the same order",
                    source=source,
                    field="classes",
                    value=f"{len(model.classes)}, first {model.classes[0]}",
                    remedy=f"The first member has {len(first.classes)}, first {first.classes[0]}.",
                )
            if model.recipe.training.loss != first.recipe.training.loss:
                raise InputError(
                    "members of an ensemble must have the same loss",
                    source=source,
                    field="training.loss",
                    value=model.recipe.training.loss,
                    remedy=f"The first member has {first.recipe.training.loss!r}.",
                )
        self.classes = first.classes
        self.multi_label = first.recipe.training.loss != "ce"
        self.sampling_rate = max(member.sampling_rate for member in members)
        self.window = min(member.window for member in members)
        self.clip = min(self.window, max(member.clip for member in members))
        self.eval()

    def rename(self, classes: Sequence[str]) -> None:
        """Renames the classes, for files without class names.

        Raises:
            InputError: the number of names differs from the number of classes.
        """
        if len(classes) != len(self.classes):
            raise InputError(
                "must be one name per class",
                field="labels",
                value=len(classes),
                remedy=f"Give {len(self.classes)} names.",
            )
        self.classes = tuple(classes)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveform (B, samples) at ``sampling_rate`` → mean logits (B, classes)."""
        logits = [member(waveform, self.sampling_rate) for member in self.members]
        return torch.stack(logits).mean(dim=0)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Sigmoid or softmax of (…, classes), by the loss the members were trained with."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)


def build_ensemble(
    members: str | Path | Sequence[str | Path], folder: Path | None = None
) -> Ensemble:
    """Reads the members of an ensemble.

    Args:
        members: the name of a published set, a model file, or several model files, each by path or
            by a name of `passt-bench weights list`.
        folder: folder of published files; None is the default one.

    Raises:
        InputError: a member that is missing or broken, or does not match the others.
    """
    if isinstance(members, str | Path):
        members = ENSEMBLES.get(str(members), (members,))
    if len(members) == 1 and str(members[0]).startswith("ensemble_"):
        name = str(members[0])
        if not Path(name).exists() and name not in ENSEMBLES:
            raise InputError(
                "no published set of that name",
                field="ensemble",
                value=name,
                remedy=choose_from(ENSEMBLES, name),
            )
    return Ensemble(
        [read_model(member, folder) for member in members], [str(member) for member in members]
    )
