"""A sync that is killed at any moment leaves nothing that the next one cannot finish."""

import math
import multiprocessing
import random
import time

import psutil
import pytest
from faulty_server import content, mlflow_server

from passt_bench.records.run import (
    CellRecord,
    Fingerprint,
    RunRecord,
    StudyRecord,
    VariantRecord,
)
from passt_bench.records.store import Store
from passt_bench.runner.background_sync import live
from passt_bench.runner.tracking import sync
from passt_bench.runner.tracking_uri import database, local_uri
from passt_bench.spec import Recipe
from passt_bench.spec.key import digest

CELLS, EPOCHS = 8, 40
KILLS = 6  # in each of three places


def write_study(root, name):
    fingerprint = Fingerprint("synthetic", "f" * 16, 1, 1, ("a",), True)
    keys = [digest([name, seed]) for seed in range(CELLS)]
    cells = tuple(CellRecord(key, seed, None) for seed, key in enumerate(keys))
    variants = (VariantRecord("none", Recipe(), "a" * 16, cells),)
    seeds = tuple(range(CELLS))
    store = Store(root)
    store.write_study(StudyRecord(name, "?", "mAP", "none", variants, seeds, None, fingerprint))
    for seed, key in enumerate(keys):
        record = RunRecord(
            key,
            "ok",
            Recipe(),
            seed,
            None,
            fingerprint,
            metrics={"mAP": 0.5 + seed / 100, "accuracy": 0.5},
            curves={"train_loss": tuple(math.exp(-epoch / 9 - seed) for epoch in range(EPOCHS))},
            finished="2026-11-20T10:00:00+00:00",
            clocks={"train": 20.0},
        )
        store.write(record)


def imported_sync(root, uri, ready):
    """What a killed process does; MLflow is loaded before the clock starts."""
    import mlflow.tracking  # noqa: F401

    ready.set()
    sync(root, tracking_uri=uri)


def start(root, uri):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["passt_bench.runner.tracking", "mlflow.tracking"])
    ready = context.Event()
    process = context.Process(target=imported_sync, args=(root, uri, ready))
    process.start()
    assert ready.wait(120)
    return process


def seconds(root, uri):
    """How long a sync takes that nobody kills."""
    process, started = start(root, uri), time.monotonic()
    process.join(120)
    assert process.exitcode == 0
    return time.monotonic() - started


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server")) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('undisturbed') / 'mlflow.db'}"


@pytest.mark.parametrize("where", ["fresh", "made", "server"])
def test_killed_at_seeded_moments(where, server, undisturbed, tmp_path, monkeypatch):
    """``fresh``: the database is yet to be made; ``made``: it is there, without a run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    draw, kills, longest = random.Random(f"7-{where}"), 0, 0.0
    if where == "made":
        empty_database(tmp_path / "empty.db")
    number = 0
    while kills < KILLS:
        name, root = f"{where}{number}", tmp_path / str(number)
        write_study(root, name)
        uri = server if where == "server" else local_uri(root)
        if where == "made":
            database(root).write_bytes((tmp_path / "empty.db").read_bytes())
        if number == 0:
            longest = seconds(root, uri)
        else:
            process, started = start(root, uri), time.monotonic()
            process.join(draw.uniform(0, longest))
            process.kill()
            process.join()
            kills += process.exitcode == -9
            if process.exitcode == 0:  # on a machine that is not steady
                longest = min(longest, time.monotonic() - started)
        sync(root, tracking_uri=uri)
        assert sync(root, tracking_uri=uri).unchanged == CELLS + 1
        sync(root, tracking_uri=undisturbed)
        expected = content(undisturbed, name)
        assert len(expected) == CELLS + 1
        assert content(uri, name) == expected
        assert not list(root.glob(".mlflow-*"))
        number += 1
        assert number < 4 * KILLS
    print(f"\n{where}: {kills} killed within {longest:.2f} s of a sync", flush=True)


def empty_database(path):
    from mlflow.tracking import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()


def test_the_process_beside_a_run_takes_no_more_than_its_share(tmp_path, monkeypatch):
    """At rest = 4, a fifth of a core; a busy machine only makes it less."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_study(tmp_path, "share")
    sync(tmp_path)

    def used():
        times = process.cpu_times()
        return times.user + times.system

    def wait(done):
        end = time.monotonic() + 120
        while not done():
            assert time.monotonic() < end
            time.sleep(0.1)

    def rests():
        before = used()
        time.sleep(2)
        return before == used() > 0

    others = set(psutil.Process().children())  # such as the helper of earlier tests' processes
    with live(tmp_path, first=0.0, every=0.0, rest=4.0):
        (process,) = set(psutil.Process().children()) - others
        wait(rests)  # the first time for long, for the imports count
        before = used()
        wait(lambda: used() > before)  # from here on it works and rests within a second or two
        since, before = time.monotonic(), used()
        time.sleep(30)
        share = (used() - before) / (time.monotonic() - since)
    print(f"\n{100 * share:.1f} % of a core", flush=True)
    assert 0 < share < 0.22
