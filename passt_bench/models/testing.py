"""What every model must do: checks to run on a model of one's own, in or outside this package.

A model is registered in `registry.MODELS` under a builder that takes the number of classes,
``mels`` and ``frames``, ``patchout`` if it has patches, and those fields of `spec.recipe.ModelSpec`
that it knows. What it builds is a module with

- ``forward(x, kept=None)``: log-mel (B, 1, mels, frames) → logits (B, classes). ``kept`` are flat,
  frequency-major indices of the patches that stay, (n,) for the batch or (B, n);
- ``grid(frames)``: the patch grid (frequency, time), None for a model without patches;
- ``special_tokens``: tokens beside the patches, 0 for a model without;
- ``fill(name, parameter, generator)``: initial values of one parameter, in place;
- with patches: ``patch`` and ``stride``, pairs (frequency, time);
- where it draws its patches itself: ``step_inputs(setting, frames, seed, step, batch)``, the
  arguments that ``forward`` takes beside its input in a training step; for all others the suite
  draws ``kept``;
- if it has parameters that nothing reads: ``unused``, their names;
- if input can take several places in its time encodings: ``offsets(frames)``, how many, and an
  argument ``offset`` of ``forward``.

A check raises `ContractError` that says what is broken, and needs no test framework::

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_model(check):
        check(Subject("my_model", {"width": 16}))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from passt_bench.errors import ContractError, InputError
from passt_bench.models import build_model, create_model
from passt_bench.models.base import initialise
from passt_bench.models.patchout import draw_batch, resolve
from passt_bench.spec.recipe import Pair, Patchout

_BATCH = 3


@dataclass(frozen=True)
class Subject:
    """A registered model, in a size that is checked in a second.

    Attributes:
        name: registered name.
        options: of `models.build_model`; make the model small.
        classes: logits.
        mels: rows of the input.
        frames: columns of the input.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 5
    mels: int = 64
    frames: int = 64

    def build(self, **more: Any) -> nn.Module:
        """The model without weights, and without patchout of its own unless told."""
        return build_model(self.name, self.classes, **self._arguments(more))

    def create(self, seed: int = 0, **more: Any) -> nn.Module:
        """The model with initial weights, in evaluation."""
        return create_model(self.name, self.classes, seed=seed, **self._arguments(more)).eval()

    def _arguments(self, more: Mapping[str, Any]) -> dict[str, Any]:
        given = {"mels": self.mels, "frames": self.frames, "patchout": Patchout()}
        return {**given, **self.options, **more}

    def input(self, batch: int = _BATCH, seed: int = 0) -> torch.Tensor:
        """Random log-mel, (batch, 1, mels, frames)."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, 1, self.mels, self.frames, generator=generator)

    def grid(self, net: nn.Module) -> Pair | None:
        """The model's grid for this input."""
        found: Pair | None = net.grid(self.frames)  # type: ignore[operator]
        return found


def _require(kept: bool, what: str) -> None:
    if not kept:
        raise ContractError(what)


def check_shapes(subject: Subject) -> None:
    """Builds and runs on the meta device, where `plan` counts; logits have their shape."""
    with torch.device("meta"):
        net = subject.build()
        x = torch.empty(_BATCH, 1, subject.mels, subject.frames)
    tensors = [*net.parameters(), *net.buffers()]
    _require(all(t.device.type == "meta" for t in tensors), "it builds on the meta device")
    shape = tuple(net.eval()(x).shape)
    _require(shape == (_BATCH, subject.classes), f"logits are (batch, classes), not {shape}")
    grid = subject.grid(net)
    _require(isinstance(net.special_tokens, int), "special_tokens is a number")
    if grid is not None:
        for name, pair in (("grid", grid), ("patch", net.patch), ("stride", net.stride)):
            good = isinstance(pair, tuple) and len(pair) == 2 and min(pair) > 0
            _require(good, f"{name} is a pair (frequency, time) of positive numbers, not {pair}")


def check_initial_weights(subject: Subject) -> None:
    """`fill` sets every value of every parameter, from the seed alone."""
    nets: list[nn.Module] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(nets))  # which must not matter
        net = subject.build()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(torch.nan)
        initialise(net, seed)
        nets.append(net)
    for name, parameter in nets[0].named_parameters():
        _require(bool(parameter.isfinite().all()), f"fill sets all of {name}")
    one, same, other = (list(net.parameters()) for net in nets)
    _require(all(map(torch.equal, one, same)), "one seed gives one set of weights")
    _require(not all(map(torch.equal, one, other)), "another seed gives other weights")


@torch.no_grad()
def check_state(subject: Subject) -> None:
    """A state dict, read by a new model, gives the same logits."""
    net, copy, x = subject.create(0), subject.create(1), subject.input()
    _require(not torch.equal(net(x), copy(x)), "logits depend on the weights")
    copy.load_state_dict(net.state_dict())
    _require(torch.equal(net(x), copy(x)), "its state dict holds all that it computes with")


@torch.no_grad()
def check_evaluation(subject: Subject) -> None:
    """In evaluation nothing is random, and a clip's logits do not depend on its batch."""
    net, x = subject.create(), subject.input()
    logits = net(x)
    _require(logits.dtype == torch.float32, "float32 gives float32")
    _require(bool(logits.isfinite().all()), "logits are finite")
    _require(torch.equal(logits, net(x)), "evaluation is not random")
    alone = torch.cat([net(row[None]) for row in x])
    _require(torch.allclose(alone, logits, rtol=1e-3, atol=1e-4), "clips do not see each other")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _require(bool(net(x).isfinite().all()), "logits are finite in bfloat16 as well")
    _require(torch.equal(net.train().eval()(x), logits), "training mode can be left again")


def check_gradients(subject: Subject) -> None:
    """Every parameter learns but those that are named as unused."""
    net = subject.create().train()
    torch.manual_seed(0)
    net(subject.input(batch=8)).square().sum().backward()
    unused = set(getattr(net, "unused", ()))
    silent = {
        name
        for name, parameter in net.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    _require(silent == unused, f"without a gradient are {sorted(silent)}, unused {sorted(unused)}")


@torch.no_grad()
def check_kept_patches(subject: Subject) -> None:
    """``kept`` chooses patches; keeping all is dropping nothing."""
    net, x = subject.create().train(), subject.input()
    grid = subject.grid(net)
    if grid is None:
        try:
            net(x, torch.arange(1))
        except ValueError:
            return
        raise ContractError("a model without patches refuses kept ones by ValueError")
    patches = grid[0] * grid[1]

    def logits(kept: torch.Tensor | None) -> torch.Tensor:
        torch.manual_seed(0)  # for dropout
        out: torch.Tensor = net(x, kept)
        return out

    every = logits(None)
    whole = logits(torch.arange(patches))
    _require(torch.allclose(whole, every, rtol=1e-5, atol=1e-6), "keeping all is dropping nothing")
    for scope in ("batch", "sample"):
        setting = Patchout("unstructured", patches=max(1, patches // 2), scope=scope)
        kept = draw_batch(setting, grid, 0, 0, _BATCH)
        found = logits(kept)
        _require(found.shape == every.shape, f"one pattern a {scope} is taken")
        _require(not torch.equal(found, every), f"one pattern a {scope} drops something")


def check_input_of_kept_patches(subject: Subject) -> None:
    """Gradients reach the input under the patches that are kept, and nothing else."""
    net, x = subject.create(), subject.input(batch=1).requires_grad_()
    grid = subject.grid(net)
    if grid is None:
        return
    kept = torch.tensor([grid[0] * grid[1] - 1])  # the last is in one corner of the input
    net(x, kept).square().sum().backward()
    assert x.grad is not None
    top, left = (int(n - 1) * s for n, s in zip(grid, net.stride, strict=True))  # type: ignore[arg-type]
    height, width = net.patch  # type: ignore[misc]
    patch = x.grad[0, 0, top : top + height, left : left + width]
    _require(bool(patch.any()), "a kept patch is read; indices are frequency-major")
    elsewhere = int(x.grad.count_nonzero() - patch.count_nonzero())
    _require(elsewhere == 0, "no other patch is read")


@torch.no_grad()
def check_own_patchout(subject: Subject) -> None:
    """A model with a setting of its own drops in training alone; without patches it refuses."""
    x, setting = subject.input(), Patchout("unstructured", rate=0.5)
    grid = subject.grid(subject.build())
    if grid is None:
        try:
            subject.build(patchout=setting)
        except InputError:
            return
        raise ContractError("a model without patches refuses patchout by InputError")
    resolve(setting, grid)
    net, plain = subject.create(patchout=setting), subject.create(patchout=Patchout())
    _require(torch.equal(net(x), plain(x)), "patchout is off in evaluation")
    net.train()
    _require(not torch.equal(net(x), net(x)), "patchout is drawn anew in each training step")


def check_options(subject: Subject) -> None:
    """A field that the model does not know is refused with its name."""
    for name, value in {"stride": 3, "heads": 1, "width": 12, "multiplier": 0.5}.items():
        try:
            subject.build(**{name: value})
        except InputError as error:
            _require(error.field is not None, f"the refusal of model.{name} names a field")


@torch.no_grad()
def check_offsets(subject: Subject) -> None:
    """Where input can take several places in the time encodings, ``offset`` says which."""
    net = subject.create()
    offsets = getattr(net, "offsets", None)
    if offsets is None:
        return
    _require(offsets(subject.frames) >= 1, "there is always one place")
    shorter = [n for n in range(subject.frames, 0, -1) if _fits(net, n) and offsets(n) > 1]
    for frames in shorter[:1]:
        x = subject.input()[..., :frames]
        found = {net(x, offset=torch.tensor(i)).sum().item() for i in range(offsets(frames))}
        _require(len(found) == offsets(frames), "each place gives other logits")


def _fits(net: nn.Module, frames: int) -> bool:
    try:
        net.grid(frames)  # type: ignore[operator]
    except InputError:
        return False
    return True


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_shapes,
    check_initial_weights,
    check_state,
    check_evaluation,
    check_gradients,
    check_kept_patches,
    check_input_of_kept_patches,
    check_own_patchout,
    check_options,
    check_offsets,
)
