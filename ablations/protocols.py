"""Training protocols of the paper, data set by data set, each value with its source.

A protocol is a recipe without a model: a row of a table adds the model, its patchout (`patchout`)
and its initial weights, by the dotted names ``model.name``, ``patchout`` and ``init``.
docs/protocols.md has the tables below and the pitfalls of the published code that are avoided.

"Paper" is Koutini et al. 2022 (arXiv 2110.05069); files with line numbers are those of the
reference code, github.com/kkoutini/PaSST at 2a5c818.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from passt_bench.spec import Patchout, Recipe, override, passt_frontend

OURS = "ours: "  # prefix of the source of every value that is not published


@dataclass(frozen=True)
class Setting:
    """One value of a protocol.

    Attributes:
        field: dotted name of a recipe's field.
        value: value of the field.
        source: where it is published; if it is not, `OURS` and the reason.
        conflicting_source: what another of the authors' publications (paper, code, README) has.
    """

    field: str
    value: object
    source: str
    conflicting_source: str = ""


Protocol = tuple[Setting, ...]

_SHARED: Protocol = (
    Setting(
        "frontend",
        passt_frontend(jitter=True),
        "models/preprocess.py:32-84 with fmin_aug_range=10, fmax_aug_range=2000",
    ),
    Setting("model.frames", 998, "models/passt.py:311, input_tdim=998"),
    Setting("training.weight_decay", 1e-4, "paper, section 3; ex_audioset.py:105-108"),
    Setting("training.gain", 7, "paper, section 3; audioset/dataset.py:104-112, as in every set's"),
    Setting("training.shift", 50, "audioset/dataset.py:316-329, as in every set's"),
    Setting("training.wavmix_alpha", 2.0, "audioset/dataset.py:115-141"),
    Setting("training.mixup", 0.3, "ex_audioset.py:77-78, as in every experiment"),
    Setting("training.schedule", "ramp", "helpers/ramp.py:21-30, 93-98"),
    Setting("training.ramp_epochs", 5, "ex_audioset.py:87; not in the paper"),
    Setting("training.min_lr_ratio", 0.01, "paper: 1e-5 to 1e-7; ex_audioset.py:87"),
    Setting("engine.precision", "float16", "ex_audioset.py:74, precision=16; not in the paper"),
)

_MASKS: Protocol = (
    Setting("training.mask_frequency", 48, "paper, section 3; models/preprocess.py:50"),
    Setting("training.mask_time", 192, "paper, section 3; models/preprocess.py:54"),
)

_AUDIOSET: Protocol = (
    Setting("data.name", "audioset", "paper, section 3"),
    Setting("data.seconds", 10.0, "audioset/dataset.py:73-78"),
    Setting("training.batch_size", 12, "ex_audioset.py:42-47; not in the paper"),
    Setting("training.loss", "bce", "ex_audioset.py:184-186"),
    *_MASKS,
    Setting("training.wavmix", 0.5, "audioset/dataset.py:115-141, on by ex_audioset.py:71"),
    Setting("training.sampling", "weighted", "paper, section 3; audioset/dataset.py:258-290"),
    Setting("training.decay_start", 50, "paper, section 3; ex_audioset.py:87"),
    Setting("training.decay_epochs", 50, "paper, section 3; ex_audioset.py:87"),
    Setting("metrics", ("mAP_official", "mAP", "AUC", "dprime"), "ex_audioset.py:256-266"),
)

_AUDIOSET_PAPER: Protocol = (
    Setting("training.learning_rate", 1e-5, "paper, section 3", "the code has 2e-5"),
    Setting(
        "training.epochs", 120, "paper, section 3: to epoch 100, then 20 more", "the code has 130"
    ),
    Setting("training.epoch_clips", 200_000, "paper, section 3", "the code has 100000"),
)

_AUDIOSET_CODE: Protocol = (
    Setting("training.learning_rate", 2e-5, "ex_audioset.py:76", "the paper has 1e-5"),
    Setting("training.epochs", 130, "ex_audioset.py:74", "the paper has 120"),
    Setting("training.epoch_clips", 100_000, "audioset/dataset.py:294-301", "the paper has 200000"),
    Setting("training.swa_start", 49, "ex_audioset.py:323, 50 counted from 1; not in the paper"),
    Setting("training.swa_every", 5, "ex_audioset.py:323"),
    Setting(
        "training.eval_weights",
        "last",
        "ours: the code logs both; the authors' model files have .472 (last) and .476 (averaged), "
        "the paper's table has .471",
    ),
)

_ESC50: Protocol = (
    Setting("data.name", "esc50", "ex_esc50.py"),
    Setting("data.seconds", 5.0, "esc50/dataset.py, clip_length=5"),
    Setting("training.learning_rate", 1e-5, "ex_esc50.py:72"),
    Setting("training.epochs", 10, "ex_esc50.py:69"),
    Setting("training.batch_size", 12, "ex_esc50.py:40"),
    Setting("training.loss", "ce", "ex_esc50.py:160-163"),
    Setting("training.mask_frequency", 48, "ex_esc50.py:63"),
    Setting("training.mask_time", 80, "ex_esc50.py:64"),
    Setting("training.wavmix", 0.0, "ex_esc50.py:68"),
    Setting(
        "training.sampling",
        "shuffle",
        "ours: with shuffle=None (ex_esc50.py:41) the code keeps one order on a single GPU; the "
        "paper does not say",
    ),
    Setting("training.decay_start", 50, "ex_esc50.py:82: constant within 10 epochs"),
    Setting("training.decay_epochs", 50, "ex_esc50.py:82"),
    Setting("training.swa_start", 1, "ex_esc50.py:254, 2 counted from 1"),
    Setting("training.swa_every", 1, "ex_esc50.py:254"),
    Setting("metrics", ("accuracy", "mAP"), "paper, section 4.2; mAP is ours, beside it"),
)

_OPENMIC: Protocol = (
    Setting("data.name", "openmic", "ex_openmic.py"),
    Setting("data.seconds", 10.0, "openmic/dataset.py, clip_length=10"),
    Setting("training.learning_rate", 1e-5, "ex_openmic.py:77"),
    Setting("training.epochs", 10, "ex_openmic.py:75"),
    Setting("training.batch_size", 6, "ex_openmic.py:44"),
    Setting("training.loss", "masked_bce", "ex_openmic.py:157-187"),
    *_MASKS,
    Setting("training.wavmix", 0.5, "openmic/dataset.py, on by ex_openmic.py:73"),
    Setting(
        "training.sampling",
        "shuffle",
        "ours: with shuffle=None (ex_openmic.py:45) the code keeps one order on a single GPU; the "
        "paper does not say",
    ),
    Setting("training.decay_start", 50, "ex_openmic.py:88: constant within 10 epochs"),
    Setting("training.decay_epochs", 50, "ex_openmic.py:88"),
    Setting("training.swa_start", 1, "ex_openmic.py:302, 2 counted from 1"),
    Setting("training.swa_every", 1, "ex_openmic.py:302"),
    Setting("metrics", ("mAP_masked",), "ex_openmic.py:237-242"),
)

_FSD50K: Protocol = (
    Setting("data.name", "fsd50k", "ex_fsd50k.py"),
    Setting("data.seconds", 10.0, "fsd50k/dataset.py, clip_length=10"),
    Setting("data.crop", "random", "fsd50k/dataset.py:70-79"),
    Setting("training.learning_rate", 1e-5, "ex_fsd50k.py:84"),
    Setting("training.epochs", 50, "ex_fsd50k.py:82"),
    Setting("training.batch_size", 12, "ex_fsd50k.py:40"),
    Setting("training.loss", "bce", "ex_fsd50k.py"),
    Setting("training.mask_frequency", 0, "ex_fsd50k.py:74"),
    Setting("training.mask_time", 0, "ex_fsd50k.py:75"),
    Setting("training.wavmix", 0.5, "fsd50k/dataset.py, on by ex_fsd50k.py:81"),
    Setting(
        "training.sampling",
        "shuffle",
        "ex_fsd50k.py since 4519e46",
        "earlier code kept one order on a single GPU",
    ),
    Setting("training.decay_start", 10, "ex_fsd50k.py:94"),
    Setting("training.decay_epochs", 10, "ex_fsd50k.py:94"),
    Setting("training.swa_start", 9, "ex_fsd50k.py:298, 10 counted from 1"),
    Setting("training.swa_every", 3, "ex_fsd50k.py:298"),
    Setting(
        "training.checkpoint_selection",
        "best_on_validation",
        "paper, section 4.2: best on the validation split",
    ),
    Setting("metrics", ("mAP_official", "mAP", "AUC", "dprime"), "paper, section 4.2"),
)

_AS_ESC50 = "ours: no code is published; as for ESC-50, the other set with one class per clip"
_DCASE20: Protocol = (
    Setting("data.name", "dcase20", "paper, section 4.2"),
    Setting("data.seconds", 10.0, "paper, section 4.2"),
    Setting("training.learning_rate", 1e-5, _AS_ESC50),
    Setting("training.epochs", 10, _AS_ESC50),
    Setting("training.batch_size", 12, _AS_ESC50),
    Setting("training.loss", "ce", _AS_ESC50),
    Setting("training.mask_frequency", 48, "ours: as for AudioSet, clips are as long"),
    Setting("training.mask_time", 192, "ours: as for AudioSet, clips are as long"),
    Setting("training.wavmix", 0.0, _AS_ESC50),
    Setting("training.decay_start", 50, _AS_ESC50),
    Setting("training.decay_epochs", 50, _AS_ESC50),
    Setting("training.swa_start", 1, _AS_ESC50),
    Setting("training.swa_every", 1, _AS_ESC50),
    Setting("metrics", ("accuracy", "mAP"), "paper, section 4.2; mAP is ours, beside it"),
)

_NOT_FOR_DCASE20 = OURS + "as on the other sets; nothing is published for this one"

PROTOCOLS: dict[str, Protocol] = {
    "audioset, as the paper says": _SHARED + _AUDIOSET + _AUDIOSET_PAPER,
    "audioset, as the code does": _SHARED + _AUDIOSET + _AUDIOSET_CODE,
    "esc50": _SHARED + _ESC50,
    "openmic": _SHARED + _OPENMIC,
    "fsd50k": _SHARED + _FSD50K,
    "dcase20": tuple(replace(s, source=_NOT_FOR_DCASE20) for s in _SHARED) + _DCASE20,
}


def _recipe(name: str) -> Recipe:
    changes = {setting.field: setting.value for setting in PROTOCOLS[name]}
    return override(Recipe(), changes, source=f"ablations/protocols.py: {name}")


def audioset(as_published: Literal["paper", "code"] = "code") -> Recipe:
    """AudioSet, 2 million clips of 527 classes, multi-label.

    Args:
        as_published: settings of the paper or of the reference code. They differ in learning rate,
            epochs, clips per epoch and averaging of weights; the paper's times fit the code.
    """
    kind = "as the paper says" if as_published == "paper" else "as the code does"
    return _recipe(f"audioset, {kind}")


def esc50() -> Recipe:
    """ESC-50, 2000 clips of 50 classes in five folds, fine-tuned from AudioSet."""
    return _recipe("esc50")


def openmic() -> Recipe:
    """OpenMIC-2018, 20,000 clips of 20 partly labelled instruments, fine-tuned from AudioSet."""
    return _recipe("openmic")


def fsd50k() -> Recipe:
    """FSD50K, 51,000 clips of 200 classes, multi-label, fine-tuned from AudioSet."""
    return _recipe("fsd50k")


def dcase20() -> Recipe:
    """TAU Urban Acoustic Scenes 2020 Mobile, ten scenes; no protocol is published."""
    return _recipe("dcase20")


Row = Literal["b", "u", "s", "s_l", "s_n"]
_NONE = Setting("patchout", Patchout(), "paper, section 3: no patchout")


def _structured(time: int, frequency: int, source: str, conflicting_source: str = "") -> Setting:
    setting = Patchout("structured", time=time, frequency=frequency)
    return Setting("patchout", setting, source, conflicting_source)


def _patches(count: int, source: str) -> Setting:
    return Setting("patchout", Patchout("unstructured", patches=count), source)


_TWIN = "ours: as many as S drops; the paper's table 3 has equal speeds for U and S"
_AS_S = "ours: as S; the paper changes only the depth"
_LONG: dict[Row, Setting] = {
    "b": _NONE,
    "u": _patches(716, _TWIN),
    "s": _structured(40, 4, "ex_openmic.py:64"),
    "s_l": _structured(40, 4, _AS_S),
    "s_n": _structured(20, 2, "ours: as on AudioSet, input and stride are the same"),
}
PATCHOUTS: dict[str, dict[Row, Setting]] = {
    "audioset": {
        "b": _NONE,
        "u": _patches(400, "README.md; paper, table 1: 790 tokens"),
        "s": _structured(40, 4, "ex_audioset.py:62-63; paper, table 1: 474 tokens"),
        "s_l": _structured(40, 4, "paper, table 1: 474 tokens"),
        "s_n": _structured(20, 2, "inferred from the paper's table 1: 254 tokens at stride 16"),
    },
    "esc50": {
        "b": _NONE,
        "u": _patches(237, _TWIN),
        "s": _structured(
            10, 3, "ex_esc50.py:60: 353 tokens", "the README's command has t10 f5: 275"
        ),
        "s_l": _structured(10, 3, _AS_S),
        "s_n": _structured(5, 2, "ours: half of S, as on AudioSet"),
    },
    "openmic": _LONG,
    "fsd50k": {
        "b": _NONE,
        "u": _patches(476, _TWIN),
        "s": _structured(10, 4, "ex_fsd50k.py:71"),
        "s_l": _structured(10, 4, _AS_S),
        "s_n": _structured(10, 1, "README.md, FSD50K with stride 16"),
    },
    "dcase20": _LONG | {"s": _structured(40, 4, "ours: as on OpenMIC, the input is the same")},
}


def patchout(data: str, row: Row) -> Patchout:
    """The patchout of a row of the paper's tables on a data set.

    Args:
        data: registered name of a data set.
        row: PaSST-B, -U, -S, -S-L or -S-N; the model of that row is registered as ``passt_ROW``.
    """
    value = PATCHOUTS[data][row].value
    assert isinstance(value, Patchout)  # ensured by the functions that fill the table
    return value
