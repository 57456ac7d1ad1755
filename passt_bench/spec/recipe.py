"""The recipe: everything that defines a run, as frozen dataclasses.

Each field has a one-line description in its annotation, and marks from `spec.codec`: ``FREE``
(not in the key of a run), ``LATER`` (in the key only where it differs from its default); fields
marked ``written_as`` have another name in records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Annotated, Literal

from pydantic import BeforeValidator

from passt_bench.errors import InputError
from passt_bench.spec.codec import FREE, LATER, OpenSpec, about, to_names, to_pair, written_as

Pair = tuple[int, int]
GivenPair = Annotated[Pair, BeforeValidator(to_pair)]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Patchout(OpenSpec):
    """Which patches are dropped in training, how many, and how often they are redrawn.

    Give either ``rate`` or counts. A structured ``rate`` r keeps the fraction sqrt(1 - r) of each
    axis. Paper section 2.2; counts as in the reference code (``s_patchout_t``, ``s_patchout_f``,
    ``u_patchout``).
    """

    kind: Annotated[str, about("Registered kind; 'none' keeps every patch.")] = "none"
    rate: Annotated[
        float | None, about("Fraction of the patch grid that is dropped.", ge=0, lt=1)
    ] = None
    time: Annotated[int | None, about("Time columns dropped.", ge=0)] = None
    frequency: Annotated[int | None, about("Frequency rows dropped.", ge=0)] = None
    patches: Annotated[int | None, about("Single patches dropped.", ge=0)] = None
    scope: Annotated[Literal["batch", "sample"], about("One pattern per batch, or per sample.")] = (
        "batch"
    )
    schedule: Annotated[
        Literal["constant", "rising", "falling"],
        about("rising: from no patchout to the full amount; falling: the reverse."),
        LATER,
    ] = "constant"
    stages: Annotated[
        int, about("Number of equal stages; each has its own number of tokens.", ge=2, le=6), LATER
    ] = 4


@dataclass(frozen=True)
class ModelSpec(OpenSpec):
    """A registered model; ``None`` leaves a field at the model's own default."""

    name: Annotated[str, about("Registered model.")] = "passt_tiny"
    patch: Annotated[GivenPair | None, about("Patch size (frequency, time).")] = None
    stride: Annotated[GivenPair | None, about("Patch stride (frequency, time).")] = None
    width: Annotated[int | None, about("Embedding width or channels.", gt=0)] = None
    depth: Annotated[int | None, about("Number of transformer blocks.", gt=0)] = None
    heads: Annotated[int | None, about("Attention heads.", gt=0)] = None
    width_mult: Annotated[
        float | None,
        about("Width multiplier of all channels (MobileNetV3).", gt=0),
        LATER,
        written_as("multiplier"),
    ] = None
    rho: Annotated[
        int | None, about("Receptive-field parameter rho of CP-ResNet.", ge=0), LATER
    ] = None
    frames: Annotated[
        int | None,
        about("Frames that the time encodings cover; None: the input's frames.", gt=0),
        LATER,
    ] = None
    overlong: Annotated[
        Literal["cut", "stretch"],
        about(
            "Whether input longer than the time encodings is cut (as published), or the encodings "
            "are interpolated to its length."
        ),
        LATER,
        written_as("longer"),
    ] = "cut"


@dataclass(frozen=True)
class InitSpec:
    """Where the initial weights come from; fine-tuning starts from a model file."""

    source: Annotated[
        Literal["scratch", "checkpoint"], about("Drawn from the seed, or read from a file.")
    ] = "scratch"
    checkpoint: Annotated[
        str | None,
        about("A path, kept model, or name in `passt-bench weights list`; not in the key."),
        FREE,
    ] = None
    sha256: Annotated[
        str | None, about("SHA-256 of the file; filled in when a study is planned.")
    ] = None


@dataclass(frozen=True)
class FrontendSpec:
    """Turns a waveform into a normalized log-mel spectrogram, shape (mels, frames)."""

    name: Annotated[str, about("Registered front end.")] = "logmel"
    sampling_rate: Annotated[int, about("Hz; audio is resampled to it.", gt=0)] = 16000
    n_fft: Annotated[int, about("FFT size in samples.", gt=0)] = 512
    window: Annotated[int, about("Hann window in samples.", gt=0)] = 400
    hop: Annotated[int, about("Hop in samples.", gt=0)] = 160
    mels: Annotated[int, about("Mel filters.", gt=0)] = 64
    fmin: Annotated[float, about("Lowest filter edge in Hz.", ge=0)] = 0.0
    fmax: Annotated[float, about("Highest filter edge in Hz.", gt=0)] = 7500.0
    preemphasis: Annotated[float, about("Pre-emphasis; 0 is off.", ge=0, lt=1)] = 0.97
    mean: Annotated[float, about("Subtracted from the log-mel.")] = -4.5
    std: Annotated[float, about("Divides the log-mel.", gt=0), written_as("deviation")] = 5.0
    fmin_jitter: Annotated[
        int, about("In training fmin is raised by less than this many Hz.", ge=0), LATER
    ] = 0
    fmax_jitter: Annotated[
        int,
        about("In training fmax is drawn from a range of this many Hz around its value.", ge=0),
        LATER,
    ] = 0
    frames: Annotated[
        int | None, about("Frames to cut or pad log-mels to (AST); None: the clip's.", gt=0), LATER
    ] = None


@dataclass(frozen=True)
class DataSpec:
    """The data set, and how much of it."""

    name: Annotated[str, about("Registered data set.")] = "synthetic"
    seconds: Annotated[float, about("Clip length; clips are cut or padded.", gt=0)] = 1.0
    train_clips: Annotated[int | None, about("Number of training clips; None: all.", gt=0)] = None
    test_clips: Annotated[int | None, about("Number of test clips; None: all.", gt=0)] = None
    seed: Annotated[int, about("Seed of the built-in synthetic scenes.", ge=0)] = 0
    crop: Annotated[
        Literal["start", "random"],
        about("Part of a longer clip used in training; evaluation uses its start."),
        LATER,
    ] = "start"
    storage: Annotated[
        Literal["auto", "prepared", "streamed"],
        about(
            "prepared: cached log-mels; streamed: clips are decoded in each epoch, as always if "
            "training changes waveforms or filter edges; auto: cached log-mels up to 16 GiB."
        ),
        FREE,
    ] = "auto"


@dataclass(frozen=True)
class TrainingSpec:
    """Optimization and augmentation."""

    epochs: Annotated[int, about("Passes over the training clips.", gt=0)] = 10
    steps: Annotated[int | None, about("Instead of epochs.", gt=0), LATER] = None
    clips: Annotated[
        int | None, about("Clips to train on, drawn by seed; None: all.", gt=0), LATER
    ] = None
    batch_size: Annotated[int, about("Clips per step.", gt=0)] = 32
    learning_rate: Annotated[float, about("Peak learning rate of AdamW.", gt=0)] = 1e-3
    weight_decay: Annotated[float, about("Weight decay of AdamW.", ge=0)] = 1e-4
    warmup: Annotated[float, about("Fraction of steps with rising learning rate.", ge=0, lt=1)] = (
        0.1
    )
    schedule: Annotated[
        Literal["cosine", "ramp"],
        about("cosine: decay after `warmup`; ramp: exponential rise and linear decay."),
        LATER,
    ] = "cosine"
    ramp_epochs: Annotated[int, about("Ramp: epochs of the exponential warm-up.", ge=0), LATER] = 5
    decay_start: Annotated[
        int, about("Ramp: epoch from which the learning rate falls.", ge=0), LATER
    ] = 50
    decay_epochs: Annotated[
        int, about("Ramp: epochs over which the learning rate falls.", gt=0), LATER
    ] = 50
    min_lr_ratio: Annotated[
        float,
        about("Ramp: final learning rate, as a fraction of its peak.", gt=0, le=1),
        LATER,
        written_as("last_rate"),
    ] = 0.01
    trained: Annotated[
        Literal["all", "head"],
        about("What is trained: all, or the classifier alone, on fixed features."),
        LATER,
    ] = "all"
    head_rate: Annotated[
        float, about("Learning rate of the classifier, as a multiple of the others'.", gt=0), LATER
    ] = 1.0
    layer_decay: Annotated[
        float,
        about("Learning rate of a block, as a multiple of the next one's.", gt=0, le=1),
        LATER,
    ] = 1.0
    loss: Annotated[
        Literal["bce", "ce", "masked_bce"],
        about("bce: multi-label; masked_bce: with unknown labels; ce: one label per clip."),
    ] = "bce"
    sampling: Annotated[
        Literal["shuffle", "weighted"],
        about("shuffle: each clip once per epoch; weighted: rare labels drawn more often."),
        LATER,
    ] = "shuffle"
    epoch_clips: Annotated[
        int | None, about("Clips per epoch with weighted sampling; None: all.", gt=0), LATER
    ] = None
    gain: Annotated[
        int, about("Waveform gain in whole dB, from -gain to gain - 1.", ge=0), LATER
    ] = 0
    shift: Annotated[
        int, about("Largest circular shift of the waveform, in samples.", ge=0), LATER
    ] = 0
    wavmix: Annotated[
        float, about("Fraction of clips mixed with another as waveforms.", ge=0, le=1), LATER
    ] = 0.0
    wavmix_alpha: Annotated[
        float, about("Alpha of Beta(alpha, alpha) for `wavmix`.", gt=0), LATER
    ] = 2.0
    mixup: Annotated[
        float, about("Alpha of Beta(alpha, alpha) for spectrograms; 0 is off.", ge=0)
    ] = 0.0
    roll: Annotated[
        float, about("Largest roll of the log-mel in time, fraction of the clip.", ge=0, le=1)
    ] = 0.0
    mask_time: Annotated[int, about("SpecAugment: under so many frames.", ge=0)] = 0
    mask_frequency: Annotated[int, about("SpecAugment: under so many mels.", ge=0)] = 0
    swa_start: Annotated[
        int | None,
        about("Epoch (from 0) at whose start the averaging of weights begins.", ge=0),
        LATER,
    ] = None
    swa_every: Annotated[int, about("Epochs between averaged snapshots.", gt=0), LATER] = 5
    eval_weights: Annotated[
        Literal["last", "swa"],
        about("Weights to evaluate: the last ones, or their average (SWA)."),
        LATER,
        written_as("tested"),
    ] = "last"
    checkpoint_selection: Annotated[
        Literal["last", "best_on_validation", "validation"],
        about(
            "last: train on all training clips, test the last epoch; best_on_validation: hold out "
            "a validation split, test the epoch that is best on it; validation: report on that "
            "split, do not use the test clips (for searches)."
        ),
        written_as("select", best_on_validation="best_on_inner", validation="inner"),
    ] = "last"
    validation_share: Annotated[
        float,
        about("Fraction of the training clips in the validation split.", gt=0, lt=1),
        written_as("inner_share"),
    ] = 0.2
    validation_fold: Annotated[
        int | None,
        about("Fold that is the validation split, instead of such a fraction.", ge=1),
        LATER,
    ] = None


@dataclass(frozen=True)
class EngineSpec:
    """The device and how it computes.

    On a model without transformer blocks, such as a CNN, ``attention``, ``residual`` and
    ``recompute`` change nothing but the key.
    """

    device: Annotated[Literal["cpu", "cuda"], about("Device type.")] = "cpu"
    threads: Annotated[int, about("CPU threads per process.", gt=0)] = 1
    precision: Annotated[
        Precision, about("float32, or autocast to a half precision; float16 scales the loss.")
    ] = "float32"
    evaluate_precision: Annotated[
        Precision, about("As precision, for evaluation, which is never compiled."), LATER
    ] = "float32"
    compile: Annotated[
        Literal["off", "default", "max-autotune"],
        about("Mode of torch.compile in training; true is default, false is off."),
        LATER,
        written_as("compiled", off=False, default=True),
    ] = "off"
    attention: Annotated[
        Literal["fused", "by_heads", "materialised"],
        about(
            "fused: one kernel; by_heads: a few heads at a time, fastest on a CPU in bfloat16; "
            "materialised: matrix in memory, as the 2021 code."
        ),
        LATER,
    ] = "fused"
    residual: Annotated[
        Literal["float32", "compute"],
        about(
            "Transformers' residual stream; compute: as engine.precision (no change in float32)."
        ),
        LATER,
    ] = "float32"
    recompute: Annotated[
        Literal["none", "norms", "blocks"],
        about(
            "Activations of transformers that backward computes again, to save memory: none, norms "
            "and GELUs, or whole blocks."
        ),
        LATER,
    ] = "none"
    accumulate: Annotated[
        int, about("Equal chunks of a batch whose gradients are added up.", ge=1), LATER
    ] = 1
    graph: Annotated[
        bool, about("Whether a CUDA graph replays the whole training step."), LATER
    ] = False
    frontend: Annotated[
        Literal["cpu", "device"],
        about(
            "Where log-mels are computed, unless cached, and augmented: on the CPU, by the "
            "processes that load batches, or on engine.device."
        ),
        FREE,
    ] = "cpu"
    num_workers: Annotated[
        int,
        about("Processes that load batches; 0: the training process does.", ge=0),
        FREE,
        written_as("loaders"),
    ] = 0

    def error(self, field: str, problem: str, remedy: str) -> InputError:
        """The error for a field whose value does not fit the rest."""
        value = getattr(self, field)
        return InputError(problem, field=f"engine.{field}", value=value, remedy=remedy)


@dataclass(frozen=True)
class MeasurementSpec:
    """Settings of the cost session; none of them decides a quality result."""

    batch_size: Annotated[
        int | None, about("Clips per measured step; None: training.batch_size.", gt=0)
    ] = None
    warmup_steps: Annotated[int, about("Minimum warm-up steps per variant.", ge=1)] = 5
    restarts: Annotated[
        int | None, about("Processes of each variant in turn; None: 5, GPU 3.", ge=1)
    ] = None
    rounds: Annotated[int, about("Minimum rounds, of all restarts.", ge=6)] = 15
    most_rounds: Annotated[int, about("Maximum rounds, of all restarts.", ge=6)] = 60
    steps: Annotated[int, about("Steps of each variant in a round.", gt=0)] = 3
    half_width: Annotated[
        float, about("Target precision of the step-time ratio: 0.03 is ±3 %.", gt=0)
    ] = 0.03
    seconds: Annotated[
        float, about("Time limit of all rounds, in s; six, and all warm-ups, always run.", gt=0)
    ] = 50.0
    turn_seconds: Annotated[float, about("Time limit of a turn, in s.", gt=0)] = 300.0

    def processes(self, *, gpu: bool) -> int:
        """Number of restarts; by default fewer on a GPU, where a process starts more slowly."""
        return self.restarts or (3 if gpu else 5)


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
        about("Registered metrics that are evaluated.", min_length=1),
    ] = ("mAP",)
    salt: Annotated[
        int, about("Second seed of batch order and augmentation (A/A studies).", ge=0)
    ] = 0

    def error(self, field: str, problem: str, remedy: str) -> InputError:
        """The error for a field, by its dotted name, whose value does not fit the rest."""
        return InputError(problem, field=field, value=attrgetter(field)(self), remedy=remedy)
