"""The part of a recipe that says how is trained: optimisation, sampling, augmentation, choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from passt_bench.spec.marks import LATER


@dataclass(frozen=True)
class TrainingSpec:
    """Optimisation and augmentation."""

    epochs: Annotated[int, Field(gt=0, description="Passes over the training clips.")] = 10
    batch_size: Annotated[int, Field(gt=0, description="Clips a step.")] = 32
    learning_rate: Annotated[float, Field(gt=0, description="Peak rate of AdamW.")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, description="AdamW's decay.")] = 1e-4
    warmup: Annotated[
        float, Field(ge=0, lt=1, description="Share of the steps with a rising rate; then cosine.")
    ] = 0.1
    schedule: Annotated[
        Literal["cosine", "ramp"],
        Field(description="Cosine after `warmup`; or an exponential ramp and a linear decay."),
        LATER,
    ] = "cosine"
    ramp_epochs: Annotated[
        int, Field(ge=0, description="Ramp: epochs of the exponential warm-up."), LATER
    ] = 5
    decay_start: Annotated[
        int, Field(ge=0, description="Ramp: epoch from which the rate falls."), LATER
    ] = 50
    decay_epochs: Annotated[
        int, Field(gt=0, description="Ramp: epochs over which it falls."), LATER
    ] = 50
    last_rate: Annotated[
        float, Field(gt=0, le=1, description="Ramp: share of the peak rate that is left."), LATER
    ] = 0.01
    loss: Annotated[
        Literal["bce", "ce", "masked_bce"],
        Field(
            description="Multi-label (bce; masked where labels are partly unknown) or one class."
        ),
    ] = "bce"
    sampling: Annotated[
        Literal["shuffle", "weighted"],
        Field(description="Every clip once an epoch; or drawn by the rarity of its labels."),
        LATER,
    ] = "shuffle"
    epoch_clips: Annotated[
        int | None,
        Field(gt=0, description="Clips an epoch with weighted sampling; None is all."),
        LATER,
    ] = None
    gain: Annotated[
        int, Field(ge=0, description="Waveform gain in whole dB, from -gain to gain - 1."), LATER
    ] = 0
    shift: Annotated[
        int, Field(ge=0, description="Waveform rolled by up to that many samples."), LATER
    ] = 0
    wavmix: Annotated[
        float,
        Field(ge=0, le=1, description="Share of clips mixed with another as waveforms."),
        LATER,
    ] = 0.0
    wavmix_alpha: Annotated[
        float, Field(gt=0, description="Alpha of Beta(alpha, alpha) on waveforms."), LATER
    ] = 2.0
    mixup: Annotated[
        float, Field(ge=0, description="Alpha of Beta(alpha, alpha) on spectrograms; 0 is off.")
    ] = 0.0
    roll: Annotated[
        float, Field(ge=0, le=1, description="Largest circular time shift, share of the clip.")
    ] = 0.0
    mask_time: Annotated[
        int, Field(ge=0, description="SpecAugment: masks of fewer frames; 0 is off.")
    ] = 0
    mask_frequency: Annotated[
        int, Field(ge=0, description="SpecAugment: masks of fewer mels; 0 is off.")
    ] = 0
    swa_start: Annotated[
        int | None,
        Field(ge=0, description="Epoch (from 0) whose beginning the averaged weights begin with."),
        LATER,
    ] = None
    swa_every: Annotated[
        int, Field(gt=0, description="Epochs from one averaged snapshot to the next."), LATER
    ] = 5
    tested: Annotated[
        Literal["last", "swa"],
        Field(description="Which weights the metrics are of: as trained, or averaged."),
        LATER,
    ] = "last"
    select: Annotated[
        Literal["last", "best_on_inner", "inner"],
        Field(
            description="Test the last epoch after training on all training clips; or hold out an "
            "inner split of them, and test the epoch that is best on it; or report on that split "
            "(searches; the test fold stays closed)."
        ),
    ] = "last"
    inner_share: Annotated[
        float, Field(gt=0, lt=1, description="Share of the training clips in the inner split.")
    ] = 0.2
