"""The base classes of all models, their options and initial weights.

Each parameter gets its initial values from a generator of its own, seeded by seed and name. Two
variants of one seed then share every parameter that both have, whatever else differs: a change of
stride alters the position encodings and nothing else.

Shapes: B batch, mels and frames of the input.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field
from torch import nn

from passt_bench.errors import InputError, choose_from
from passt_bench.models.patchout import draw_batch, random_stream
from passt_bench.spec.codec import python_name, to_pair, validate
from passt_bench.spec.frontends import passt_frontend
from passt_bench.spec.recipe import FrontendSpec, Pair, Patchout

Positive = Annotated[int, Field(gt=0)]
PositivePair = Annotated[tuple[Positive, Positive], BeforeValidator(to_pair)]
_OFFSET = 0x0FF5  # keeps this random stream apart from others with the same seed


@dataclass(frozen=True)
class NoOptions:
    """Options of a model that has none."""


class AudioModel(nn.Module, ABC):
    """A model: log-mel (B, 1, mels, frames) → logits (B, num_classes).

    A subclass builds its layers in the constructor, also on the meta device, and has `forward`; one
    with patches has `grid`, ``patch`` and ``stride`` as well. `models.testing.ModelContract` tests
    all of this.

    Args:
        num_classes: number of classes.
        options: of the type ``Options``.
        mels: rows of the input.
        frames: columns of the input that the model is built for; ``forward`` may get others.

    Attributes:
        Options: frozen dataclass of the model's hyper-parameters; each field has a type, a default
            and, in its annotation, a description. Values from outside are validated against it.
        frontend: the published front end; the size of its output is the model's default input size.
        special_tokens: tokens that are not patches, e.g. the class token.
        unused: names of parameters that ``forward`` does not use.
        classifiers: beginnings of the names of the parameters that follow the features.
        patch, stride: size and stride of the patches (frequency, time).
        patchout: what a plain ``net(x)`` in training drops, drawn from torch's own generator;
            always the full amount, because a schedule belongs to the training loop.
        thresholds: of a trained model, the probability of each class from which on a clip has it,
            see `training.metrics.best_thresholds`; None if they were not chosen.
    """

    Options: ClassVar[type[Any]] = NoOptions
    frontend: ClassVar[FrontendSpec] = passt_frontend(jitter=False)
    special_tokens: ClassVar[int] = 0
    unused: ClassVar[tuple[str, ...]] = ()
    classifiers: ClassVar[tuple[str, ...]] = ("head.",)
    patch: Pair
    stride: Pair
    patchout = Patchout()
    thresholds: tuple[float, ...] | None = None

    def __init__(self, num_classes: int, options: Any, *, mels: int, frames: int) -> None:
        super().__init__()
        self.mels = mels

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Refuses ``kept`` for the ``forward`` of a model without patches."""
        super().__init_subclass__(**keywords)
        own = vars(cls).get("forward")
        if own is not None and cls.grid is AudioModel.grid:

            @wraps(own)
            def forward(self: AudioModel, x: torch.Tensor, kept: Any = None) -> torch.Tensor:
                if kept is not None:
                    raise ValueError("a model without patches has none to keep")
                logits: torch.Tensor = own(self, x)
                return logits

            cls.forward = forward  # type: ignore[method-assign]

    @classmethod
    def parse_options(cls, given: Mapping[str, Any]) -> Any:
        """The model's ``Options`` from values by name; the others have their defaults."""
        for name, value in given.items():
            if python_name(cls.Options, name) is None:
                known = choose_from([item.name for item in fields(cls.Options)], name)
                field = f"model.{name}"
                raise InputError(
                    "this model has no such option", field=field, value=value, remedy=known
                )
        try:
            return validate(cls.Options, dict(given))
        except InputError as error:
            name = str(error.field).partition(".")[0]
            value, field = given.get(name), f"model.{name}"
            raise InputError(error.problem, field=field, value=value, remedy=error.remedy) from None

    def grid(self, frames: int) -> Pair | None:
        """The patch grid (frequency, time) of an input with that many frames; None: no patches."""
        return None

    def num_offsets(self, frames: int) -> int:
        """Number of offsets into the time encodings for an input of that many frames.

        If there is more than one, ``forward`` takes an ``offset``.
        """
        return 1

    @abstractmethod
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes).

        Args:
            x: normalized log-mel.
            kept: flat, frequency-major indices of the patches to keep, (n,) shared by the batch or
                (B, n). None draws them in training and keeps all in evaluation.

        Raises:
            ValueError: ``kept`` is given to a model without patches, whose own ``forward`` does
                not get it.
        """

    def embedding(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → what the classifier gets, (B, D), see `capture_features`.

        ``kept`` is as in `forward`. That of a PaSST is what its reference code returns beside the
        logits, as ``features`` (``hear21passt/models/passt.py``, ``forward``).
        """
        with capture_features(self) as found:
            self(x) if kept is None else self(x, kept=kept)
        return found[0]

    def step_inputs(
        self, setting: Patchout, frames: int, seed: int, step: int, batch: int
    ) -> dict[str, Any]:
        """Draws the kept patches and the time offset of a training step: a pure function.

        ``kept``, the indices of the patches to keep or None, and ``offset`` for input that is
        shorter than the time encodings.

        Raises:
            InputError: patchout that the model cannot do, or that leaves no patches.
        """
        grid, offsets = self.grid(frames), self.num_offsets(frames)
        if grid is None and setting.kind != "none":
            raise InputError(
                "the model has no patches to drop",
                field="patchout.kind",
                value=setting.kind,
                remedy="Use 'none' with this model.",
            )
        kept = draw_batch(setting, grid, seed, step, batch) if grid else None
        drawn: dict[str, Any] = {"kept": kept}
        if offsets > 1:  # a tensor, because torch.compile makes a graph per plain number
            drawn["offset"] = torch.tensor(random_stream(_OFFSET, seed, step).integers(offsets))
        return drawn

    def init_parameter(
        self, name: str, parameter: torch.Tensor, generator: torch.Generator
    ) -> None:
        """Sets the initial values of one parameter, in place: He's normal, norms 1, biases 0.

        They replace those of the constructor. Override it for others, and for frozen values.
        """
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            fill_normal(parameter, math.sqrt(2 / parameter[0].numel()), generator)


def frames_of(x: torch.Tensor) -> int:
    """The frames of a log-mel (B, 1, mels, frames); `InputError` if it has another form."""
    if x.ndim != 4:
        problem, remedy = f"{x.ndim} dimensions", "Give (B, 1, mels, frames), e.g. x.unsqueeze(1)."
        raise InputError(problem, field="input", value=tuple(x.shape), remedy=remedy)
    return x.shape[3]


def fill_normal(parameter: torch.Tensor, std: float, generator: torch.Generator) -> None:
    """Truncated normal at two standard deviations, in place."""
    nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std, generator=generator)


@torch.no_grad()
def initialize(net: AudioModel, seed: int) -> None:
    """Draws every parameter of a model; buffers (running statistics) keep their defaults."""
    for name, parameter in net.named_parameters():
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        net.init_parameter(name, parameter, generator)


class Cnn(AudioModel):
    """A convolutional model, which has no patches; a subclass gives ``logits`` and ``min_size``."""

    min_size: ClassVar[int] = 1  # smallest mels and frames that survive pooling

    def __init__(self, num_classes: int, options: Any, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self._check("frontend.mels", mels)
        self._check("frames", frames)

    def _check(self, field: str, value: int) -> None:
        if value < self.min_size:
            raise InputError(
                f"too small for the poolings of {type(self).__name__}",
                field=field,
                value=value,
                remedy=f"Give at least {self.min_size}.",
            )

    @abstractmethod
    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes)."""

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes); ``kept`` must be None."""
        self._check("frames", frames_of(x))
        return self.logits(x)


def channels_last(net: nn.Module) -> None:
    """Lays out filters with channels last: faster on a CPU, and in half precision on a GPU."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def capture_features(*nets: AudioModel) -> Iterator[list[torch.Tensor]]:
    """Yields a list to which each forward pass of a model appends what its classifier gets, (B, D).

    The classifier is the module, or sequence of modules, that ``classifiers`` names first; maps
    (B, D, …) are averaged over their axes behind D.
    """
    found: list[torch.Tensor] = []

    def keep(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        found.append(given[0].flatten(2).mean(dim=2) if given[0].ndim > 2 else given[0])

    modules = [net.get_submodule(net.classifiers[0].rstrip(".")) for net in nets]
    handles = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
