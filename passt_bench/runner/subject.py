"""A recipe as the subject of a cost session: the training step of the suite, on constant input.

The input is random and stays the same; time does not depend on its values. A step is what the
training loop does between having a batch and the next one: draw the patches that are kept, forward
and loss (phase ``forward``), backward, optimizer. Data loading and augmentation are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import torch
from torch import nn

from passt_bench.measure.memory import saved_for_backward
from passt_bench.measure.subject import Subject
from passt_bench.models import draw_batch, from_recipe, initialise
from passt_bench.models.frontend import LogMel, frame_count
from passt_bench.spec.recipe import Pair, Recipe
from passt_bench.training.loop import loss_of, make_optimizer, set_up

PROCESS_BYTES = 400 * 1024**2  # an idle process with torch
CUDA_BYTES = 600 * 1024**2  # context and libraries of a process on the GPU
_SEED = 0


@dataclass(frozen=True)
class RecipeFactory:
    """Builds the subject of a recipe inside the process of its arm.

    Attributes:
        recipe: what to measure.
        classes: outputs of the model.
    """

    recipe: Recipe
    classes: int

    def __call__(self) -> Subject:
        """The subject, with parameters and input on the recipe's device."""
        recipe, device = self.recipe, torch.device(self.recipe.engine.device)
        set_up(recipe.engine)  # the step that is measured is the step that trains
        frames = frame_count(recipe.frontend, recipe.data.seconds)
        net = from_recipe(recipe, self.classes, frames)
        initialise(net, _SEED)
        net.to(device)
        work = _Work(recipe, net, device, self.classes, frames)
        others = {
            "inference_1": work.infer_one,
            "inference_batch": work.infer_batch,
            "frontend": work.hear,
        }
        return Subject(
            step={"forward": work.forward, "backward": work.backward, "optimizer": work.update},
            others=others,
            device=device,
            resident=(*net.parameters(), *net.buffers()),
        )


class _Work:
    """A model with its optimizer and a constant batch, and what can be done with them."""

    def __init__(
        self, recipe: Recipe, net: nn.Module, device: torch.device, classes: int, frames: int
    ) -> None:
        self._recipe, self._net, self._device = recipe, net, device
        self._batch = batch_size(recipe)
        self._grid: Pair | None = net.grid(frames)  # type: ignore[operator]
        training = recipe.training
        self._optimizer = make_optimizer(net, training)
        random = torch.Generator().manual_seed(_SEED)
        samples = round(recipe.data.seconds * recipe.frontend.sampling_rate)
        self._waves = torch.randn(self._batch, samples, generator=random).mul_(0.1).to(device)
        self._x = torch.randn(self._batch, 1, recipe.frontend.mels, frames, generator=random)
        self._x = self._x.to(device)
        self._targets = (torch.rand(self._batch, classes, generator=random) < 0.2).float()
        if training.loss == "ce":
            self._targets = torch.eye(classes)[torch.arange(self._batch) % classes]
        self._targets = self._targets.to(device)
        self._frontend = LogMel(recipe.frontend).to(device).eval()
        self._steps = count()
        self._loss = torch.zeros(())

    def _predict(self, x: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        half = self._recipe.engine.precision == "bfloat16"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half):
            logits: torch.Tensor = self._net(x, kept)
        return logits.float()

    def _mode(self, training: bool) -> None:
        if self._net.training is not training:  # walking all modules takes time in small models
            self._net.train(training)

    def forward(self) -> None:
        """Draws the kept patches anew, then the forward pass and the loss."""
        self._mode(training=True)
        recipe, step = self._recipe, next(self._steps)
        grid = self._grid
        kept = draw_batch(recipe.patchout, grid, _SEED, step, self._batch) if grid else None
        self._loss = loss_of(recipe.training.loss, self._predict(self._x, kept), self._targets)

    def backward(self) -> None:
        """Frees the last gradients and computes new ones."""
        self._optimizer.zero_grad(set_to_none=True)
        self._loss.backward()  # type: ignore[no-untyped-call]
        self._loss = self._loss.detach()

    def update(self) -> None:
        """AdamW."""
        self._optimizer.step()

    @torch.no_grad()
    def infer_one(self) -> None:
        """One clip, all patches."""
        self._mode(training=False)
        self._predict(self._x[:1], None)

    @torch.no_grad()
    def infer_batch(self) -> None:
        """A batch, all patches."""
        self._mode(training=False)
        self._predict(self._x, None)

    @torch.no_grad()
    def hear(self) -> None:
        """Waveforms of a batch to log-mel."""
        self._frontend(self._waves)


def batch_size(recipe: Recipe) -> int:
    """Clips in a measured step."""
    return recipe.measurement.batch_size or recipe.training.batch_size


def foreseen_bytes(recipe: Recipe, classes: int) -> int:
    """Memory that an arm will want, from the meta device; rather too much than too little.

    Weights, gradients and AdamW's two averages, what is saved for backward with unfused attention
    and in float32, and the process itself.
    """
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    batch = batch_size(recipe)
    cuda = recipe.engine.device == "cuda"
    process = CUDA_BYTES if cuda else PROCESS_BYTES
    with torch.device("meta"):
        net = from_recipe(recipe, classes, frames)
        x = torch.empty(batch, 1, recipe.frontend.mels, frames)
    grid: Pair | None = net.grid(frames)  # type: ignore[operator]
    kept = draw_batch(recipe.patchout, grid, _SEED, 0, batch) if grid else None
    saved = saved_for_backward(lambda: net(x, kept), net.parameters())
    parameters = sum(parameter.nbytes for parameter in net.parameters())
    return process + 4 * parameters + saved
