"""Checks names and keys that become parts of paths, so that no record leads out of its folder."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from passt_bench.errors import InputError

_KEY = re.compile(r"[0-9a-f]{16}")  # as `spec.key.digest` makes them
_RULE = "may contain only letters, digits, - and _"


def _is_plain(text: str) -> bool:
    return text.replace("-", "").replace("_", "").isalnum()


def _name(text: str) -> str:
    if not _is_plain(text):
        raise PydanticCustomError("name", _RULE)
    return text


def is_key(text: str) -> bool:
    """Whether a text is a key, like the names of the folders of records."""
    return _KEY.fullmatch(text) is not None


def _key(text: str) -> str:
    if not is_key(text):
        raise PydanticCustomError("key", "not a key (16 hexadecimal digits in lower case)")
    return text


Name = Annotated[str, AfterValidator(_name)]  # of a file and of a folder
Key = Annotated[str, AfterValidator(_key)]  # of a record, its folder, and of what points to it


def plain_name(text: str, *, field: str) -> str:
    """Checks and returns a name or key that becomes part of a path.

    Args:
        text: the name or key.
        field: the field or option, for the message.

    Raises:
        InputError: the text has other characters than letters, digits, - and _.
    """
    if not _is_plain(text):
        raise InputError(_RULE, field=field, value=text, remedy="Choose another name.")
    return text
