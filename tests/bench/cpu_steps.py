"""Prints a table of CPU training steps of PaSST-B, beside the official code where it is installed.

The official code runs as it ships: float32, eager, AdamW's plain loop. Rounds are interleaved, and
a ratio is the median of its rounds. With the authors' package, in the environment of
``nox -s parity``:

    .nox/parity/bin/python tests/bench/cpu_steps.py
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F

from passt_bench.measure.memory import saved_for_backward
from passt_bench.models import Patchout, create_model
from passt_bench.spec import EngineSpec, Recipe
from passt_bench.training.engine import ModelStep
from passt_bench.training.loop import set_up

CLASSES, MELS, FRAMES = 527, 128, 998
# tokens → stride and patchout: none, that of PaSST-S, and that of PaSST-S-N
SIZES = {
    1190: ((10, 10), Patchout()),
    474: ((10, 10), Patchout("structured", time=40, frequency=4)),
    254: ((16, 16), Patchout("structured", time=20, frequency=2)),
}
ENGINES: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, norms": {"recompute": "norms"},
    "float32, blocks": {"recompute": "blocks"},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, residual": {"precision": "bfloat16", "residual": "compute"},
    "bfloat16, materialized": {"precision": "bfloat16", "attention": "materialised"},
    "bfloat16, compiled": {"precision": "bfloat16", "residual": "compute", "compile": "default"},
}
OFFICIAL = "hear21passt"
Step = Callable[[], object]


def _official(tokens: int, x: torch.Tensor, targets: torch.Tensor) -> tuple[nn.Module, Step, Step]:
    """The model, its forward pass, and a whole step."""
    stride, patchout = SIZES[tokens]
    net = create_model(OFFICIAL, CLASSES, stride=stride, mels=MELS, frames=FRAMES).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, weight_decay=1e-4)
    extra = net.step_inputs(patchout, FRAMES, 0, 0, len(x))

    def forward() -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(net(x, **extra), targets)

    def step() -> None:
        optimizer.zero_grad()
        forward().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return net, forward, step


def _own(
    tokens: int, x: torch.Tensor, targets: torch.Tensor, engine: EngineSpec
) -> tuple[nn.Module, Step, Step]:
    stride, patchout = SIZES[tokens]
    net = create_model("passt_b", CLASSES, stride=stride, mels=MELS, frames=FRAMES).train()
    model = ModelStep(net, Recipe(engine=engine))
    inputs = {"x": x, "targets": targets, **net.step_inputs(patchout, FRAMES, 0, 0, len(x))}
    return net, lambda: model.forward(inputs), lambda: model.run(inputs)


def measure(tokens: int, batch: int, threads: int, rounds: int) -> Table:
    """Times all engines with one number of tokens; saved MiB are per clip."""
    x, targets = torch.randn(batch, 1, MELS, FRAMES), torch.zeros(batch, CLASSES)
    arms = {
        name: _own(tokens, x, targets, EngineSpec(threads=threads, **settings))
        for name, settings in ENGINES.items()
    }
    if find_spec(OFFICIAL):
        arms = {OFFICIAL: _official(tokens, x, targets), **arms}
    first, seconds = next(iter(arms)), {name: list[float]() for name in arms}
    for number in range(rounds + 1):
        for name in random.sample(list(arms), len(arms)):
            start = time.perf_counter()
            arms[name][2]()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    table = Table(title=f"{tokens} tokens, batch {batch}, {threads} threads, {rounds} rounds")
    for column in ("engine", "s / step", f"faster than {first}", "saved MiB / clip", "share"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    saved: dict[str, float] = {}
    for name, (net, forward, _) in arms.items():
        resident = [*net.parameters(), *net.buffers()]
        saved[name] = saved_for_backward(forward, resident) / batch / 2**20
        ratio = median(a / b for a, b in zip(seconds[first], seconds[name], strict=True))
        row = f"{median(seconds[name]):.2f}", f"{ratio:.2f}x", f"{saved[name]:.0f}"
        table.add_row(name, *row, f"{saved[name] / saved[first]:.2f}")
    return table


def main() -> None:
    """Measures each number of tokens in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=list(SIZES), choices=SIZES)
    for name, default in (("batch", 2), ("threads", 2), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    words = parser.parse_args()
    set_up(EngineSpec(threads=words.threads))
    for tokens in words.tokens:
        Console().print(measure(tokens, words.batch, words.threads, words.rounds))


if __name__ == "__main__":
    main()
