"""Table 1 of the paper: single models on AudioSet.

Question: what do CNNs, AST and PaSST with and without patchout reach on AudioSet, and at what cost?

Commands: passt-bench plan paper_table1 --gpu H100
          nox -s ablate -- paper_table1 --data audioset=DIR
Needs AudioSet, the ImageNet weights (`passt-bench weights get passt_deit_bd_p16_384`) and a GPU.

Protocol: that of the reference code (130 epochs of 100 000 clips, peak learning rate 2e-5), because
its number of clips matches the hours of the paper. For the settings of the paper instead:
--set training.epochs=120 --set training.epoch_clips=200000 --set training.learning_rate=1e-5

Expected outcome: PaSST-S 0.471 mAP above PaSST-B 0.462 at 3.8 times its speed and 22 % of its
memory; structured patchout without overlap (PaSST-S-N) 0.466 at 8 times the speed.
"""

from __future__ import annotations

from passt_bench.paper import published_study

STUDY = published_study("paper_table1")
