"""Runs a small real study as ``passt-bench run`` does, and tells what tracking cost it.

Called as ``python live_study.py NAME OUT SECONDS TRACK``; prints one line of JSON.
"""

import json
import resource
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from passt_bench.errors import InputError
from passt_bench.records.store import Store
from passt_bench.report.build import build_study
from passt_bench.runner.background_sync import LastSync, live
from passt_bench.runner.plan import Datasets, plan_study
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.spec import (
    DataSpec,
    FrontendSpec,
    ModelSpec,
    Patchout,
    Recipe,
    Study,
    TrainingSpec,
    Variant,
)
from passt_bench.study_run import execute_plan

BASE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), width=32, depth=2, heads=2),
    frontend=FrontendSpec(sampling_rate=8000, n_fft=256, window=200, hop=125, mels=32, fmax=3500.0),
    data=DataSpec("synthetic", seconds=1.0, train_clips=160, test_clips=40),
    training=TrainingSpec(epochs=40, batch_size=16),
)


def study(name, epochs):
    return Study(
        name=name,
        question="?",
        base=Recipe(BASE.model, frontend=BASE.frontend, data=BASE.data,
                    training=TrainingSpec(epochs=epochs, batch_size=16)),
        variants=(Variant("none"), Variant("half", {"patchout": Patchout("time", rate=0.5)})),
        baseline="none",
        seeds=(0, 1),
    )  # fmt: skip


class Clock:
    """Seconds that the run's own process spends on tracking."""

    def __init__(self):
        self.blocked = self.trained = 0.0

    @contextmanager
    def around(self, beside):
        started = time.monotonic()
        beside.__enter__()
        training = time.monotonic()
        self.blocked += training - started
        try:
            yield
        finally:
            stopping = time.monotonic()
            self.trained = stopping - training
            beside.__exit__(None, None, None)
            self.blocked += time.monotonic() - stopping


def run(name, out, epochs, track):
    paths = Paths(out)
    datasets, clock = Datasets(paths), Clock()
    plan = plan_study(study(name, epochs), paths, datasets=datasets)
    console, began = Console(quiet=True), time.monotonic()
    beside = live(out, name, first=0.5, every=0.5, rest=1.0) if track else nullcontext()
    options = RunConfig(workers=2, cost=False)
    execute_plan(plan, options, paths, console, beside=clock.around(beside))
    followed = resource.getrusage(resource.RUSAGE_CHILDREN)
    last = LastSync(out) if track else None
    build_study(name, out, out / "reports")
    waiting, message = time.monotonic(), ""
    if last is not None:
        try:
            last.wait()
        except InputError as error:
            message = str(error)
    ended = time.monotonic()
    told = {
        "ok": all(Store(out).run(cell.key).status == "ok" for cell in plan.cells),
        "trained": clock.trained,
        "trained_cpu": sum(Store(out).run(cell.key).train["cpu_seconds"] for cell in plan.cells),
        "blocked": clock.blocked,
        "waited": ended - waiting,
        "whole": ended - began,
        "cpu_beside": followed.ru_utime + followed.ru_stime,
        "message": message,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "track")
