"""``python -m passt_bench`` is ``passt-bench``."""

from passt_bench.cli import main

main()
