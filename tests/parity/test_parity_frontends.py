"""Front ends against their peers: known signals, and real audio where there is some."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from frontend_cases import ACROSS_MACHINES, FULL, SMALL, FrontendCase, thinned_frames
from golden_store import Outputs
from peers import frontend_outputs, official_frontend, quiet

from passt_bench.data.audio import read_waveform
from passt_bench.models.frontend import mask_fill

TOLERANCE = 1e-4


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_small(case: FrontendCase, table, golden) -> None:
    theirs = frontend_outputs(case)
    table.check("Front ends", f"{case.name} (golden)", case.ours(), theirs, TOLERANCE)
    golden.hold("frontends", case.name, thinned_frames(theirs), "none", ACROSS_MACHINES)


@pytest.mark.parametrize("case", FULL, ids=lambda case: case.name)
def test_full_length(case: FrontendCase, table) -> None:
    table.check("Front ends", case.name, case.ours(), frontend_outputs(case), TOLERANCE)


def recordings(rate: int) -> list[np.ndarray]:
    """10 s of every sixteenth recording."""
    folder = os.environ.get("PASST_BENCH_DATA")
    if folder is None:
        pytest.skip("PASST_BENCH_DATA names no folder")
    files = sorted(Path(folder).glob("*/audio/*.ogg"))[::16]
    assert files
    return [np.asarray(read_waveform(file, rate, 10 * rate)) for file in files]


def stacked(outputs: list[Outputs]) -> Outputs:
    return {"log-mel": np.stack([one["log-mel"] for one in outputs])}


@pytest.mark.data
@pytest.mark.parametrize("frontend", ["passt", "ast", "panns"])
def test_recordings(frontend: str, table) -> None:
    case = FrontendCase(frontend, "recordings")
    waves = recordings(case.spec.sampling_rate)
    name = f"{frontend}, {len(waves)} recordings"
    ours = stacked([case.ours(wave) for wave in waves])
    theirs = stacked([frontend_outputs(case, wave) for wave in waves])
    if frontend != "panns":
        table.check("Front ends", name, ours, theirs, TOLERANCE)
        return
    # Decibels show the rounding of a float32 transform in bands 100 dB under the loudest.
    double = stacked([case.ours(wave, double=True) for wave in waves])
    table.check("Front ends", f"{name}, in double precision", double, theirs, TOLERANCE)
    wanted = theirs["log-mel"]
    heard = wanted > wanted.max(axis=1, keepdims=True) - 90
    assert heard.mean() > 0.9
    for outputs in (ours, theirs):
        outputs["log-mel"] = outputs["log-mel"][heard]
    table.check("Front ends", f"{name}, 90 dB from the loudest band", ours, theirs, TOLERANCE)


def test_masks_are_filled_alike() -> None:
    case = FrontendCase("passt", "noise", 2.0)
    wave = torch.from_numpy(case.waveform())[None]
    with quiet():
        masked = official_frontend(case, (48, 192)).train()
        whole = official_frontend(case).train()
        for seed in range(8):
            torch.manual_seed(seed)
            one = masked(wave)
            torch.manual_seed(seed)  # the filter edges are drawn first, and so alike
            differ = one != whole(wave)
            assert differ.any()
            torch.testing.assert_close(
                one[differ].unique(), torch.tensor([mask_fill(case.spec)]), rtol=0, atol=1e-6
            )
