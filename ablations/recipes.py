"""Base recipes that several studies share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passt_bench.spec import (
    DataSpec,
    EngineSpec,
    FrontendSpec,
    MeasurementSpec,
    ModelSpec,
    Patchout,
    Recipe,
    TrainingSpec,
    Tune,
    ast_frontend,
    panns_frontend,
    passt_frontend,
)


def synthetic() -> Recipe:
    """A small PaSST on the built-in synthetic scenes: 8 x 8 patches, seconds per run.

    64 mels x 64 frames make the grid square, so that a rate keeps as many tokens along time as
    along frequency and kinds can be compared at equal tokens.
    """
    return Recipe(
        model=ModelSpec(name="passt_micro", patch=(8, 8), stride=(8, 8)),
        frontend=FrontendSpec(sampling_rate=16000, n_fft=512, window=400, hop=250, mels=64),
        data=DataSpec(name="synthetic", seconds=1.0),
        training=TrainingSpec(epochs=8, batch_size=32, learning_rate=3e-3, warmup=0.1),
    )


def esc() -> Recipe:
    """A 0.8 M-parameter PaSST from scratch on recordings in the ESC-50 layout.

    A 17.5 ms hop gives 288 frames, 4 x 18 patches without overlap: a grid on which every kind of
    patchout can keep exactly half.
    """
    return Recipe(
        model=ModelSpec(
            name="passt_micro", patch=(16, 16), stride=(16, 16), width=128, depth=4, heads=4
        ),
        frontend=FrontendSpec(
            sampling_rate=32000, n_fft=1024, window=800, hop=560, mels=64, fmax=15000.0
        ),
        data=DataSpec(name="esc50", seconds=5.04),
        training=TrainingSpec(
            epochs=16,
            batch_size=32,
            learning_rate=1e-3,
            warmup=0.1,
            loss="ce",
            mixup=0.3,
            roll=0.5,
        ),
        measurement=MeasurementSpec(seconds=120.0),  # a step takes longer than a quick study's
        metrics=("accuracy", "mAP"),
    )


# The learning rates that the studies of ESC-50 try for each kind and rate of patchout.
ESC50_RATES = Tune({"training.learning_rate": (5e-4, 1e-3, 2e-3)})


def passt(name: str = "passt_s", *, jitter: bool = True) -> dict[str, object]:
    """Variant changes that select a published PaSST, CP-ResNet or MobileNetV3 and its front end.

    Args:
        name: registered model.
        jitter: whether filter edges are jittered in training, as published.
    """
    return {"model": ModelSpec(name=name), "frontend": passt_frontend(jitter=jitter)}


def ast(name: str = "ast") -> dict[str, object]:
    """Variant changes that select AST and its filter bank: 16 kHz, always 1024 frames.

    Another sampling rate gives other data, so this variant cannot share a study with the others.
    """
    return {"model": ModelSpec(name=name), "frontend": ast_frontend()}


def panns(name: str = "cnn14") -> dict[str, object]:
    """Variant changes that select a CNN of PANNs and its front end."""
    return {"model": ModelSpec(name=name), "frontend": panns_frontend()}


# Tokens of PaSST-B/16 on ten seconds → changes of `passt_step`: as in rows B, S and S-N of Table 1.
PATCHES: Mapping[int, Mapping[str, Any]] = {
    1190: {},
    474: {"patchout": Patchout("structured", time=40, frequency=4)},
    254: {
        "model.stride": (16, 16),
        "patchout": Patchout("structured", time=20, frequency=2),
    },
}
# Changes of `passt_step`, and further ones on a GPU. In 2021 the engine was float16 on a GPU.
ENGINE_2021: tuple[Mapping[str, Any], Mapping[str, Any]] = (
    {"engine.attention": "materialised"},
    {"engine.precision": "float16", "engine.evaluate_precision": "float16"},
)
ENGINE_TODAY: tuple[Mapping[str, Any], Mapping[str, Any]] = (
    {
        "engine.precision": "bfloat16",
        "engine.evaluate_precision": "bfloat16",
        "engine.residual": "compute",
        "engine.attention": "by_heads",
    },
    {"engine.attention": "fused", "engine.compile": "default", "engine.graph": True},
)


def passt_step() -> Recipe:
    """A training step of PaSST-B/16 on ten seconds and AudioSet's classes, for studies of costs.

    Without patchout it has 1190 tokens. Two clips a step and two threads suit two CPU cores.
    """
    return Recipe(
        model=ModelSpec("passt_s", patch=(16, 16), stride=(10, 10)),
        frontend=passt_frontend(jitter=False),
        data=DataSpec("audioset", seconds=10.0),
        engine=EngineSpec(threads=2),
        measurement=MeasurementSpec(
            batch_size=2,
            warmup_steps=2,
            restarts=3,
            rounds=6,
            steps=1,
            half_width=0.05,
            seconds=450.0,
        ),
    )
