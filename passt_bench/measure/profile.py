"""Where a training step's time goes, operator by operator."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from passt_bench.measure.subject import Subject

_STEPS = 3
_ROWS = 40


def write_profile(subject: Subject, folder: Path, name: str) -> None:
    """Profiles a few training steps; the profiler slows them, so their times are no result.

    Writes ``NAME.operators.txt``, a table of operators by their own time, and
    ``NAME.trace.json.gz`` for chrome://tracing or https://ui.perfetto.dev.

    Args:
        subject: warm by now.
        folder: made where it is missing.
        name: of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cuda = subject.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, record_shapes=True) as found:
        subject.train(_STEPS)
        if cuda:
            torch.cuda.synchronize()
    key = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    table = found.key_averages().table(sort_by=key, row_limit=_ROWS, max_name_column_width=60)
    (folder / f"{name}.operators.txt").write_text(table + "\n", encoding="utf-8")
    found.export_chrome_trace(str(folder / f"{name}.trace.json.gz"))
