"""The numbers in docs/gpu.md are those of its records, from which this file prints the table."""

from __future__ import annotations

import json
from pathlib import Path

from passt_bench.intervals import phase_intervals, ratio_intervals
from passt_bench.records.files import unpack_json

ROOT = Path(__file__).parents[3]
REPORT = ROOT / "reports" / "engine_x_patchout_h100_batch_12"
TOKENS = (1190, 474, 254)
CLIPS = 12  # a step
# Engine and phase of each row, in the order of the page.
ROWS = (
    ("2021", "train_step"),
    ("2021", "train_step_device"),
    ("bfloat16, eager", "train_step"),
    ("bfloat16, eager", "train_step_device"),
    ("today", "train_step"),
)


def rows() -> list[str]:
    """Clips a second without patchout, and with both patchouts beside the speed-up's interval."""
    record = json.loads((REPORT / "studies" / f"{REPORT.name}.json").read_text())
    arms = {variant["name"]: variant["arm"] for variant in record["variants"]}
    paths = sorted(REPORT.glob("records/*/samples.json.gz"))
    sessions = [unpack_json(path.read_bytes()) for path in paths]
    lines = []
    for engine, phase in ROWS:
        keys = [arms[f"{engine}, {tokens} tokens"] for tokens in TOKENS]
        samples = next(found for found in sessions if set(keys) <= set(found))
        cells = []
        for key in keys:
            cells.append(f"{CLIPS / phase_intervals(samples[key])[phase].median:.0f}")
            if key != keys[0]:
                speed = ratio_intervals(samples[keys[0]], samples[key])[phase]
                cells.append(f"{speed.median:.2f}× [{speed.low:.2f}, {speed.high:.2f}]")
        lines.append(" | ".join(cells))
    return lines


def test_every_row_is_on_the_page() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert [row for row in rows() if f"| {row} |" not in text] == []


if __name__ == "__main__":
    print("\n".join(rows()))
