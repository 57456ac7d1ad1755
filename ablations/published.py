"""Shared by the tables of the paper: data sets, variants, and how fast each of them trained.

Koutini, Schlüter, Eghbal-zadeh, Widmer: Efficient Training of Audio Transformers with Patchout,
Interspeech 2022. Variants as in section 2 and Table 1; counts of the patches as in the reference
code (``ex_audioset.py``, its README and the sequence lengths of Table 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass

from passt_bench.spec import (
    InitSpec,
    ModelSpec,
    Patchout,
    Recipe,
    Study,
    Variant,
    override,
    panns_frontend,
)
from passt_bench.spec.rows import Corpus, Pace, Row, patchout_in_short

from .protocols import OURS, PATCHOUTS, PROTOCOLS, Setting, audioset, patchout
from .protocols import Row as PasstRow

AS_IN_CODE = "audioset, as the code does"  # the protocol of `on_audioset`
IMAGENET = "passt_deit_bd_p16_384"  # initial weights of training on AudioSet
# The paper starts from this model. The reference code now starts from one that was distilled after
# the paper (passt_s_kd_p16_128_ap486).
AUDIOSET = "passt_s_swa_p16_128_ap476"
AUDIOSET_S16 = "passt_s_swa_p16_s16_128_ap473"
_START = Setting(
    "init",
    InitSpec("checkpoint", AUDIOSET),
    "paper: the PaSST-S trained on AudioSet; models/passt.py before d27d832",
    "the code since (models/passt.py:958) starts from passt_s_kd_p16_128_ap486",
)
_FINE_TUNED_BY_CODE = ("esc50", "openmic", "fsd50k")

AUDIO_SET = Corpus("audioset", "AudioSet", 527, 1_893_693, 18_951)  # as many as the authors had
OPENMIC = Corpus("openmic", "OpenMIC-2018", 20, 14_915, 5_085)
ESC50 = Corpus("esc50", "ESC-50", 50, 1_600, 400, folds=5)
DCASE20 = Corpus("dcase20", "TAU Urban Acoustic Scenes 2020 Mobile", 10, 13_962, 2_968)
FSD50K = Corpus("fsd50k", "FSD50K", 200, 36_796, 10_231)

S10, S16 = (10, 10), (16, 16)
_ROW_NAMES: dict[str, PasstRow] = {
    "PaSST-B": "b",
    "PaSST-U": "u",
    "PaSST-S": "s",
    "PaSST-S-L": "s_l",
    "PaSST-S-N": "s_n",
}
_SHAPES: dict[str, dict[str, object]] = {
    "PaSST-S-L": {"model.depth": 7},
    "PaSST-S-N": {"model.stride": S16},
}


def passt_variants(data: str) -> tuple[Variant, ...]:
    """PaSST-B, -U, -S, -S-L and -S-N on a data set; each sets only what it changes.

    So ``--set model.width=192`` makes all of them smaller.
    """
    return tuple(
        Variant(name, {"patchout": patchout(data, row), **_SHAPES.get(name, {})})
        for name, row in _ROW_NAMES.items()
    )


def on_gpu(recipe: Recipe, start: str) -> Recipe:
    """A protocol with the settings of the rows: GPU, PaSST at stride 10, published weights."""
    return override(
        recipe,
        {
            "model.name": "passt_s",
            "model.stride": S10,
            "init": InitSpec("checkpoint", start),
            "engine.device": "cuda",
        },
    )


def on_audioset() -> Recipe:
    """Training on AudioSet as in the reference code, from ImageNet weights."""
    return on_gpu(audioset("code"), IMAGENET)


# Row of Table 1 → mAP, and clips per second and GB per clip in training on one Titan RTX.
TABLE1: Mapping[str, tuple[float, float, float]] = {
    "PANNs": (0.439, 131.0, 0.213),
    "AST": (0.459, 23.1, 2.33),
    "AST-N": (0.454, 80.0, 0.534),
    "CNN (RF-CNN)": (0.438, 126.3, 0.213),
    "PaSST-B": (0.462, 23.1, 2.33),
    "PaSST-U": (0.466, 43.2, 1.14),
    "PaSST-S": (0.471, 88.7, 0.513),
    "PaSST-S-L": (0.459, 148.6, 0.311),
    "PaSST-S-N": (0.466, 184.2, 0.202),
}
# Other models with their front ends in the protocol of Table 1. Its tokens for AST (1190 and 498)
# are those of PaSST's log-mels of 998 frames, not of AST's own 1024.
BASELINE_SYSTEMS = (
    Variant(
        "PANNs",
        {
            "model": ModelSpec("cnn14"),
            "frontend": panns_frontend(),
            "patchout": Patchout(),
            "init": InitSpec(),
            "training.learning_rate": 1e-3,
            "training.batch_size": 32,
        },
    ),
    Variant("AST", {"model.name": "ast", "patchout": Patchout()}),
    Variant("AST-N", {"model.name": "ast", "model.stride": S16, "patchout": Patchout()}),
    Variant(
        "CNN (RF-CNN)",
        {
            "model": ModelSpec("cp_resnet"),
            "patchout": Patchout(),
            "init": InitSpec(),
            "training.learning_rate": 1e-3,
            "training.batch_size": 32,
        },
    ),
)


def trained(
    study: Study,
    table: str,
    corpus: Corpus,
    protocol: str,
    published: Mapping[str, float] | None = None,
    *,
    notes: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Row, ...]:
    """The rows that a study trains, one per variant.

    Args:
        study: study whose variants have the names of the rows.
        table: table of the published numbers.
        corpus: training data.
        protocol: name in `protocols.PROTOCOLS`.
        published: row → value of the study's metric; default: the values of Table 1.
        notes: row → other settings that the paper does not give.
    """
    timed = {variant.name: variant for variant in (*BASELINE_SYSTEMS, *passt_variants("audioset"))}
    base = on_audioset()
    rows = []
    for variant in study.variants:
        value, speed, memory = TABLE1[variant.name]
        has_costs = table == "table1"
        rows.append(
            Row(
                table=table,
                name=variant.name,
                corpus=corpus,
                metric=study.metric,
                published=(published or {}).get(variant.name, value),
                study=study.name,
                recipe=study.recipe(variant),
                runs=len(study.seeds) * corpus.folds,
                pace=Pace(speed, override(base, timed[variant.name].changes)),
                speed=speed if has_costs else None,
                memory=memory if has_costs else None,
                notes=(
                    *not_published(protocol),
                    *_own_patchout(corpus, variant.name),
                    *(notes or {}).get(variant.name, ()),
                ),
                conflicts=_conflicts(protocol, corpus, variant),
            )
        )
    return tuple(rows)


def not_published(protocol: str) -> tuple[str, ...]:
    """The settings that neither the paper nor its code gives, with the source of each value."""
    by_source: dict[str, list[str]] = {}
    for setting in PROTOCOLS[protocol]:
        if setting.source.startswith(OURS):
            name = setting.field.removeprefix("training.")
            value = "" if is_dataclass(setting.value) else f" {setting.value}"
            by_source.setdefault(setting.source, []).append(f"{name}{value}")
    return tuple(f"{', '.join(fields)} ({source})" for source, fields in by_source.items())


def _conflicts(protocol: str, corpus: Corpus, variant: Variant) -> tuple[str, ...]:
    """The settings of a row on which the authors' publications conflict, with the value used."""
    start = (_START,) if corpus.name in _FINE_TUNED_BY_CODE else ()
    settings = (*start, *PROTOCOLS[protocol])
    used = [setting for setting in settings if setting.field not in variant.changes]
    if variant.name in _ROW_NAMES:
        used.append(PATCHOUTS[corpus.name][_ROW_NAMES[variant.name]])
    return tuple(
        f"{setting.field.removeprefix('training.')} {_in_short(setting.value)} ({setting.source}; "
        f"{setting.conflicting_source})"
        for setting in used
        if setting.conflicting_source
    )


def _in_short(value: object) -> str:
    if isinstance(value, InitSpec):
        return f"{value.checkpoint}"
    return patchout_in_short(value) if isinstance(value, Patchout) else str(value)


def _own_patchout(corpus: Corpus, row: str) -> tuple[str, ...]:
    """The source of a row's patchout, if it is not published."""
    if row not in _ROW_NAMES:
        return ()
    setting = PATCHOUTS[corpus.name][_ROW_NAMES[row]]
    if not setting.source.startswith((OURS, "inferred")):
        return ()
    return (
        f"patchout {patchout_in_short(patchout(corpus.name, _ROW_NAMES[row]))} ({setting.source})",
    )


def cited(table: str, name: str, corpus: Corpus, metric: str, published: float) -> Row:
    """A row whose number the authors took from another paper."""
    return Row(table, name, corpus, metric, published)


def audioset_study(name: str, question: str, variants: tuple[Variant, ...]) -> Study:
    """A study of rows on AudioSet, one run per row as published."""
    base = on_audioset()
    return Study(
        name=name,
        question=question,
        base=base,
        baseline="PaSST-B",
        variants=variants,
        metric=base.metrics[0],
        seeds=(0,),
    )
