"""Limits what a server may answer: its size, its time and its form, for all of urllib3."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_BYTES, MAX_SECONDS = 64 << 20, 30.0  # of an answer with its headers


class _Limited(io.RawIOBase):
    """A stream of bytes that ends with an error if it is too long or takes too long."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self._left, self._end = raw, MAX_BYTES, time.monotonic() + MAX_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Fills the buffer; an ``OSError`` beyond a limit."""
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise OSError(f"its answer is longer than {MAX_BYTES >> 20} MiB")
        if time.monotonic() > self._end:
            raise OSError(f"its answer takes longer than {MAX_SECONDS:g} s")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *words: Any, **options: Any) -> None:
        super().__init__(sock, *words, **options)
        self.fp = io.BufferedReader(_Limited(self.fp.detach()))

    def begin(self) -> None:
        """Reads the headers; a compressed body, which was not asked for, may be of any length."""
        super().begin()
        if self.headers.get("Content-Encoding", "identity") != "identity":
            raise OSError("its answer is compressed, although that was not asked for")


@contextmanager
def bounded_answers() -> Iterator[None]:
    """In the body an answer longer than `MAX_BYTES` or `MAX_SECONDS` is an ``OSError``."""
    import requests
    from urllib3.connection import HTTPConnection

    sessions: Any = requests.sessions
    kept, headers = HTTPConnection.response_class, sessions.default_headers
    plain = requests.structures.CaseInsensitiveDict(headers(), **{"Accept-Encoding": "identity"})
    # A session, which MLflow keeps, asks for what is the default when it is made.
    sessions.default_headers, HTTPConnection.response_class = plain.copy, _Answer
    try:
        yield
    finally:
        sessions.default_headers, HTTPConnection.response_class = headers, kept
