"""Profiles the training step of PaSST-B by kind of work, for docs/performance.md.

    python tests/helpers/step_profile.py FILE [--device cuda]      measures, writes FILE, prints
    python tests/helpers/step_profile.py FILE                      prints what FILE holds

On a GPU the kernels of three steps are summed, on a CPU the own time of operators. Compiled
kernels do several things; they count as the heaviest, which their names tell.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from passt_bench.ablations.recipes import ENGINE_2021, ENGINE_TODAY, PATCHES, passt_step
from torch.profiler import ProfilerActivity, profile

from passt_bench.measure.machine import describe_machine, library_versions
from passt_bench.measure.target import Subject
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.estimates import batch_size, summarize_model
from passt_bench.spec import override

CLASSES, STEPS, KERNELS = 527, 3, 60
BATCHES = {1190: 32, 474: 64, 254: 128}  # on a GPU
# The first that matches a kernel's or operator's name counts.
KINDS = {
    "attention": r"sdpa|flash|attention|fmha|compute_dot_do_o|convert_dq|softmax|^aten::bmm$",
    "matrix products": r"nvjet|gemm|cutlass|splitK|^aten::(mm|addmm|baddbmm|linear)$|mkldnn",
    "optimizer": r"adam|multi_tensor",
    "GELU": r"gelu",
    "layer norm, residual": r"layer_norm",
    "copies, casts, sums, rest": r"",
}


def kinds_of(kernels: list[list[Any]]) -> dict[str, float]:
    """Milliseconds a step by kind of work, of kernels as name, calls and milliseconds."""
    found = dict.fromkeys(KINDS, 0.0)
    for name, _, ms in kernels:
        found[next(kind for kind, text in KINDS.items() if re.search(text, name, re.I))] += ms
    return found


def measure(device: str) -> dict[str, Any]:
    """Times and profiles each number of tokens with each engine; keeps the heaviest kernels."""
    cuda, arms = device == "cuda", {}
    for engine, (changes, on_gpu) in (("2021", ENGINE_2021), ("today", ENGINE_TODAY)):
        for tokens, patches in PATCHES.items():
            extra = {**on_gpu, "measurement.batch_size": BATCHES[tokens]} if cuda else {}
            changed = {**patches, **changes, "engine.device": device, **extra}
            recipe = override(passt_step(), changed)
            subject = RecipeFactory(recipe, CLASSES)()
            subject.train(12 if cuda else 2)  # compiles, captures, warms up
            ms = [_milliseconds(subject, 20 if cuda else 1) for _ in range(3)]
            activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
            with profile(activities=[activity]) as profiler:
                subject.train(STEPS)
                if cuda:
                    torch.cuda.synchronize()
            kernels = [
                [
                    e.key[:120],
                    e.count,
                    (e.self_device_time_total if cuda else e.self_cpu_time_total),
                ]
                for e in profiler.key_averages()
            ]
            heaviest = sorted(kernels, key=lambda row: -row[2])[:KERNELS]
            clips, flops = batch_size(recipe), summarize_model(recipe, CLASSES).flops
            arms[f"{engine}, {tokens} tokens, {clips} clips"] = {
                "clips": clips,
                "flops": clips * flops,
                "step_ms": ms,
                "kernels": [[name, n, us / 1000 / STEPS] for name, n, us in heaviest],
            }
            subject.release_graphs()
            del subject
    return {"machine": describe_machine(), "versions": library_versions(), "arms": arms}


def _milliseconds(subject: Subject, steps: int) -> float:
    """The mean of some steps."""
    start = time.perf_counter()
    subject.train(steps)
    if subject.device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start) / steps


def table(measured: dict[str, Any]) -> str:
    """Speed of the steps and shares of the profiled time by kind of work, in Markdown."""
    heads = ("step", "ms", "clips/s", "TFLOP/s", *KINDS)
    rows = [heads, ["---"] * len(heads)]
    for name, arm in measured["arms"].items():
        kinds, ms = kinds_of(arm["kernels"]), median(arm["step_ms"])
        speed = (ms, 1000 * arm["clips"] / ms, arm["flops"] / ms / 1e9)
        shares = (f"{100 * part / sum(kinds.values()):.0f} %" for part in kinds.values())
        rows.append((name, *(f"{float(f'{value:.3g}'):g}" for value in speed), *shares))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measures where a device is given, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    words = parser.parse_args()
    if words.device:
        words.file.write_text(json.dumps(measure(words.device)) + "\n", encoding="utf-8")
    print(table(json.loads(words.file.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
