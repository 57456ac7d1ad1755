"""Table 3 of the paper: PaSST fine-tuned on ESC-50.

Question: how much patchout does fine-tuning tolerate?

Commands: passt-bench plan paper_table3_esc50 --gpu H100
          nox -s ablate -- paper_table3_esc50 --data esc50=DIR
Three seeds, as published. Needs the weights passt_s_swa_p16_128_ap476, and for PaSST-S-N
passt_s_swa_p16_s16_128_ap473 (`passt-bench weights get NAME`), and a GPU.

Expected outcome, accuracy: PaSST-B 96.3 %, PaSST-U 96.5 %, PaSST-S 96.8 %; with
seven blocks (S-L) 95.5 % and without overlap (S-N) 96.4 %.
"""

from __future__ import annotations

from passt_bench.paper import published_study

STUDY = published_study("paper_table3_esc50")
