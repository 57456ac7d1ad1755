"""What a folder holds, and a disk that takes no more."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def files(root: Path) -> dict[str, bytes]:
    """Path below the folder → bytes, of all files but the locks of reports."""
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Inside it no file may grow beyond so many bytes: EFBIG, where a full disk says ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
