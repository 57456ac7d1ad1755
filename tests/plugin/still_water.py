"""Does a chess board of patches do as well as all of them?

Command: passt-bench run still_water.py
"""

from passt_bench.spec import (
    DataSpec,
    FrontendSpec,
    MeasurementSpec,
    ModelSpec,
    Patchout,
    Recipe,
    Study,
    TrainingSpec,
    Variant,
)

STUDY = Study(
    name="still_water",
    question="Does a chess board of patches do as well as all of them?",
    base=Recipe(
        model=ModelSpec("lily", width=16, petals=4),
        frontend=FrontendSpec(name="amplitude", mels=32, preemphasis=0.0, mean=0.0, std=1.0),
        data=DataSpec("tones", seconds=0.5),
        training=TrainingSpec(epochs=2, batch_size=20),
        metrics=("top_two", "wrong_labels", "mAP"),
        measurement=MeasurementSpec(restarts=1, rounds=6, most_rounds=6, steps=1, seconds=5.0),
    ),
    metric="top_two",
    baseline="lily",
    variants=(
        Variant("lily"),
        Variant("lily, chess", {"patchout": Patchout("checkerboard", share=1.0)}),
    ),
)
