"""Prepares a data set in processes that are killed at chosen moments.

A program of its own: ``python preparing.py FOLDER``, where FOLDER/data holds recordings with a
manifest. It imports everything and starts the fork server once; each preparation is then a fork of
it, which saves the seconds of imports. A moment is the n-th time that a file of a certain name is
synced; some of what was written is cut off first, as a kill in the midst of writing leaves it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

RATE = 8000
SEED = 20261124
WORKER = "worker"  # a moment at which a decoding process is killed, and not the command
TIDY = "tidy"  # a moment after the index has been written
Moment = tuple[str, int]  # part of a file's name, which sync of it


def moments(form: str) -> list[Moment]:
    """Six kills of the command, spread over the work, and one of a process that decodes."""
    draw = random.Random(f"{SEED} {form}")
    late = "clips.npz" if form == "int16" else "_mp3.hdf"
    return [
        ("waveforms.journal", 1),  # its head
        ("waveforms.i16", draw.randint(1, 3)),
        (WORKER, draw.randint(1, 2)),
        ("waveforms.journal", draw.randint(2, 4)),
        (late, 1),
        ("prepared.json", 1),
        (TIDY, 2),
    ]


def watch(moment: Moment) -> None:
    """Makes this process end when the moment comes."""
    from passt_bench.runner import prepare_data, prepared_form

    name, number = moment
    count = 0
    real_sync, real_write, real_tidy = (
        os.fsync,
        prepare_data._write_next,
        prepared_form.remove_leftovers,
    )

    def sync(handle: int) -> None:
        nonlocal count
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if name in path.name:
            count += 1
            if count == number:
                if not path.name.endswith(".hdf.part"):
                    size = os.fstat(handle).st_size
                    os.truncate(path, size - random.Random(size).randint(0, min(size, 9)))
                os.kill(os.getpid(), signal.SIGKILL)
        real_sync(handle)

    def write_next(*arguments: Any) -> None:
        import psutil

        nonlocal count
        count += 1
        if count == number:
            for child in psutil.Process().children(recursive=True) or _decoders():
                child.kill()
        real_write(*arguments)

    def tidy(*arguments: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real_tidy(*arguments, **options)

    if name == WORKER:
        prepare_data._write_next = write_next
    elif name == TIDY:
        prepared_form.remove_leftovers = tidy
    else:
        os.fsync = sync


def _decoders() -> list[Any]:
    """Children of the fork server that this process's pool began."""
    import multiprocessing

    import psutil

    return [
        psutil.Process(child.pid)
        for child in multiprocessing.active_children()
        if child.pid is not None
    ]


def prepare(root: Path, out: Path, form: str, moment: Moment | None) -> int:
    """One preparation in a fork; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        from passt_bench.errors import InputError
        from passt_bench.runner.prepare_data import Preparation, prepare_data

        if moment is not None:
            watch(moment)
        try:
            prepare_data(Preparation("manifest", root / "data", RATE, form, out, workers=2))  # type: ignore[arg-type]
        except InputError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root: Path) -> None:
    """Prints a line an invocation: form, moment, how it ended."""
    from multiprocessing import forkserver

    from passt_bench import processes
    from passt_bench.runner import executor

    executor.fork_server()
    # The forks use this one; it is not their child, so they could not ask how it is.
    processes.ensure_running = forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]
    for form in ("int16", "hdf5"):
        print(form, "undisturbed", prepare(root, root / form / "undisturbed", form, None))
        for moment in moments(form):
            ended = prepare(root, root / form / "killed", form, moment)
            held = (root / form / "killed" / "prepared.json").exists()
            print(form, moment[0], ended, held)
        print(form, "last", prepare(root, root / form / "killed", form, None))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
