"""The target of a cost session: the training step of a recipe, on constant input.

The input is random and constant; time does not depend on its values. A step is what the training
loop does with a batch: draw the kept patches, forward pass and loss (phase ``forward``), backward
pass, optimizer. Data loading and augmentation are not included.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import torch
from torch.nn import functional as F

from passt_bench.measure.target import PublishedProtocol, Subject
from passt_bench.models import from_recipe, initialize
from passt_bench.models.frontend import frame_count, make_frontend
from passt_bench.runner.estimates import batch_size
from passt_bench.spec.recipe import Recipe
from passt_bench.training.engine import Engine, Inputs, ModelStep, Step, StepGraph
from passt_bench.training.loop import set_up, stages

_SEED = 0


@dataclass(frozen=True)
class RecipeFactory:
    """Builds the subject of a recipe, for models with so many classes, in the process of its arm.

    Parameters and input are on the recipe's device.
    """

    recipe: Recipe
    classes: int

    def __call__(self) -> Subject:
        """Builds the subject."""
        work = _Work(self.recipe, self.classes)
        parts = {"forward": work.forward, "backward": work.backward, "optimizer": work.model.update}
        step, engine = parts, self.recipe.engine
        if engine.graph or engine.accumulate > 1:
            step = {"replay" if engine.graph else "chunks": work.run}
        return Subject(
            step=step,
            parts=parts,
            release_graphs=work.graph.clear,
            others={
                "inference_1": partial(work.infer, 1),
                "inference_batch": partial(work.infer, batch_size(self.recipe)),
                "frontend": work.run_frontend,
            },
            device=work.device,
            resident=(*work.net.parameters(), *work.net.buffers()),
            published=work.published_speed,
            cycle=len(work.stages),
        )


class _Work:
    """A model with its optimizer and a constant batch, and the operations that are measured."""

    def __init__(self, recipe: Recipe, classes: int) -> None:
        self._recipe, self._classes = recipe, classes
        self.device = torch.device(recipe.engine.device)
        set_up(recipe.engine)  # the step that is measured is the step that trains
        frames = frame_count(recipe.frontend, recipe.data.seconds)
        self.net = from_recipe(recipe, classes, frames)
        initialize(self.net, _SEED)
        self.net.to(self.device)
        self.model = ModelStep(self.net, recipe)
        grid = self.net.grid(frames)
        self.stages = stages(recipe.patchout, grid) if grid else (recipe.patchout,)
        self._run: Step = lambda drawn: self.model.run(self._batch_with(drawn))
        self.graph = StepGraph(self._run)
        self._run = self.graph if recipe.engine.graph else self._run
        self._batch = batch_size(recipe)
        random = torch.Generator().manual_seed(_SEED)
        samples = round(recipe.data.seconds * recipe.frontend.sampling_rate)
        waves = torch.randn(self._batch, samples, generator=random).mul_(0.1)
        x = torch.randn(self._batch, 1, recipe.frontend.mels, frames, generator=random)
        targets = (torch.rand(self._batch, classes, generator=random) < 0.2).float()
        if recipe.training.loss == "ce":
            targets = torch.eye(classes)[torch.arange(self._batch) % classes]
        self._waves, self._x = waves.to(self.device), x.to(self.device)
        self._targets = targets.to(self.device)
        self._frontend = make_frontend(recipe.frontend).to(self.device).eval()
        self._steps = count()
        self._loss = torch.zeros(())

    def _draw(self, batch: int) -> dict[str, Any]:
        step = next(self._steps)
        setting = self.stages[step % len(self.stages)]
        drawn = self.net.step_inputs(setting, self._x.shape[3], _SEED, step, batch)
        return self.model.engine.send(drawn)

    def _batch_with(self, drawn: Inputs) -> Inputs:
        return {"x": self._x, "targets": self._targets, **drawn}

    def _mode(self, training: bool) -> None:
        if self.net.training is not training:  # walking all modules takes time in small models
            self.net.train(training)

    def forward(self) -> None:
        """Draws the kept patches, then computes the forward pass and the loss of a chunk."""
        self._mode(training=True)
        batch = self._batch_with(self._draw(self._batch))
        self._loss = self.model.forward(next(self.model.chunks(batch)))

    def backward(self) -> None:
        """Frees the old gradients and computes new ones."""
        self.model.backward(self._loss)
        self._loss = self._loss.detach()

    def run(self) -> None:
        """Draws the kept patches, then computes the whole step, or replays it as a CUDA graph."""
        self._mode(training=True)
        self._run(self._draw(self._batch))

    @torch.no_grad()
    def infer(self, clips: int) -> None:
        """Evaluates some clips of the batch, with all patches."""
        self._mode(training=False)
        self.model.engine.infer(self.net, self._x[:clips])

    @torch.no_grad()
    def run_frontend(self) -> None:
        """Turns the waveforms of a batch into log-mels."""
        self._frontend(self._waves)

    def published_speed(self, protocol: PublishedProtocol) -> float:
        """Clips per second in the speed test of the reference code.

        ``model_speed_test`` in ``ex_audioset.py``: a constant input of ones, only the network, ten
        warm-up and one hundred timed steps, SGD with a learning rate of 0.001, binary
        cross-entropy, automatic mixed precision with a gradient scaler; gradients are never zeroed,
        and one mean is reported. A half precision of the recipe is used; otherwise CUDA uses
        float16.
        """
        spec = self._recipe.engine
        if spec.device == "cuda" and spec.precision == "float32":
            spec = replace(spec, precision="float16")
        engine = Engine(replace(spec, graph=False))
        scaler = engine.make_scaler()
        self.model.optimizer.zero_grad(set_to_none=True)
        optimizer = torch.optim.SGD(self.net.parameters(), lr=0.001)
        x = torch.ones(protocol.batch, *self._x.shape[1:], device=self.device)
        targets = torch.ones(protocol.batch, self._classes, device=self.device)
        self._mode(training=True)

        def run(steps: int) -> None:
            """Runs steps and waits for the device."""
            for _ in range(steps):
                with engine.autocast():
                    logits = self.model.call(x, **self._draw(protocol.batch))
                    loss = F.binary_cross_entropy_with_logits(logits, targets)
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                scaler.step(optimizer)
                scaler.update()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        run(protocol.warmup)
        start = time.perf_counter()
        run(protocol.steps)
        return protocol.batch * protocol.steps / (time.perf_counter() - start)
