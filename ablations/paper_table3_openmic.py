"""Table 3 of the paper: PaSST fine-tuned on OpenMIC-2018.

Question: how much patchout does fine-tuning tolerate?

Commands: passt-bench plan paper_table3_openmic --gpu H100
          nox -s ablate -- paper_table3_openmic --data openmic=DIR
Three seeds, as published. Needs the weights passt_s_swa_p16_128_ap476, and for PaSST-S-N
passt_s_swa_p16_s16_128_ap473 (`passt-bench weights get NAME`), and a GPU.

Expected outcome, mAP: PaSST-B 0.837, PaSST-U 0.843, PaSST-S 0.843; with
seven blocks (S-L) 0.841 and without overlap (S-N) 0.840.
"""

from __future__ import annotations

from passt_bench.paper import published_study

STUDY = published_study("paper_table3_openmic")
