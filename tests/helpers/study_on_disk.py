"""Writes studies as records, shaped like those of a real run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from passt_bench.records.run import (
    CellRecord,
    Fingerprint,
    Picture,
    RunRecord,
    StudyRecord,
    VariantRecord,
)
from passt_bench.records.session import ArmRecord, Interval, SessionRecord
from passt_bench.records.store import Store
from passt_bench.spec import ModelSpec, Patchout, Recipe, pairwise
from passt_bench.spec.key import digest

SPECIAL = 2  # class tokens
GROUPS = {
    "frequency": ("band 1", "band 2", "band 3", "band 4", "band 5", "band 6"),
    "time": ("clicks 4 Hz", "clicks 10 Hz", "AM 4 Hz", "AM 10 Hz"),
    "both": ("chirp up", "chirp down"),
    "position": ("burst early", "burst late"),
}
MACHINE = {"cpu": "Imaginary 3000", "cores": 2, "memory_gib": 8, "python": "3.11.4"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MESSAGES = {
    "oom": "CUDA out of memory: tried to allocate 2.50 GiB",
    "diverged": "the loss became infinite in epoch 4",
    "timeout": "the cell ran longer than 600 s",
    "error": "RuntimeError: <weights> & biases",
}
EPOCHS = {"oom": 0, "diverged": 3}


@dataclass(frozen=True)
class Arm:
    """A variant to write: its quality, cost and fate."""

    name: str
    kind: str = "none"
    rate: float = 0.0
    stride: int = 8
    effect: float = 0.0  # on the metric
    statuses: Mapping[int, str] | None = None  # seed → status, ``ok`` for the others
    cost_status: str = "ok"
    cnn: bool = False

    @property
    def grid(self) -> tuple[int, int] | None:
        return None if self.cnn else ((64 - 8) // self.stride + 1,) * 2

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1] if self.grid else 0

    @property
    def kept(self) -> int:
        return round(self.patches * (1 - self.rate))

    @property
    def tokens(self) -> dict[str, int]:
        special = SPECIAL if self.grid else 0
        return {"tokens": self.kept + special, "tokens_full": self.patches + special}

    @property
    def recipe(self) -> Recipe:
        stride = (self.stride, self.stride)
        model = ModelSpec("passt_micro", patch=(8, 8), stride=stride)
        patchout = Patchout(self.kind, rate=self.rate) if self.kind != "none" else Patchout()
        model = ModelSpec("panns_micro") if self.cnn else model
        return replace(Recipe(), model=model, patchout=patchout)

    @property
    def step_seconds(self) -> float:
        return 0.055 if self.cnn else 0.006 + 4.4e-4 * (self.kept + SPECIAL)


QUICK = (
    Arm("none"),
    Arm("unstructured .25", "unstructured", 0.25, effect=-0.004),
    Arm("unstructured .5", "unstructured", 0.5, effect=-0.03),
    Arm("time .5", "time", 0.5, effect=-0.035),
    Arm("frequency .5", "frequency", 0.5, effect=-0.05),
    Arm("unstructured .75", "unstructured", 0.75, effect=-0.12),
    Arm("time .75", "time", 0.75, effect=-0.10, statuses={1: "diverged"}),
    Arm("frequency .75", "frequency", 0.75, effect=-0.21),
    Arm("structured .75", "structured", 0.75, effect=-0.13, statuses={2: "timeout"}),
    Arm("stride 6", stride=6, effect=0.035),
    Arm("stride 6, 64 patches", "structured", 0.36, stride=6, effect=-0.01),
    Arm("CNN", cnn=True, effect=-0.05),
    Arm("stride 2", stride=2, statuses=dict.fromkeys(range(5), "oom"), cost_status="oom"),
)
SMALL = (
    Arm("none"),
    Arm("time .5", "time", 0.5, effect=-0.2),
    Arm("too large", stride=2, statuses=dict.fromkeys(range(5), "oom"), cost_status="oom"),
)


def fingerprint(classes: int | None = None) -> Fingerprint:
    """Of a synthetic data set; ``classes`` gives so many without groups."""
    names = [name for group in GROUPS.values() for name in group]
    return Fingerprint(
        dataset="synthetic", digest="5f2c9a1be04d7733", expected=1900, found=1900,
        classes=tuple(names if classes is None else (f"class {i:03d}" for i in range(classes))),
        multi_label=True, sampling_rates={"16000": 1900},
        groups=dict(GROUPS) if classes is None else {}, notes=("procedural scenes, seed 0",),
    )  # fmt: skip


def write_study(
    root: Path,
    arms: Sequence[Arm] = QUICK,
    *,
    seeds: Sequence[int] = range(5),
    folds: Sequence[int] | None = None,
    metric: str = "mAP",
    name: str = "quick",
    data: Fingerprint | None = None,
    session: bool = True,
    rich: bool = True,
) -> Store:
    """Writes a study with its records; the first arm is the baseline.

    Rich records have curves, values by class, probes and pictures.
    """
    store, data = Store(root), data or fingerprint()
    variants = []
    for arm in arms:
        cells = [
            CellRecord(digest([name, arm.name, seed, fold]), seed, fold)
            for seed in seeds
            for fold in (folds or (None,))
        ]
        variants.append(
            VariantRecord(
                name=arm.name, recipe=arm.recipe, arm=digest(["arm", arm.name]),
                cells=tuple(cells), grid=arm.grid, **arm.tokens,
                patchout={"kind": arm.kind, "kept": arm.kept} if arm.grid else {},
            )
        )  # fmt: skip
        for cell in cells:
            status = (arm.statuses or {}).get(cell.seed, "ok")
            if status != "missing":
                store.write(_run(arm, cell, status, data, metric, rich))
    store.write_study(
        StudyRecord(
            name=name, question="What do kind, rate and overlap of patchout do?", metric=metric,
            baseline=arms[0].name, variants=tuple(variants), seeds=tuple(seeds),
            folds=tuple(folds) if folds else None, fingerprint=data,
            notebook="Question: does <patchout> pay?\n\nExpected outcome: it does.",
            command=f"passt-bench run {name} --seeds {len(seeds)}",
            contrasts={"neighbors": pairwise(*(arm.name for arm in arms[1:4]))},
        )
    )  # fmt: skip
    if session:
        measured = SessionRecord(
            key=digest(["session", [arm.name for arm in arms]]),
            baseline=digest(["arm", arms[0].name]), arms=tuple(_arm(arm, arms[0]) for arm in arms),
            rounds=20, steps=3, matmul_flops=6.1e10, machine=MACHINE, commit=COMMIT, seconds=61.0,
            disturbance={"warnings": ["Other processes keep 0.4 of 2 cores busy."]},
            versions={"torch": "2.13.0"}, finished="2026-11-22T10:05:00Z",
        )  # fmt: skip
        store.write(measured, samples={})
    return store


def _run(
    arm: Arm, cell: CellRecord, status: str, data: Fingerprint, metric: str, rich: bool
) -> RunRecord:
    block = np.random.default_rng([cell.seed, cell.fold or 0])
    own = np.random.default_rng([cell.seed, cell.fold or 0, *arm.name.encode()])
    value = 0.84 + 0.012 * block.standard_normal() + arm.effect + 0.006 * own.standard_normal()
    loss = (0.12 - arm.effect * 0.3) + 0.55 * np.exp(-np.arange(1, 11) / 3) + 0.01 * own.random(10)
    more: dict[str, Any] = {}
    if rich:
        more["curves"] = {"train_loss": tuple(loss[: EPOCHS.get(status, 10)].tolist())}
        more["picture"] = _picture(arm) if arm.grid else None
    if rich and status == "ok":
        classes = {c: value + _lean(arm, c) + 0.03 * own.standard_normal() for c in data.classes}
        more["per_class"] = {metric: {c: float(np.clip(v, 0, 1)) for c, v in classes.items()}}
        more["occlusions"] = {
            name: _hidden(metric, value, data, name.removeprefix("hide_"))
            for name in ("none", "hide_frequency", "hide_time")
        }
    return RunRecord(
        key=cell.key, status=status, recipe=replace(arm.recipe, metrics=(metric,)),
        seed=cell.seed, fold=cell.fold,
        fingerprint=data, metrics={metric: float(value)} if status == "ok" else {},
        grid=arm.grid, **arm.tokens, parameters=0 if status == "oom" else 76_000, flops=3.1e8,
        train={"step_seconds": 0.02, "peak_bytes": 4.1e8, "cpu_seconds": 9.5},
        clocks={"build": 0.2, "data": 1.4, "train": 9.8, "evaluate": 0.7}, machine=MACHINE,
        versions={"torch": "2.13.0", "numpy": "2.3.1", "passt-bench": "0.1.0"},
        components={"model": 1, "data": 1, "patchout": 1}, commit=COMMIT,
        message=MESSAGES.get(status), finished=f"2026-11-2{cell.seed % 10}T10:00:00Z", **more,
    )  # fmt: skip


def _lean(arm: Arm, name: str) -> float:
    if arm.kind in GROUPS and name in GROUPS[arm.kind]:
        return 1.4 * arm.effect
    return 0.04 if name in GROUPS["frequency"] else -0.03


def _hidden(metric: str, value: float, data: Fingerprint, hidden: str) -> dict[str, float]:
    """The occlusion test that hides this axis: classes of that group score a quarter."""
    groups = {f"{metric}/{g}": value * (0.25 if g == hidden else 0.9) for g in data.groups}
    return {metric: float(np.mean(list(groups.values()))) if groups else value * 0.5, **groups}


def _picture(arm: Arm) -> Picture:
    assert arm.grid is not None
    rng = np.random.default_rng(7)
    mel, frame = np.mgrid[0:64, 0:64]
    scene = 60 + 30 * rng.random((64, 64)) + 120 * (abs(mel - 20) < 3) + 90 * ((frame // 6) % 2)
    kept = rng.choice(arm.patches, arm.kept, replace=False)
    if arm.kind == "time":  # whole columns
        kept = np.flatnonzero(np.arange(arm.patches) % arm.grid[1] < arm.grid[1] * (1 - arm.rate))
    logmel = tuple(map(tuple, np.clip(scene, 0, 255).astype(int).tolist()))
    stride = (arm.stride, arm.stride)
    return Picture(logmel, tuple(sorted(kept.tolist())), arm.grid, (8, 8), stride)


def _arm(arm: Arm, baseline: Arm) -> ArmRecord:
    key, step = digest(["arm", arm.name]), arm.step_seconds
    if arm.cost_status != "ok":
        return ArmRecord(
            key=key, status=arm.cost_status, recipe=arm.recipe, batch_size=32,
            message=MESSAGES.get(arm.cost_status),
        )  # fmt: skip
    phases = {"train_step": step, "forward": 0.35 * step, "backward": 0.6 * step,
              "optimizer": 0.05 * step, "inference_1": 0.002,
              "inference_batch": 0.012 if arm.stride == 8 else 0.019}  # fmt: skip
    saved = 32 * (1.1e6 if arm.cnn else 9e3 * (arm.kept + SPECIAL))
    ratio = step / baseline.step_seconds
    return ArmRecord(
        key=key, status="ok", recipe=arm.recipe, **arm.tokens, parameters=76_000, batch_size=32,
        phases={p: Interval(x, x * 0.985, x * 1.02, 20) for p, x in phases.items()},
        ratios={"train_step": Interval(ratio, ratio * 0.98, ratio * 1.02, 20)},
        memory={"train_peak": 4.0e8 + saved * 1.4, "train_rise": saved * 1.3,
                "inference_peak": 3.9e8, "saved_for_backward": saved, "resident": 3e5},
        flops=step * 6e9, flops_inference=1.1e8, mfu=0.12, attention="fused",
    )  # fmt: skip
