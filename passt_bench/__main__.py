"""``python -m passt_bench`` is ``passt-bench``."""

import os
import sys
from pathlib import Path

from passt_bench.cli import main

if not sys.flags.safe_path:
    # Who gives this command has the current folder on the path, where Python has put it first. The
    # processes that this one starts take it over last, or first if the package itself lies there.
    first = sys.path.pop(0)
    if Path(__file__).parents[1] == Path(first):
        sys.path.insert(0, first)
        paths = [first, os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    else:
        sys.path.append(first)

main()
