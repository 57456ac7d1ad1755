"""A study file small enough to run whole in a test: seconds on one core."""

from __future__ import annotations

from pathlib import Path

TEXT = '''"""Does time patchout cost anything?"""

from passt_bench.ablations.recipes import synthetic
from passt_bench.spec import Patchout, Study, Variant, override

STUDY = Study(
    name="tiny",
    question="Does time patchout cost anything?",
    base=override(
        synthetic(),
        {
            "model.width": 16, "model.depth": 1, "model.heads": 2, "model.patch": (16, 16),
            "model.stride": (16, 16), "data.train_clips": 64, "data.test_clips": 120,
            "training.epochs": 2, "measurement.rounds": 6, "measurement.most_rounds": 6,
            "measurement.steps": 1, "measurement.seconds": 20.0,
        },
    ),
    baseline="none",
    variants=(
        Variant("none"),
        Variant("time", {"patchout": Patchout("time", rate=0.5)}),
        Variant("diverges", {"training.learning_rate": 1e30, "training.warmup": 0.0}),
    ),
    seeds=(0, 1),
)
'''


def write(folder: Path) -> Path:
    """Writes the study file; its path."""
    path = folder / "tiny.py"
    path.write_text(TEXT)
    return path
