"""Keeps Python files of the current folder out of the processes that this package starts.

Python puts the current folder first on the path of a process that is started by ``-c`` or ``-m``,
as fork servers, resource trackers and MLflow are: a ``shutil.py`` there would be run instead of the
library's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "PYTHONSAFEPATH"  # and not -I, which would also leave out PYTHONPATH
_LOCK = threading.Lock()
_inside = 0  # bodies of all threads, for they share the environment
_before: str | None = None


@contextmanager
def without_current_folder() -> Iterator[None]:
    """Python processes that the body starts, and all that those start, leave that folder out.

    Afterwards the environment is what it was: it belongs to the program that uses this package.
    """
    global _inside, _before
    with _LOCK:
        if not _inside:
            _before = os.environ.get(VARIABLE)
            os.environ[VARIABLE] = "1"
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                del os.environ[VARIABLE]
                if _before is not None:
                    os.environ[VARIABLE] = _before
