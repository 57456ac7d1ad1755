"""Downloads published weights.

A download is complete or absent, an interrupted one resumes, and the file is checked by its
parameters' names and shapes. The hash of the first download is written beside it, in
``SHA256SUMS``; later downloads must match it.
"""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pooch
from filelock import FileLock

from passt_bench.console import Progress
from passt_bench.errors import InputError
from passt_bench.published_weights import Published, weights_folder
from passt_bench.records.files import storing, write_atomically

SUMS = "SHA256SUMS"
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a response


def get(
    entry: Published,
    folder: Path | None = None,
    progress: Progress = lambda share, text: None,
) -> Path:
    """Downloads a published file if it is missing, and checks it either way.

    Args:
        entry: the file.
        folder: target folder; None is the default one.
        progress: called with the share done and a text.

    Returns:
        The file's path.

    Raises:
        InputError: it cannot be downloaded (the message says what to put where), does not match the
            table, or differs from the first download.
    """
    from passt_bench.models.weights.model_file import check_published

    folder = folder or weights_folder()
    path = folder / entry.file
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{entry.file}.lock"):
        if not path.is_file():
            _download(entry, path, progress)
        found = pooch.file_hash(str(path), alg="sha256")
        _compare(path, found)
        try:
            check_published(entry, path)
        except InputError as error:
            raise InputError(
                error.problem,
                source=path,
                field=error.field,
                value=error.value,
                remedy=f"It is not the published file: remove it and get it again ({entry.url}).",
            ) from None
        _note(path, found)
    return path


def _download(entry: Published, path: Path, progress: Progress) -> None:
    pooch.get_logger().setLevel("WARNING")  # its advice to record the hash is followed below
    recorded = recorded_hash(path)

    def resuming(url: str, output: str, _: Any) -> None:
        part = path.with_name(f"{path.name}.part")
        _transfer(url, part, progress)
        shutil.move(part, output)

    try:
        pooch.retrieve(
            entry.url, known_hash=recorded, fname=path.name, path=path.parent, downloader=resuming
        )
    except ValueError:  # pooch raises it for another hash
        raise InputError(
            "the download differs from the first one",
            source=entry.url,
            field="sha256",
            remedy=f"If the file was released anew, remove its line in {path.parent / SUMS}.",
        ) from None
    except OSError as error:
        reason: object = error
        if isinstance(error, URLError) and not isinstance(error, HTTPError):
            reason = error.reason  # what the URLError wraps
        raise InputError(
            f"could not be downloaded ({reason})",
            source=entry.url,
            remedy=f"Try again, the download resumes; or download it elsewhere, put it at {path}, "
            "and run the same command, which checks it.",
        ) from None


def _transfer(url: str, part: Path, progress: Progress) -> None:
    """Downloads into ``part``, from its end on where the server can.

    Raises:
        OSError: no connection, a server error, or an incomplete response.
    """
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code != 416 or not have:  # 416: nothing follows the part on disk
            raise
        part.unlink()
        return _transfer(url, part, progress)
    with answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(have / max(total, have), f"{have / 1e6:.0f} of {total / 1e6:.0f} MB")
    if have < total:
        raise OSError(f"the connection broke off after {have} of {total} bytes")
    return None


def recorded_hash(path: Path) -> str | None:
    """The hash of a file's first download, from ``SHA256SUMS`` beside it."""
    return _sums(path.parent).get(path.name)


def _sums(folder: Path) -> dict[str, str]:
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    return {pair[1].lstrip("*"): pair[0] for pair in pairs if len(pair) == 2}


def _compare(path: Path, found: str) -> None:
    recorded = recorded_hash(path)
    if recorded is not None and recorded != found:
        raise InputError(
            "the file differs from the first download",
            source=path,
            field="sha256",
            value=found,
            remedy=f"Expected {recorded}. Remove the file and get it again.",
        )


def _note(path: Path, found: str) -> None:
    with FileLock(path.parent / f".{SUMS}.lock"):
        sums = _sums(path.parent)
        if sums.get(path.name) != found:
            sums[path.name] = found
            text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
            write_atomically(path.parent / SUMS, text.encode())
