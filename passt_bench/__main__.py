"""``python -m passt_bench`` is ``passt-bench``."""

import os
import sys
from pathlib import Path

from passt_bench.cli import main

if not sys.flags.safe_path:
    # Python has put the current folder first on the path. It goes to the end, for this process and
    # those that it starts, unless the package itself is imported from there.
    first = sys.path.pop(0)
    if Path(__file__).parents[1] == Path(first):
        sys.path.insert(0, first)
        paths = [first, os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    else:
        sys.path.append(first)

main()
