"""Fixtures of the data tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from esc_layout import Row, rows_of, write_meta


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine can be ten times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def layout(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows with audio of 0.1 s at 8 kHz, and gives the folder."""

    def write(rows: list[Row] | None = None, ending: str = "wav", rate: int = 8000) -> Path:
        root = tmp_path / "esc"
        rows = rows_of() if rows is None else rows
        write_meta(root, rows)
        (root / "audio").mkdir(exist_ok=True)
        for number, row in enumerate(rows):
            noise = 0.1 * np.random.default_rng(number).standard_normal(rate // 10)
            path = (root / "audio" / str(row["filename"])).with_suffix(f".{ending}")
            soundfile.write(path, noise, rate)
        return root

    return write
