"""Types of the fixtures of conftest.py that run commands."""

from collections.abc import Callable

from passt_bench.errors import InputError

Cli = Callable[..., tuple[int, str]]
Mistake = Callable[..., InputError]
