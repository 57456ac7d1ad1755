"""Processes that make batches ahead of the training, in order.

Process i of n makes the batches i, i + n, i + 2n, … and hands each over when it is asked for; so
every process is one batch ahead. A batch is a function of its number, and therefore the same
whichever process makes it.
"""

from __future__ import annotations

import mmap
import pickle
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from passt_bench.processes import follow_parent, fork_server

Arrays = tuple[np.ndarray, ...]
Make = Callable[[int], Arrays]
_SECONDS = 5.0  # that a process has to end in before it is killed


@contextmanager
def loading(make: Make, numbers: Sequence[int], processes: int) -> Generator[Iterator[Arrays]]:
    """The batches of some numbers, in their order.

    Args:
        make: a batch of its number; with processes it is pickled, and each has its own.
        numbers: of the batches that are wanted.
        processes: that make them; with 0 it is this one, when it is asked.

    Yields:
        An iterator over the batches. What a process raises is raised where its batch is asked for.
    """
    if processes < 1:
        yield map(make, numbers)
        return
    count = min(processes, len(numbers))
    children: list[tuple[BaseProcess, Connection]] = []
    try:
        for first in range(count):
            children.append(_start(make, numbers[first::count]))
        yield _in_turn(children, len(numbers))
    finally:
        for child, ours in children:
            ours.close()
            child.terminate()
        for child, _ in children:
            child.join(_SECONDS)
            if child.is_alive():
                child.kill()
                child.join()


def _start(make: Make, numbers: Sequence[int]) -> tuple[BaseProcess, Connection]:
    context = fork_server(__name__, "passt_bench.training.batches")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_serve, args=(make, numbers, theirs), daemon=True)
    child.start()
    theirs.close()
    return child, ours


def _in_turn(children: Sequence[tuple[BaseProcess, Connection]], total: int) -> Iterator[Arrays]:
    for number in range(total):
        child, ours = children[number % len(children)]
        try:
            shapes = ours.recv()
            if isinstance(shapes, BaseException):
                raise shapes
            arrays = tuple(np.empty(shape, dtype=kind) for shape, kind in shapes)
            for array in arrays:
                ours.recv_bytes_into(array.data.cast("B"))
        except EOFError:
            child.join()
            raise RuntimeError(
                f"a process that makes batches ended with exit status {child.exitcode}"
            ) from None
        yield arrays


def _serve(make: Make, numbers: Sequence[int], theirs: Connection) -> None:
    """The life of a process that makes batches."""
    follow_parent()
    with suppress(BrokenPipeError):  # nobody wants any more
        try:
            for number in numbers:
                arrays = [np.ascontiguousarray(array) for array in make(number)]
                theirs.send([(array.shape, array.dtype.str) for array in arrays])
                for array in arrays:
                    theirs.send_bytes(array.data.cast("B"))
        except BrokenPipeError:
            raise
        except BaseException as error:  # raised again by the process that trains
            theirs.send(_portable(error))


def _portable(error: BaseException) -> BaseException:
    """The error with a note of its origin, or one that can be pickled instead."""
    text = traceback.format_exc(limit=-6)
    try:
        again: BaseException = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does on the way
        return RuntimeError(text)
    again.add_note(f"in a process that makes batches:\n{text}")
    return again


def _reduce_memmap(array: Any) -> Any:
    """Hands a memory map over by the name of its file, and not by what is in it."""
    if isinstance(array.base, mmap.mmap):  # a view of one knows the file, but not its place there
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        what = (array.filename, array.dtype, "r", array.offset, array.shape, order)
        return np.memmap, what
    return np.asarray(array).__reduce__()


ForkingPickler.register(np.memmap, _reduce_memmap)
