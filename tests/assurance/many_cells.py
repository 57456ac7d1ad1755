"""A store of thousands of recorded cells, shaped like those of a real run, without running them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import small_study

from passt_bench.records.files import to_json
from passt_bench.records.run import Picture, RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import failure
from passt_bench.runner.plan import PlannedCell, StudyPlan, plan_study
from passt_bench.runner.request import Paths
from passt_bench.runner.studies import load_study

_RATES = """Variant("none"), *(
    Variant(f"rate {{i}}", {{"patchout": Patchout("unstructured", rate=i / 32)}})
    for i in range(1, {rates})
)"""


def write_many(folder: Path, variants: int, seeds: int) -> tuple[Path, Store]:
    """Writes a study file and a store that holds a record of each of its cells.

    Every fiftieth cell diverged. Returns the study file and the store, ``folder/runs``.
    """
    file = small_study.write(
        folder, "many", changes="", variants=_RATES.format(rates=variants),
        seeds=tuple(range(seeds)),
    )  # fmt: skip
    store = Store(folder / "runs")
    plan = plan_study(load_study(str(file)).study, Paths(store.root))
    store.write_study(plan.record)
    for cell, record in zip(plan.cells, _records(plan), strict=True):
        path = store.folder(cell.key) / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(to_json(record))  # without the fsync of the store
    return file, store


def _records(plan: StudyPlan) -> Iterator[RunRecord]:
    rng = np.random.default_rng(0)
    blank = replace(failure(plan.cells[0], "ok", ""), message=None)
    shares = {name: i for i, name in enumerate(v.name for v in plan.study.variants)}
    blocks = rng.normal(0, 0.01, len(plan.study.seeds))
    for number, cell in enumerate(plan.cells):
        value = 0.8 + blocks[cell.seed] - 0.004 * shares[cell.variant] + rng.normal(0, 0.01)
        record = replace(
            blank,
            key=cell.key,
            recipe=cell.recipe,
            seed=cell.seed,
            tokens=cell.summary.tokens,
            patchout=cell.summary.patchout,
            flops=cell.summary.flops,
            finished=f"2026-11-{1 + number % 28:02d}T10:00:00+00:00",
        )
        failed = number % 50 == 49
        if failed:
            yield replace(record, status="diverged", message="the loss is nan in step 7")
        else:
            yield _filled(record, cell, float(value), rng)


def _filled(
    record: RunRecord, cell: PlannedCell, value: float, rng: np.random.Generator
) -> RunRecord:
    """What a finished run measured, drawn at random; twenty kilobytes as JSON."""
    data = cell.fingerprint
    assert cell.summary.grid is not None  # every variant is a transformer
    classes = {name: float(value + rng.normal(0, 0.05)) for name in data.classes}
    groups = {f"mAP/{group}": float(value + rng.normal(0, 0.05)) for group in data.groups}
    epochs = cell.recipe.training.epochs
    return replace(
        record,
        metrics={"mAP": value},
        per_class={"average_precision": classes},
        occlusions={
            name: {"mAP": value, **groups} for name in ("none", "hide_frequency", "hide_time")
        },
        curves={
            "train_loss": tuple(rng.random(epochs).tolist()),
            "learning_rate": tuple(rng.random(epochs).tolist()),
        },
        train={"step_seconds": 0.01, "cpu_seconds": 5.0, "peak_bytes": 4e8},
        clocks={"data": 0.1, "build": 0.02, "train": 5.0, "evaluate": 0.4},
        picture=Picture(
            logmel=tuple(tuple(row) for row in rng.integers(0, 256, (64, 64)).tolist()),
            kept=tuple(range(cell.summary.tokens - 2)),
            grid=cell.summary.grid,
            patch=(8, 8),
            stride=(8, 8),
        ),
    )
