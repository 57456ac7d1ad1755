"""Runs a small study in processes that are killed at chosen moments.

A program of its own: ``python killing.py FOLDER PLAN``. It imports everything once and starts the
fork server; each invocation of the study is then a fork of it, which saves the seconds of imports.
The children run this file as ``__mp_main__`` and find the next moment in their folder.

A moment is a JSON file: ``who`` is killed (``child``, ``parent``, or ``self`` for the parent in its
own writing), in which ``phase``, at which ``point``, and ``at`` which occurrence of that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

MOST_INVOCATIONS = 20  # for the moments of a batch, several of which one invocation may meet


class Moment:
    """The next kill of a folder, as far as this process has a part in it."""

    def __init__(self, folder: Path, whoes: tuple[str, ...]) -> None:
        self.wanted: dict[str, Any] = {}
        self.phase = "training"
        self.count = 0
        for path in sorted((folder / "moments").glob("*.json")):
            self.path = path
            try:
                wanted = json.loads(path.read_text())
            except OSError:  # another child has just taken it
                continue
            if wanted["who"] in whoes:
                self.wanted = wanted
            return

    def pass_by(self, point: str, before: Callable[[], None] = lambda: None) -> None:
        """Kills if this is the moment, itself after ``before`` has been done."""
        if (self.phase, point) != (self.wanted.get("phase"), self.wanted.get("point")):
            return
        self.count += 1
        if self.count != self.wanted["at"]:
            return
        try:
            self.path.rename(self.path.with_suffix(".done"))
        except FileNotFoundError:  # the other child was quicker
            return
        if self.wanted["who"] == "parent":
            import multiprocessing

            parent = multiprocessing.parent_process()
            assert parent is not None
            os.kill(parent.pid, signal.SIGKILL)  # and this process goes on as long as it may
        else:
            before()
            os.kill(os.getpid(), signal.SIGKILL)


def arm(folder: Path, whoes: tuple[str, ...]) -> None:
    from passt_bench.records.store import Store
    from passt_bench.runner import cells
    from passt_bench.training import checkpoint, evaluate
    from passt_bench.training.state import Training

    moment = Moment(folder, whoes)
    _watch_files(moment)
    _in_phase(moment, checkpoint, "save", "checkpoint")
    _in_phase(moment, Store, "write", "record")
    _in_phase(moment, Store, "write_study", "study")
    _in_phase(moment, Training, "count_step", "training")
    _in_phase(moment, evaluate, "predict", "evaluation")
    real = cells._run

    def run(cell: Any, *rest: Any) -> Any:
        if cell.variant == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        return real(cell, *rest)

    cells._run = run


def _in_phase(moment: Moment, owner: Any, name: str, phase: str) -> None:
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        before, moment.phase = moment.phase, phase
        try:
            moment.pass_by("before")
            result = real(*arguments, **named)
            moment.pass_by("after")
            return result
        finally:
            moment.phase = before

    setattr(owner, name, wrapped)


def _watch_files(moment: Moment) -> None:
    mkstemp, fsync, replace = tempfile.mkstemp, os.fsync, os.replace

    def make(*arguments: Any, **named: Any) -> Any:
        result = mkstemp(*arguments, **named)
        moment.pass_by("create")
        return result

    def sync(handle: int) -> None:
        # What a kill amid the writing leaves.
        moment.pass_by("cut", lambda: os.ftruncate(handle, os.fstat(handle).st_size // 2))
        fsync(handle)
        moment.pass_by("sync")

    def move(*arguments: Any, **named: Any) -> None:
        moment.pass_by("rename")
        replace(*arguments, **named)
        moment.pass_by("renamed")

    tempfile.mkstemp, os.fsync, os.replace = make, sync, move


def study(folder: Path) -> Any:
    """Cells of a tenth of a second: some good, one that diverges, one whose process dies."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
    import small_study

    from passt_bench.runner.studies import load_study

    variants = small_study.THREE.format(half=small_study.HALF) + small_study.DIVERGES
    file = small_study.write(
        folder, "small", variants=f'{variants}, Variant("dies", {{"salt": 3}})', seeds=(0, 1, 2),
        changes=f'{small_study.KILLED} "training.epochs": 3',
    )  # fmt: skip
    return load_study(str(file)).study


def invoke(folder: Path, study: Any, checkpoint_seconds: float) -> int:
    from rich.console import Console

    from passt_bench import processes
    from passt_bench.runner.datasets import Datasets
    from passt_bench.runner.plan import plan_study
    from passt_bench.runner.request import Paths, RunConfig
    from passt_bench.study_run import execute_plan

    # The fork server is not this process's child, so it could not ask how it is.
    processes.ensure_running = forkserver._forkserver.ensure_running = lambda: None
    sys.argv = [sys.argv[0], str(folder)]  # the children get this
    arm(folder, ("self",))
    paths = Paths(folder)
    plan = plan_study(study, Datasets(paths))
    options = RunConfig(cost=False, track=False, checkpoint_seconds=checkpoint_seconds)
    ended = execute_plan(plan, options, paths, Console(quiet=True))
    return 1 if any("did not finish" in sentence for sentence in ended) else 0


def forked(folder: Path, study: Any, checkpoint_seconds: float) -> int:
    """Invokes in a fork; the exit status, negative for a signal."""
    from passt_bench.runner import executor

    executor.fork_server()  # it died if a fork was killed amid asking it for a process
    pid = os.fork()
    if not pid:
        status = 70
        try:
            status = invoke(folder, study, checkpoint_seconds)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(root: Path, batches: list[list[dict[str, Any]]]) -> None:
    """Runs the study undisturbed, then through all moments; a new folder where one is finished."""
    from passt_bench.runner.datasets import Datasets
    from passt_bench.runner.plan import plan_study
    from passt_bench.runner.request import Paths

    warm, small = Paths(root / "plan"), study(root)
    plan_study(small, Datasets(warm))  # what is counted once, all forks know
    assert forked(root / "undisturbed", small, 1e9) == 0
    number = 0
    for batch, moments in enumerate(batches):
        for _ in range(MOST_INVOCATIONS):
            if not moments:
                break
            folder = root / f"killed-{number:02d}"
            (folder / "moments").mkdir(parents=True, exist_ok=True)
            for index, moment in enumerate(moments):
                path = folder / "moments" / f"{batch:02d}-{index:02d}.json"
                path.write_text(json.dumps(moment))
            status = forked(folder, small, moments[0]["checkpoint_seconds"])
            assert status in (0, 1, -signal.SIGKILL), status
            left = sorted((folder / "moments").glob(f"{batch:02d}-*.json"))
            moments = [json.loads(path.read_text()) for path in left]
            for path in left:
                path.unlink()
            if status == 0:
                number += 1  # nothing is left there to be killed in
        assert not moments, f"batch {batch}: {moments} did not come"
    for folder in sorted(root.glob("killed-*")):
        assert forked(folder, small, 1.0) == 0


if __name__ == "__mp_main__":
    arm(Path(sys.argv[1]), ("child", "parent"))
if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
