"""What a name or a key may be that becomes part of a path; every record is read with these types.

A record may come from anywhere: what it says of itself must not lead out of its folder.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from passt_bench.errors import InputError

_KEY = re.compile(r"[0-9a-f]{16}")  # as `spec.key.digest` makes them
_PLAIN = "no / or \\, and no dot at the beginning"


def is_file_name(text: str) -> bool:
    """Whether a text names something inside a folder: no path, nothing hidden.

    More than ``--name`` takes: a study may be called as any file is, e.g. ``quick (copy)``.
    """
    return bool(text) and not text.startswith(".") and not set(text) & set("/\\\0")


def _name(text: str) -> str:
    if not is_file_name(text):
        raise PydanticCustomError("name", f"not a plain name ({_PLAIN})")
    return text


def _key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise PydanticCustomError("key", "not a key (16 hexadecimal digits in lower case)")
    return text


Name = Annotated[str, AfterValidator(_name)]  # of a file and of a folder
Key = Annotated[str, AfterValidator(_key)]  # of a record, its folder, and of what points to it


def part_of_path(text: str, *, field: str) -> str:
    """A name or key, just before it becomes part of a path that is written to.

    Args:
        text: the name or key.
        field: what it is, for the message.

    Raises:
        InputError: it would lead elsewhere.
    """
    if not is_file_name(text):
        raise InputError(
            "not a plain name",
            field=field,
            value=text,
            remedy=f"It names a file or folder: {_PLAIN}.",
        )
    return text
