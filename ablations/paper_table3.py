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

from passt_bench.paper import TRAINED, corpora, published_rows, published_study

_FINE_TUNED = [
    row
    for data in ("openmic", "esc50", "dcase20", "fsd50k")
    for row in published_rows(
        "table3",
        data,
        published_study(
            f"paper_table3_{data}",
            f"How much patchout does fine-tuning on {corpora()[data].title} tolerate?",
            data,
        ),
    )
]
_AUDIOSET = published_study(
    "paper_table3_audioset",
    "How much patchout does training on AudioSet tolerate?",
    TRAINED,
    prefix="PaSST",
)
_AUDIOSET_ROWS = [row for row in published_rows("table1", TRAINED, _AUDIOSET) if row.study]
ROWS = (*_FINE_TUNED, *_AUDIOSET_ROWS)
