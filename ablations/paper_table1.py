"""Table 1 of the paper: single models on AudioSet.

Question: what do CNNs, AST and PaSST with and without patchout reach on AudioSet, and at what cost?

Commands: passt-bench plan paper_table1
          nox -s ablate -- paper_table1 --data audioset=DIR
Needs AudioSet, the ImageNet weights (`passt-bench weights get passt_deit_bd_p16_384`) and a GPU;
`plan` gives the GPU hours of each row.

Protocol: that of the reference code (130 epochs of 100 000 clips, peak learning rate 2e-5), because
its number of clips matches the hours of the paper. For the settings of the paper instead:
--set training.epochs=120 --set training.epoch_clips=200000 --set training.learning_rate=1e-5

Expected outcome: PaSST-S .471 mAP above PaSST-B .462 at 3.8 times its speed and 22 % of its memory;
structured patchout without overlap (PaSST-S-N) .466 at 8 times the speed.
"""

from __future__ import annotations

from .published import (
    AS_IN_CODE,
    AUDIO_SET,
    BASELINE_SYSTEMS,
    audioset_study,
    cited,
    passt_variants,
    trained,
)

_TRAINED = audioset_study(
    "paper_table1",
    "What do CNNs, AST and PaSST with and without patchout reach on AudioSet?",
    (*BASELINE_SYSTEMS, *passt_variants("audioset")),
)
_CNN = ("from scratch, learning rate 1e-3, batch 32 (ours: not in the paper; the rest is PaSST's)",)
_NOTES = {
    "PANNs": (*_CNN, "the number is that of PANNs' own training"),
    "CNN (RF-CNN)": _CNN,
    "AST": ("PaSST's log-mels (inferred from the table's 1190 tokens)",),
    "AST-N": ("PaSST's log-mels (inferred from the table's 498 tokens)",),
    "PaSST-S-L": ("blocks 0, 1, 3, 5, 7, 9, 11 (inferred from 7 blocks and 50 M parameters)",),
}
STUDIES = (_TRAINED,)
ROWS = (
    cited("table1", "Baseline (Gemmeke 2017)", AUDIO_SET, _TRAINED.metric, 0.314),
    cited("table1", "AST (paper)", AUDIO_SET, _TRAINED.metric, 0.459),
    *trained(_TRAINED, "table1", AUDIO_SET, AS_IN_CODE, notes=_NOTES),
)
