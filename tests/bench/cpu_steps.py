"""Prints a table of CPU training steps of PaSST-B, beside the official code where it is installed.

The official code runs as it ships: float32, eager, AdamW's plain loop. Rounds are interleaved, and
each measured step follows one of the same engine; ratios are those of medians. With the authors'
package, in the environment of ``nox -s parity``:

    .nox/parity/bin/python tests/bench/cpu_steps.py --record docs/cpu_steps.json
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F

from passt_bench.measure.machine import describe_machine
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
    "float32, by heads": {"attention": "by_heads"},
    "float32, materialized": {"attention": "materialised"},
    "float32, norms": {"recompute": "norms"},
    "float32, blocks": {"recompute": "blocks"},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, residual": {"precision": "bfloat16", "residual": "compute"},
    "bfloat16, by heads": {
        "precision": "bfloat16",
        "residual": "compute",
        "attention": "by_heads",
    },
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


def measure(tokens: int, batch: int, threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Times all engines with one number of tokens; saved MiB are per clip."""
    x, targets = torch.randn(batch, 1, MELS, FRAMES), torch.zeros(batch, CLASSES)
    arms = {
        name: _own(tokens, x, targets, EngineSpec(threads=threads, **settings))
        for name, settings in ENGINES.items()
    }
    if find_spec(OFFICIAL):
        arms = {OFFICIAL: _official(tokens, x, targets), **arms}
    seconds = {name: list[float]() for name in arms}
    for number in range(rounds + 1):
        for name in random.sample(list(arms), len(arms)):
            arms[name][2]()  # as in training, where the step before has just run
            start = time.perf_counter()
            arms[name][2]()
            if number:  # the first round warms up
                seconds[name].append(round(time.perf_counter() - start, 3))
    found = {}
    for name, (net, forward, _) in arms.items():
        resident = [*net.parameters(), *net.buffers()]
        saved = saved_for_backward(forward, resident) / batch / 2**20
        found[name] = {"seconds": seconds[name], "saved_mib": round(saved, 1)}
    return found


def rows(steps: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Engine, median seconds, speed-up, MiB and their share of the first engine's."""
    first, *_ = steps.values()
    found = []
    for name, step in steps.items():
        seconds, saved = median(step["seconds"]), step["saved_mib"]
        speedup = f"{median(first['seconds']) / seconds:.2f}×"
        share = f"{saved / first['saved_mib']:.2f}"
        found.append((name, f"{seconds:.2f}", speedup, f"{saved:.0f}", share))
    return found


def show(steps: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """The table of a number of tokens."""
    table = Table(title=title)
    for column in ("engine", "s / step", "speed-up", "saved MiB / clip", "share"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for row in rows(steps):
        table.add_row(*row)
    return table


def markdown(tokens: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The rows of the table in docs/performance.md."""
    columns = [rows(steps) for steps in tokens.values()]
    lines = []
    for several in zip(*columns, strict=True):
        cells = [cell for name, *values, _ in several for cell in values]
        lines.append(f"| {several[0][0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures each number of tokens in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=list(SIZES), choices=SIZES)
    for name, default in (("batch", 2), ("threads", 2), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--record", type=Path, help="JSON file that keeps the numbers")
    parser.add_argument("--read", type=Path, help="print such a file as Markdown, measure nothing")
    words = parser.parse_args()
    if words.read:
        print(markdown(json.loads(words.read.read_text(encoding="utf-8"))["tokens"]))
        return
    set_up(EngineSpec(threads=words.threads))
    title = f"batch {words.batch}, {words.threads} threads, {words.rounds} rounds"
    about = {"title": title, "torch": torch.__version__, "machine": describe_machine()}
    kept: dict[str, Any] = {}
    for tokens in words.tokens:
        steps = measure(tokens, words.batch, words.threads, words.rounds)
        kept[str(tokens)] = steps
        Console().print(show(steps, f"{tokens} tokens, {title}"))
        if words.record:
            words.record.write_text(json.dumps({**about, "tokens": kept}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
