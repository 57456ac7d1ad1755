"""Table 3 of the paper: PaSST fine-tuned on TAU Urban Acoustic Scenes 2020 Mobile (DCASE20).

Question: how much patchout does fine-tuning tolerate?

Commands: passt-bench plan paper_table3_dcase20 --gpu H100
          nox -s ablate -- paper_table3_dcase20 --data dcase20=DIR
Three seeds, as published. Needs the weights passt_s_swa_p16_128_ap476, and for PaSST-S-N
passt_s_swa_p16_s16_128_ap473 (`passt-bench weights get NAME`), and a GPU.

Expected outcome, accuracy: PaSST-B 76.3 %, PaSST-U 75.6 %, PaSST-S 75.6 %; with
seven blocks (S-L) 73.7 % and without overlap (S-N) 73.9 %.
"""

from __future__ import annotations

from passt_bench.paper import published_study

STUDY = published_study("paper_table3_dcase20")
