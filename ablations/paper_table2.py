"""Table 2 of the paper: ensembles on AudioSet.

Question: how much better than one PaSST is the mean of several with different overlap?

Commands: passt-bench plan paper_table2
          nox -s ablate -- paper_table2 --data audioset=DIR
Needs the evaluation split of AudioSet, the published weights (`passt-bench weights get
ensemble_many` downloads all nine) and a GPU; nothing is trained.

Expected outcome: two models 0.486, four 0.493, five 0.495, nine 0.496.
"""

from __future__ import annotations

from passt_bench.paper import TRAINED, published_rows

ROWS = published_rows("table2", TRAINED)
