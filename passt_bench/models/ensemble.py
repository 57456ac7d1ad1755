"""Ensembles: the mean of the logits of models, each with its own stride and front end.

Paper, section 4.1 and Table 2; ``EnsembelerModel`` of the reference code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from passt_bench.errors import InputError, check_known
from passt_bench.models.frontend import frame_count, make_frontend
from passt_bench.models.patchout import draw_kept, resolve
from passt_bench.models.weights.model_file import Model, read_noted_model
from passt_bench.published_weights import ENSEMBLES
from passt_bench.spec.recipe import Patchout
from passt_bench.torchaudio_guard import resample


class Member(nn.Module):
    """A model with its front end: waveform in, logits out."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.recipe = model.recipe
        self.frontend = make_frontend(model.recipe.frontend)
        self.net = model.net

    def forward(
        self, waveform: torch.Tensor, sampling_rate: int, patchout: Patchout, first: int
    ) -> torch.Tensor:
        """Waveform (B, samples) of that rate → logits (B, classes), float32."""
        own = self.recipe.frontend.sampling_rate
        if sampling_rate != own:
            waveform = resample(waveform, sampling_rate, own)
        x = self.frontend(waveform)
        grid = self.net.grid(x.shape[3])
        if grid is None or patchout.kind == "none":
            return self.net(x).float()
        # One pattern per clip, by its position: it must not depend on the size of a batch.
        kept = [draw_kept(patchout, grid, 0, first + row) for row in range(len(x))]
        return self.net(x, kept=torch.from_numpy(np.stack(kept))).float()

    def tokens(self, patchout: Patchout, seconds: float) -> tuple[int, int]:
        """Tokens of a clip with patchout and without; refuses a model that cannot do it."""
        frames = frame_count(self.recipe.frontend, seconds)
        self.net.step_inputs(patchout, frames, 0, 0, 1)
        grid, special = self.net.grid(frames), self.net.special_tokens
        if grid is None:
            return special, special
        return resolve(patchout, grid).kept + special, grid[0] * grid[1] + special


class Ensemble(nn.Module):
    """The mean of the members' logits; a single model is an ensemble of one.

    Args:
        models: the members; they must have the same classes in the same order, and the same loss.
        names: names of the models, for messages.
        notes: on what is assumed about the models.

    Attributes:
        classes: a name for each logit.
        multi_label: whether a clip may have several classes (sigmoid), or has one (softmax).
        sampling_rate: Hz of its input: the highest of the members.
        clip: minimum length in seconds, that of the training clips; shorter audio must be padded.
        window: maximum length in seconds, what the time encodings of all members cover; longer
            audio must be cut into windows.
        patchout: which patches are dropped, see `drop`.
        notes: as given.
        thresholds: those of a single model, see `AudioModel`; None if it has none, or of several.

    Raises:
        InputError: members with different classes or losses.
    """

    def __init__(
        self, models: Sequence[Model], names: Sequence[str], notes: Sequence[str] = ()
    ) -> None:
        super().__init__()
        first = models[0]
        for source, model in zip(names, models, strict=True):
            for field, own, wanted in (
                ("classes", model.classes, first.classes),  # in the same order
                ("training.loss", model.recipe.training.loss, first.recipe.training.loss),
            ):
                if own != wanted:
                    raise InputError(
                        "not that of the ensemble's first member",
                        source=source,
                        field=field,
                        value=own if isinstance(own, str) else f"{len(own)}, first {own[0]}",
                        remedy="Give members of the same classes and the same loss.",
                    )
        self.members = nn.ModuleList(Member(model) for model in models)
        self.patchout, self.notes = Patchout(), tuple(notes)
        self.classes = first.classes
        self.multi_label = first.recipe.training.loss != "ce"
        recipes = [model.recipe for model in models]
        self.sampling_rate = max(recipe.frontend.sampling_rate for recipe in recipes)
        clips = [recipe.data.seconds for recipe in recipes]
        covered = [
            (r.model.frames or 0) * r.frontend.hop / r.frontend.sampling_rate for r in recipes
        ]
        self.window = min(max(pair) for pair in zip(clips, covered, strict=True))
        self.clip = min(self.window, max(clips))
        self.thresholds = first.net.thresholds if len(models) == 1 else None
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

    def drop(self, patchout: Patchout) -> None:
        """Drops patches from now on, in each member on its own grid; refuses one without patches.

        The pattern of a clip is ``draw_kept(patchout, grid, seed=0, step=position)``, with its
        position as in `forward`; the setting's scope and schedule are for training.
        """
        self.patchout = replace(patchout, scope="sample", schedule="constant")
        self.tokens(self.clip)

    def tokens(self, seconds: float) -> list[tuple[int, int]]:
        """Tokens of a clip of that length, with patchout and without, of each member."""
        members = cast(list[Member], list(self.members))
        return [member.tokens(self.patchout, seconds) for member in members]

    def forward(self, waveform: torch.Tensor, first: int = 0) -> torch.Tensor:
        """Waveform (B, samples) at ``sampling_rate`` → mean logits (B, classes).

        ``first`` is the position of the first clip, which decides the patches to drop.
        """
        given = waveform, self.sampling_rate, self.patchout, first
        return torch.stack([member(*given) for member in self.members]).mean(dim=0)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Sigmoid or softmax of (…, classes), by the loss the members were trained with."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes a clip has, (…, classes) booleans, from probabilities of that shape.

        If a clip has one class, the most probable; else each from its threshold on, by default 0.5.
        """
        if self.multi_label:
            return probabilities >= (0.5 if self.thresholds is None else np.array(self.thresholds))
        most = probabilities.argmax(axis=-1)[..., None]
        return np.arange(len(self.classes)) == most


def build_ensemble(
    members: str | Path | Sequence[str | Path], folder: Path | None = None
) -> Ensemble:
    """Reads the members of an ensemble.

    Args:
        members: the name of a published set, a model file, or several model files, each by path or
            by a name of `passt-bench weights list`.
        folder: folder of published files; None is the default one.

    Raises:
        InputError: no member, or one that is missing or broken, or does not match the others.
    """
    if isinstance(members, str | Path):
        members = ENSEMBLES.get(str(members), (members,))
    if not members:
        raise InputError("no member", field="ensemble", remedy="Give at least one model file.")
    name = str(members[0])
    if len(members) == 1 and name.startswith("ensemble_") and not Path(name).exists():
        check_known(name, ENSEMBLES, "no published set of that name", field="ensemble")
    names = list(map(str, members))
    models, notes = zip(*(read_noted_model(member, folder) for member in members), strict=True)
    said = [f"{Path(n).name}: {note}" for n, own in zip(names, notes, strict=True) for note in own]
    return Ensemble(models, names, said)
