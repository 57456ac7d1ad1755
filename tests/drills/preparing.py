"""Prepares a data set in processes that are killed at chosen moments.

A program of its own: ``python preparing.py FOLDER``, where FOLDER/data holds recordings with a
manifest. It imports everything and starts the fork server once; each preparation is then a fork of
it, which saves the seconds of imports. A moment is the n-th time that a file of a certain name is
synced; some of what was written is cut off first, as a kill in the midst of writing leaves it.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

RATE = 8000
SHARD = 60  # clips, of 500
WORKER = "worker"  # a moment at which a decoding process is killed, and not the command
TIDY = "tidy"  # a moment after the index has been written
Moment = tuple[str, int]  # part of a file's name, which sync of it
_draw = random.Random(20261124)
# Six kills of the command, spread over the work, and one of a process that decodes.
MOMENTS: tuple[Moment, ...] = (
    ("waveforms-000000.i16", 1),
    ("waveforms-", 2 * _draw.randint(1, 2)),  # a list of clips
    (WORKER, _draw.randint(1, 2)),
    ("waveforms-", _draw.randint(3, 4)),
    ("clips.npz", 1),
    ("prepared.json", 1),
    (TIDY, 1),
)


def watch(moment: Moment) -> None:
    from passt_bench.runner import prepare_data

    name, number = moment
    count = 0
    real_sync, real_list = os.fsync, prepare_data.write_atomically

    def has_come() -> bool:
        nonlocal count
        count += 1
        return count == number

    def sync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if name in path.name and has_come():
            size = os.fstat(handle).st_size
            os.truncate(path, size - random.Random(size).randint(0, min(size, 9)))
            os.kill(os.getpid(), signal.SIGKILL)
        real_sync(handle)

    def write_list(*arguments: Any) -> None:
        import psutil

        real_list(*arguments)
        if has_come():
            for child in multiprocessing.active_children():
                with suppress(psutil.NoSuchProcess):  # the pool ends the others itself
                    psutil.Process(child.pid).kill()

    def tidy(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if name == WORKER:
        prepare_data.write_atomically = write_list
    elif name == TIDY:
        prepare_data._remove_leftovers = tidy
    else:
        os.fsync = sync


def prepare(root: Path, out: Path, moment: Moment | None) -> int:
    """One preparation in a fork; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        from passt_bench.errors import InputError
        from passt_bench.runner import prepare_data

        prepare_data._SHARD = SHARD
        if moment is not None:
            watch(moment)
        try:
            asked = prepare_data.Preparation("manifest", root / "data", RATE, out, workers=2)
            prepare_data.prepare_data(asked)
        except InputError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root: Path) -> None:
    """Prints a line per invocation: moment, how it ended, whether the folder counts as prepared."""
    from multiprocessing import forkserver

    from passt_bench import processes
    from passt_bench.runner import executor

    executor.fork_server()
    # The forks use this one; it is not their child, so they could not ask how it is.
    processes.ensure_running = forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]
    print("undisturbed", prepare(root, root / "undisturbed", None))
    for moment in MOMENTS:
        ended = prepare(root, root / "killed", moment)
        print(moment[0], ended, (root / "killed" / "prepared.json").exists())
    print("last", prepare(root, root / "killed", None))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
