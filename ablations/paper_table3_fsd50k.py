"""Table 3 of the paper: PaSST fine-tuned on FSD50K.

Question: how much patchout does fine-tuning tolerate?

Commands: passt-bench plan paper_table3_fsd50k --gpu H100
          nox -s ablate -- paper_table3_fsd50k --data fsd50k=DIR
Three seeds, as published. Needs the weights passt_s_swa_p16_128_ap476, and for PaSST-S-N
passt_s_swa_p16_s16_128_ap473 (`passt-bench weights get NAME`), and a GPU.

Expected outcome, mAP: PaSST-B 0.649, PaSST-U 0.639, PaSST-S 0.653; with
seven blocks (S-L) 0.584 and without overlap (S-N) 0.637.
"""

from __future__ import annotations

from passt_bench.paper import published_study

STUDY = published_study("paper_table3_fsd50k")
