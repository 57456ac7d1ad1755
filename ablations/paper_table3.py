"""Table 3 of the paper: PaSST fine-tuned on other data sets, and on AudioSet itself for comparison.

Question: how much patchout does fine-tuning tolerate, on each of five data sets?

Commands: passt-bench plan paper_table3
          nox -s ablate -- paper_table3 --data esc50=DIR --data openmic=DIR …
Runs the given data sets, one study each, three seeds as published. Needs the weights
(`passt-bench weights get passt_s_swa_p16_128_ap476`, and passt_s_swa_p16_s16_128_ap473 for
PaSST-S-N) and a GPU; `plan` gives the GPU hours of each row. The rows on AudioSet are those of
Table 1 and share its records.

Expected outcome: patchout costs no accuracy in fine-tuning (PaSST-S the same as PaSST-B on OpenMIC,
ESC-50 and FSD50K, within a point on DCASE20); seven blocks and no overlap cost one to seven points.
"""

from __future__ import annotations

from passt_bench.spec import InitSpec, Recipe, Study, Variant
from passt_bench.spec.rows import Corpus, Row

from .protocols import dcase20, esc50, fsd50k, openmic
from .published import (
    AS_IN_CODE,
    AUDIO_SET,
    AUDIOSET,
    AUDIOSET_S16,
    DCASE20,
    ESC50,
    FSD50K,
    OPENMIC,
    audioset_study,
    cited,
    on_gpu,
    passt_variants,
    trained,
)

_L = "seven blocks of PaSST-S's weights (ours: the authors' PaSST-S-L was not released)"
_N = "starts from the released PaSST-S of stride 16 (inferred)"


def _variants(corpus: Corpus) -> tuple[Variant, ...]:
    *others, without_overlap = passt_variants(corpus.name)
    start = {"init": InitSpec("checkpoint", AUDIOSET_S16)}
    return (*others, Variant(without_overlap.name, {**without_overlap.changes, **start}))


def _study(corpus: Corpus, protocol: Recipe) -> Study:
    return Study(
        name=f"paper_table3_{corpus.name}",
        question=f"How much patchout does fine-tuning on {corpus.title} tolerate?",
        base=on_gpu(protocol, AUDIOSET),
        baseline="PaSST-B",
        variants=_variants(corpus),
        metric=protocol.metrics[0],
        seeds=(0, 1, 2),
    )


def _rows(
    study: Study, corpus: Corpus, others: tuple[float, float], published: tuple[float, ...]
) -> tuple[Row, ...]:
    names = [variant.name for variant in study.variants]
    return (
        cited("table3", "Baseline", corpus, study.metric, others[0]),
        cited("table3", "State of the art then", corpus, study.metric, others[1]),
        *trained(
            study,
            "table3",
            corpus,
            corpus.name,
            dict(zip(names, published, strict=True)),
            notes={"PaSST-S-L": (_L,), "PaSST-S-N": (_N,)},
        ),
    )


_OPENMIC = _study(OPENMIC, openmic())
_ESC50 = _study(ESC50, esc50())
_DCASE20 = _study(DCASE20, dcase20())
_FSD50K = _study(FSD50K, fsd50k())
_AUDIOSET = audioset_study(
    "paper_table3_audioset",
    "How much patchout does training on AudioSet tolerate?",
    passt_variants("audioset"),
)
STUDIES = (_OPENMIC, _ESC50, _DCASE20, _FSD50K, _AUDIOSET)
ROWS = (
    *_rows(_OPENMIC, OPENMIC, (0.795, 0.831), (0.837, 0.843, 0.843, 0.841, 0.840)),
    *_rows(_ESC50, ESC50, (0.769, 0.956), (0.963, 0.965, 0.968, 0.955, 0.964)),
    *_rows(_DCASE20, DCASE20, (0.541, 0.737), (0.763, 0.756, 0.756, 0.737, 0.739)),
    *_rows(_FSD50K, FSD50K, (0.434, 0.558), (0.649, 0.639, 0.653, 0.584, 0.637)),
    *trained(_AUDIOSET, "table1", AUDIO_SET, AS_IN_CODE),
)
