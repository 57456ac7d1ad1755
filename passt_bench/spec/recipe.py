"""The recipe: everything that defines a run, as frozen dataclasses.

Each field has a one-line description in its annotation, and marks from `spec.codec`: ``FREE``
(not in the key of a run), ``LATER`` (in the key only where it differs from its default); fields
marked ``written_as`` have another name in records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from passt_bench.spec.codec import FREE, LATER, OpenSpec, to_names, to_pair, written_as
from passt_bench.spec.engine import EngineSpec, MeasurementSpec

Pair = tuple[int, int]
GivenPair = Annotated[Pair, BeforeValidator(to_pair)]


@dataclass(frozen=True)
class Patchout(OpenSpec):
    """Which patches are dropped in training, how many, and how often they are redrawn.

    Give either ``rate`` or counts. A structured ``rate`` r keeps the fraction sqrt(1 - r) of each
    axis. Paper section 2.2; counts as in the reference code (``s_patchout_t``, ``s_patchout_f``,
    ``u_patchout``).
    """

    kind: Annotated[str, Field(description="Registered kind; 'none' keeps every patch.")] = "none"
    rate: Annotated[
        float | None, Field(ge=0, lt=1, description="Fraction of the patch grid that is dropped.")
    ] = None
    time: Annotated[int | None, Field(ge=0, description="Time columns dropped.")] = None
    frequency: Annotated[int | None, Field(ge=0, description="Frequency rows dropped.")] = None
    patches: Annotated[int | None, Field(ge=0, description="Single patches dropped.")] = None
    scope: Annotated[
        Literal["batch", "sample"], Field(description="One pattern per batch, or per sample.")
    ] = "batch"
    schedule: Annotated[
        Literal["constant", "rising", "falling"],
        Field(description="rising: from no patchout to the full amount; falling: the reverse."),
        LATER,
    ] = "constant"
    stages: Annotated[
        int,
        Field(ge=2, le=6, description="Number of equal stages; each has its own number of tokens."),
        LATER,
    ] = 4


@dataclass(frozen=True)
class ModelSpec(OpenSpec):
    """A registered model; ``None`` leaves a field at the model's own default."""

    name: Annotated[str, Field(description="Registered model.")] = "passt_tiny"
    patch: Annotated[GivenPair | None, Field(description="Patch size (frequency, time).")] = None
    stride: Annotated[GivenPair | None, Field(description="Patch stride (frequency, time).")] = None
    width: Annotated[int | None, Field(gt=0, description="Embedding width or channels.")] = None
    depth: Annotated[int | None, Field(gt=0, description="Number of transformer blocks.")] = None
    heads: Annotated[int | None, Field(gt=0, description="Attention heads.")] = None
    width_mult: Annotated[
        float | None,
        Field(gt=0, description="Width multiplier of all channels (MobileNetV3)."),
        LATER,
        written_as("multiplier"),
    ] = None
    rho: Annotated[
        int | None, Field(ge=0, description="Receptive-field parameter rho of CP-ResNet."), LATER
    ] = None
    frames: Annotated[
        int | None,
        Field(gt=0, description="Frames that the time encodings cover; None: the input's frames."),
        LATER,
    ] = None
    overlong: Annotated[
        Literal["cut", "stretch"],
        Field(
            description="Whether input longer than the time encodings is cut (as published), or "
            "the encodings are interpolated to its length."
        ),
        LATER,
        written_as("longer"),
    ] = "cut"


@dataclass(frozen=True)
class InitSpec:
    """Where the initial weights come from; fine-tuning starts from a model file."""

    source: Annotated[
        Literal["scratch", "checkpoint"],
        Field(description="Drawn from the seed, or read from a file."),
    ] = "scratch"
    checkpoint: Annotated[
        str | None,
        Field(description="A name from `passt-bench weights list`, or a path; not in the key."),
        FREE,
    ] = None
    sha256: Annotated[
        str | None, Field(description="SHA-256 of the file; filled in when a study is planned.")
    ] = None


@dataclass(frozen=True)
class FrontendSpec:
    """Turns a waveform into a normalized log-mel spectrogram, shape (mels, frames)."""

    name: Annotated[str, Field(description="Registered front end.")] = "logmel"
    sampling_rate: Annotated[int, Field(gt=0, description="Hz; audio is resampled to it.")] = 16000
    n_fft: Annotated[int, Field(gt=0, description="FFT size in samples.")] = 512
    window: Annotated[int, Field(gt=0, description="Hann window in samples.")] = 400
    hop: Annotated[int, Field(gt=0, description="Hop in samples.")] = 160
    mels: Annotated[int, Field(gt=0, description="Mel filters.")] = 64
    fmin: Annotated[float, Field(ge=0, description="Lowest filter edge in Hz.")] = 0.0
    fmax: Annotated[float, Field(gt=0, description="Highest filter edge in Hz.")] = 7500.0
    preemphasis: Annotated[float, Field(ge=0, lt=1, description="Pre-emphasis; 0 is off.")] = 0.97
    mean: Annotated[float, Field(description="Subtracted from the log-mel.")] = -4.5
    std: Annotated[
        float, Field(gt=0, description="Divides the log-mel."), written_as("deviation")
    ] = 5.0
    fmin_jitter: Annotated[
        int, Field(ge=0, description="In training fmin is raised by less than this many Hz."), LATER
    ] = 0
    fmax_jitter: Annotated[
        int,
        Field(
            ge=0,
            description="In training fmax is drawn from a range of this many Hz around its value.",
        ),
        LATER,
    ] = 0
    frames: Annotated[
        int | None,
        Field(gt=0, description="Frames to cut or pad log-mels to (AST); None: the clip's."),
        LATER,
    ] = None


@dataclass(frozen=True)
class DataSpec:
    """The data set, and how much of it."""

    name: Annotated[str, Field(description="Registered data set.")] = "synthetic"
    seconds: Annotated[float, Field(gt=0, description="Clip length; clips are cut or padded.")] = (
        1.0
    )
    train_clips: Annotated[
        int | None, Field(gt=0, description="Number of training clips; None: all.")
    ] = None
    test_clips: Annotated[
        int | None, Field(gt=0, description="Number of test clips; None: all.")
    ] = None
    seed: Annotated[int, Field(ge=0, description="Seed of the built-in synthetic scenes.")] = 0
    crop: Annotated[
        Literal["start", "random"],
        Field(description="Part of a longer clip used in training; evaluation uses its start."),
        LATER,
    ] = "start"
    storage: Annotated[
        Literal["auto", "prepared", "streamed"],
        Field(
            description="prepared: cached log-mels; streamed: clips are decoded in each epoch, as "
            "always if training changes waveforms or filter edges; auto: cached log-mels up to "
            "16 GiB."
        ),
        FREE,
    ] = "auto"


@dataclass(frozen=True)
class TrainingSpec:
    """Optimization and augmentation."""

    epochs: Annotated[int, Field(gt=0, description="Passes over the training clips.")] = 10
    steps: Annotated[int | None, Field(gt=0, description="Instead of epochs."), LATER] = None
    clips: Annotated[
        int | None,
        Field(gt=0, description="Clips to train on, drawn by seed; None: all."),
        LATER,
    ] = None
    batch_size: Annotated[int, Field(gt=0, description="Clips per step.")] = 32
    learning_rate: Annotated[float, Field(gt=0, description="Peak learning rate of AdamW.")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, description="Weight decay of AdamW.")] = 1e-4
    warmup: Annotated[
        float, Field(ge=0, lt=1, description="Fraction of steps with rising learning rate.")
    ] = 0.1
    schedule: Annotated[
        Literal["cosine", "ramp"],
        Field(description="cosine: decay after `warmup`; ramp: exponential rise and linear decay."),
        LATER,
    ] = "cosine"
    ramp_epochs: Annotated[
        int, Field(ge=0, description="Ramp: epochs of the exponential warm-up."), LATER
    ] = 5
    decay_start: Annotated[
        int, Field(ge=0, description="Ramp: epoch from which the learning rate falls."), LATER
    ] = 50
    decay_epochs: Annotated[
        int, Field(gt=0, description="Ramp: epochs over which the learning rate falls."), LATER
    ] = 50
    min_lr_ratio: Annotated[
        float,
        Field(gt=0, le=1, description="Ramp: final learning rate, as a fraction of its peak."),
        LATER,
        written_as("last_rate"),
    ] = 0.01
    trained: Annotated[
        Literal["all", "head"],
        Field(description="What is trained: all, or the classifier alone, on fixed features."),
        LATER,
    ] = "all"
    head_rate: Annotated[
        float,
        Field(gt=0, description="Learning rate of the classifier, as a multiple of the others'."),
        LATER,
    ] = 1.0
    layer_decay: Annotated[
        float,
        Field(gt=0, le=1, description="Learning rate of a block, as a multiple of the next one's."),
        LATER,
    ] = 1.0
    loss: Annotated[
        Literal["bce", "ce", "masked_bce"],
        Field(
            description="bce: multi-label; masked_bce: with unknown labels; ce: one label per clip."
        ),
    ] = "bce"
    sampling: Annotated[
        Literal["shuffle", "weighted"],
        Field(
            description="shuffle: each clip once per epoch; weighted: rare labels drawn more often."
        ),
        LATER,
    ] = "shuffle"
    epoch_clips: Annotated[
        int | None,
        Field(gt=0, description="Clips per epoch with weighted sampling; None: all."),
        LATER,
    ] = None
    gain: Annotated[
        int, Field(ge=0, description="Waveform gain in whole dB, from -gain to gain - 1."), LATER
    ] = 0
    shift: Annotated[
        int, Field(ge=0, description="Largest circular shift of the waveform, in samples."), LATER
    ] = 0
    wavmix: Annotated[
        float,
        Field(ge=0, le=1, description="Fraction of clips mixed with another as waveforms."),
        LATER,
    ] = 0.0
    wavmix_alpha: Annotated[
        float, Field(gt=0, description="Alpha of Beta(alpha, alpha) for `wavmix`."), LATER
    ] = 2.0
    mixup: Annotated[
        float, Field(ge=0, description="Alpha of Beta(alpha, alpha) for spectrograms; 0 is off.")
    ] = 0.0
    roll: Annotated[
        float,
        Field(ge=0, le=1, description="Largest roll of the log-mel in time, fraction of the clip."),
    ] = 0.0
    mask_time: Annotated[int, Field(ge=0, description="SpecAugment: under so many frames.")] = 0
    mask_frequency: Annotated[int, Field(ge=0, description="SpecAugment: under so many mels.")] = 0
    swa_start: Annotated[
        int | None,
        Field(ge=0, description="Epoch (from 0) at whose start the averaging of weights begins."),
        LATER,
    ] = None
    swa_every: Annotated[
        int, Field(gt=0, description="Epochs between averaged snapshots."), LATER
    ] = 5
    eval_weights: Annotated[
        Literal["last", "swa"],
        Field(description="Weights to evaluate: the last ones, or their average (SWA)."),
        LATER,
        written_as("tested"),
    ] = "last"
    checkpoint_selection: Annotated[
        Literal["last", "best_on_validation", "validation"],
        Field(
            description="last: train on all training clips, test the last epoch; "
            "best_on_validation: hold out a validation split, test the epoch that is best on it; "
            "validation: report on that split, do not use the test clips (for searches)."
        ),
        written_as("select", best_on_validation="best_on_inner", validation="inner"),
    ] = "last"
    validation_share: Annotated[
        float,
        Field(gt=0, lt=1, description="Fraction of the training clips in the validation split."),
        written_as("inner_share"),
    ] = 0.2
    validation_fold: Annotated[
        int | None,
        Field(ge=1, description="Fold that is the validation split, instead of such a fraction."),
        LATER,
    ] = None


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a run except its seed and fold."""

    model: ModelSpec = field(default_factory=ModelSpec)
    patchout: Patchout = field(default_factory=Patchout)
    frontend: FrontendSpec = field(default_factory=FrontendSpec)
    data: DataSpec = field(default_factory=DataSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    init: Annotated[InitSpec, LATER] = field(default_factory=InitSpec)
    engine: EngineSpec = field(default_factory=EngineSpec)
    measurement: Annotated[MeasurementSpec, FREE] = field(default_factory=MeasurementSpec)
    metrics: Annotated[
        tuple[str, ...],
        BeforeValidator(to_names),
        Field(min_length=1, description="Registered metrics that are evaluated."),
    ] = ("mAP",)
    salt: Annotated[
        int, Field(ge=0, description="Second seed of batch order and augmentation (A/A studies).")
    ] = 0
