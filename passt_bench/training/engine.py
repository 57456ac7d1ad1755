"""The engine: how the steps of a model are computed, in training, cost sessions and evaluation.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from passt_bench.errors import InputError
from passt_bench.models.base import AudioModel
from passt_bench.models.passt import Attention, Blocks, Mlp
from passt_bench.spec.recipe import EngineSpec, Recipe, TrainingSpec

Inputs = Mapping[str, Any]  # tensors, None, and what foreign models take
Step = Callable[[dict[str, Any]], torch.Tensor]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Steps before a graph is captured: libraries choose their kernels, the optimizer makes its state.
_EAGER_STEPS = 3
_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")  # in the names of parameters
_COMPILE_THREADS = 4  # processes of one compiler, on a GPU


class Diverged(RuntimeError):
    """The loss or the outputs of the trained model are not finite."""


def loss_of(kind: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of a batch.

    ``bce`` is binary cross-entropy over all labels, ``ce`` cross-entropy with (mixed) one-hot
    targets. ``masked_bce`` is binary cross-entropy over the known labels, their weighted mean, see
    `batches.with_known`. The reference code (``ex_openmic.py:157-187``) takes the mean over all
    entries, so that its loss falls with the share of known labels, and weights a mixed clip only by
    the mask of its first clip: the second clip's labels are ignored where the first's are unknown,
    and count as absent where only the first's are known.

    Args:
        kind: name in a recipe.
        logits: (B, C).
        targets: (B, C); for ``masked_bce`` (B, 2, C), or (B, C) with NaN for unknown labels.
    """
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, targets)
    if kind == "ce":
        return F.cross_entropy(logits, targets)
    if targets.ndim == 2:
        targets = torch.stack([targets.nan_to_num(), (~targets.isnan()).to(targets)], dim=1)
    positive, known = targets.unbind(dim=1)
    # Known * BCE(logits, positive / known), without the division.
    total = (known * F.softplus(logits) - positive * logits).sum()
    return total / known.sum().clamp(min=1e-6)  # 0 for a batch without known labels


def chunk_shares(kind: str, targets: torch.Tensor, chunks: int) -> torch.Tensor:
    """The shares of a batch's equal chunks in the loss of the whole, (chunks,); see `loss_of`."""
    known = torch.ones_like(targets)
    if kind == "masked_bce":
        known = targets[:, 1] if targets.ndim == 3 else (~targets.isnan()).to(targets)
    return known.reshape(chunks, -1).sum(dim=1).clamp(min=1e-6) / known.sum().clamp(min=1e-6)


def check_engine(spec: EngineSpec) -> None:
    """Raises InputError for settings that cannot be combined."""
    compiled = spec.compile != "off"
    if spec.graph and spec.device != "cuda":
        remedy = "Set engine.device=cuda or engine.graph=false."
        raise spec.error("graph", "CUDA graphs need a CUDA device", remedy)
    if spec.graph and spec.precision == "float16":
        problem = "CUDA graphs do not work with float16 loss scaling"
        raise spec.error("graph", problem, "Use engine.precision=bfloat16.")
    if spec.attention == "by_heads" and compiled:
        remedy = "Set engine.attention=fused or engine.compile=off."
        raise spec.error("attention", "the compiler would unroll its many products", remedy)
    if spec.recompute == "norms" and compiled:
        problem = "the compiler itself chooses which of these to recompute"
        raise spec.error("recompute", problem, "Set engine.recompute=none or engine.compile=off.")


def check_chunks(spec: EngineSpec, clips: int, net: nn.Module | None = None) -> None:
    """Raises InputError if a batch of that many clips, or a model's, cannot be taken in chunks."""
    chunks = spec.accumulate
    if clips % chunks:
        problem = f"a batch of {clips} clips has no {chunks} equal chunks"
        raise spec.error(
            "accumulate", problem, f"Give a divisor of {clips}, or another batch size."
        )
    norms = net is not None and any(isinstance(module, _BatchNorm) for module in net.modules())
    if norms and chunks > 1:
        problem = "the model has batch norm, whose statistics would be those of chunks"
        raise spec.error("accumulate", problem, "Use 1 with this model.")


class Engine:
    """Computes a model's steps with a recipe's settings."""

    def __init__(self, spec: EngineSpec) -> None:
        check_engine(spec)
        self.spec = spec
        self.device = torch.device(spec.device)
        self._copies: torch.cuda.Stream | None = None
        self._queued: deque[torch.cuda.Event] = deque()  # the ends of steps

    def autocast(self, precision: str | None = None) -> torch.autocast:
        """The context of a forward pass, by default in training; changes nothing in float32."""
        precision = precision or self.spec.precision
        half = precision != "float32"
        return torch.autocast(
            self.spec.device,
            dtype=DTYPES[precision] if half else None,
            enabled=half,
            # A cached copy of a weight would be made once, while a graph is captured, and never
            # again when it is replayed.
            cache_enabled=not self.spec.graph,
        )

    def make_scaler(self) -> torch.amp.GradScaler:
        """Scales the loss in float16, where gradients would underflow; otherwise does nothing."""
        return torch.amp.GradScaler(self.spec.device, enabled=self.spec.precision == "float16")

    def send(self, inputs: Inputs) -> dict[str, Any]:
        """Inputs of a step; tensors are copied while the device computes the step before."""
        if self.spec.device == "cpu":
            return dict(inputs)
        self._copies = self._copies or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        current, sent = torch.cuda.current_stream(), dict(inputs)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor):
                with torch.cuda.stream(self._copies):
                    sent[name] = self.to_device(value)
                sent[name].record_stream(current)  # or the next copy would take its memory
        current.wait_stream(self._copies)
        return sent

    def keep_pace(self) -> None:
        """Ends a step; waits until at most two are queued, so that few batches are in memory."""
        if self.spec.device == "cuda":
            end = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            end.record()
            self._queued.append(end)
            if len(self._queued) > 2:
                self._queued.popleft().synchronize()

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the device; its copy is pinned, so the CPU need not wait for the GPU."""
        if self.device.type == tensor.device.type:
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def configure(self, net: nn.Module) -> None:
        """Sets the attention kernel, residual stream and recomputation of a model."""
        for module in net.modules():
            if isinstance(module, Attention):
                module.how = self.spec.attention
            if isinstance(module, Blocks):
                module.compute_residual = self.spec.residual == "compute"
                module.recompute = self.spec.recompute == "blocks"
            if isinstance(module, Attention | Mlp):
                module.recompute = self.spec.recompute == "norms"

    @torch.no_grad()
    def infer(self, net: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Outputs of a configured model in evaluation, float32 on the engine's device.

        The model is not compiled: evaluation batches have other shapes, and compiling takes longer
        than most evaluations.
        """
        with self.autocast(self.spec.evaluate_precision):
            return net(self.to_device(x)).float()

    def prepare(self, net: nn.Module) -> Callable[..., torch.Tensor]:
        """Configures a model for training; returns it or its compiled form, to be called."""
        self.configure(net)
        if self.spec.compile == "off":
            return net
        from torch._inductor import config  # takes two seconds, so only if needed

        # On a CPU, a pool of compilers would outlive a killed cell's process. On a GPU, the arms of
        # a session compile at the same time.
        config.compile_threads = 1 if self.spec.device == "cpu" else _COMPILE_THREADS
        mode = "max-autotune-no-cudagraphs" if self.spec.compile == "max-autotune" else None
        return torch.compile(net, mode=mode)


CPU = Engine(EngineSpec())  # that of the defaults


def rate_groups(net: nn.Module, training: TrainingSpec) -> list[tuple[float, list[nn.Parameter]]]:
    """Multiples of the learning rate, each with its parameters; others take no gradients any more.

    With ``layer_decay`` d, the last of n blocks, and what is behind it, has 1, block i (from 0)
    d^(n - 1 - i), and the embeddings d^n, as in fine-tuning BEiT (arXiv:2106.08254, appendix).
    The classifier has ``head_rate``.

    Raises:
        InputError: the classifier alone is to be trained, and the model does not name it.
    """
    heads = net.classifiers if isinstance(net, AudioModel) else ()
    named = list(net.named_parameters())
    if training.trained == "head" and not any(name.startswith(heads) for name, _ in named):
        problem = "the model does not say which parameters are its classifier's"
        remedy = "Set classifiers in its class, or train all."
        raise InputError(problem, field="training.trained", value="head", remedy=remedy)
    blocks = {name: int(found[1]) for name, _ in named if (found := _BLOCK.search(name))}
    last = max(blocks.values(), default=-1)
    embedded = {name for name, _ in takewhile(lambda item: item[0] not in blocks, named)}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        if name.startswith(heads):
            scale = training.head_rate
        elif training.trained == "head":
            parameter.requires_grad_(False)
            continue
        elif name in blocks:
            scale = training.layer_decay ** (last - blocks[name])
        else:
            scale = training.layer_decay ** (last + 1) if name in embedded else 1.0
        groups.setdefault(scale, []).append(parameter)
    return list(groups.items())


class ModelStep:
    """The parts of a training step of a model: forward pass and loss, backward pass, optimizer.

    Training and cost sessions share them. The model must be on the device of the engine, which is
    an `Engine` unless another one is given.
    """

    def __init__(self, net: nn.Module, recipe: Recipe, engine: Engine | None = None) -> None:
        self.engine = engine or Engine(recipe.engine)
        training, graph = recipe.training, recipe.engine.graph
        self._loss, rate = training.loss, training.learning_rate
        groups = rate_groups(net, training)
        self._scales = [scale for scale, _ in groups]
        # Replays of a graph read the rates from the device, where they can change.
        device = self.engine.device
        self._rates = [torch.tensor(rate * scale, device=device) for scale in self._scales if graph]
        self.optimizer = torch.optim.AdamW(
            [{"params": parameters} for _, parameters in groups],
            lr=rate,
            weight_decay=training.weight_decay,
            fused=True,
            capturable=graph,
        )
        self.set_learning_rate(rate)
        self.scaler = self.engine.make_scaler()
        self.call = self.engine.prepare(net)  # the model or its compiled form

    def set_learning_rate(self, rate: float) -> None:
        """Sets the learning rate of the next step."""
        for n, scale in enumerate(self._scales):
            # A checkpoint puts a tensor of the CPU there, which graphs freeze.
            own = self._rates[n].fill_(rate * scale) if self._rates else rate * scale
            self.optimizer.param_groups[n]["lr"] = own

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step, before its multiples."""
        return float(self.optimizer.param_groups[0]["lr"]) / self._scales[0]

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """The loss of a batch of ``x``, ``targets`` and the random inputs of the step."""
        extra = {name: value for name, value in inputs.items() if name not in ("x", "targets")}
        with self.engine.autocast():
            logits = self.call(inputs["x"], **extra)
        return loss_of(self._loss, logits.float(), inputs["targets"])

    def backward(self, loss: torch.Tensor) -> None:
        """Frees the last gradients and computes new ones."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Takes the optimizer step."""
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def run(self, inputs: Inputs) -> torch.Tensor:
        """The whole step; returns the loss without waiting for the device."""
        if self.engine.spec.accumulate == 1:
            loss = self.forward(inputs)
            self.backward(loss)
            self.update()
            return loss.detach()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.engine.device)
        shares = chunk_shares(self._loss, inputs["targets"], self.engine.spec.accumulate)
        for share, chunk in zip(shares, self.chunks(inputs), strict=True):
            loss = share * self.forward(chunk)
            self.scaler.scale(loss).backward()
            total = total + loss.detach()
        self.update()
        return total

    def chunks(self, inputs: Inputs) -> Iterator[dict[str, Any]]:
        """The equal chunks of a batch: rows of inputs of two or more dimensions, all of others."""
        count = self.engine.spec.accumulate
        size = len(inputs["x"]) // count
        for at in range(0, count * size, size):
            yield {
                name: value[at : at + size] if getattr(value, "ndim", 0) > 1 else value
                for name, value in inputs.items()
            }


class StepGraph:
    """Replays a whole training step as one CUDA graph, one per input shape.

    Replaces about a thousand kernel launches, which dominate small batches. The graphs share their
    memory, because they are replayed one after the other and only the loss is read afterwards.

    Args:
        step: a whole step on tensors of the device; returns the loss. It must not synchronize, and
            must set gradients to None before backward.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._captured: dict[tuple[object, ...], _Captured] = {}
        self._pool: Any = None

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Copies the inputs to the GPU, runs the step, returns the loss there."""
        shapes = tuple(
            (name, (value.shape, value.dtype) if isinstance(value, torch.Tensor) else value)
            for name, value in inputs.items()
        )
        if shapes not in self._captured:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._captured[shapes] = _Captured(self._step, inputs, self._pool)
        return self._captured[shapes](inputs)

    def clear(self) -> None:
        """Frees the graphs and their memory; the next steps capture again."""
        self._captured.clear()
        self._pool = None  # a pool that no graph uses any more cannot be captured into again


class _Captured:
    """The step for one input shape: first eager, then captured, then replayed."""

    def __init__(self, step: Step, inputs: Inputs, pool: Any) -> None:
        self._step, self._pool = step, pool
        self._buffers = {
            name: torch.empty_like(value, device="cuda")
            if isinstance(value, torch.Tensor)
            else value
            for name, value in inputs.items()
        }
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss = torch.zeros(())
        self._calls = 0

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        for name, buffer in self._buffers.items():
            if isinstance(buffer, torch.Tensor):
                buffer.copy_(inputs[name], non_blocking=True)
        if self._calls < _EAGER_STEPS:  # on another stream, which a capture requires first
            self._calls += 1
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                loss = self._step(self._buffers)
            torch.cuda.current_stream().wait_stream(stream)
            return loss
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            # Records the step without running it; a thread may allocate pinned memory meanwhile.
            with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
                self._loss = self._step(self._buffers)
            self._graph = graph
        self._graph.replay()
        return self._loss.clone()  # the next replay, of any graph, writes over it
