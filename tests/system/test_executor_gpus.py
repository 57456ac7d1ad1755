from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from passt_bench.runner.executor import Gpus, visible_gpus


@pytest.mark.parametrize(
    ("environment", "count", "names"),
    [
        ({}, 0, ()),
        ({}, 2, ("0", "1")),
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, 2, ("3", "5")),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8a, MIG-1/2 "}, 2, ("GPU-8a", "MIG-1/2")),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0, ()),
        ({"CUDA_VISIBLE_DEVICES": "0,9"}, 1, ("0",)),  # CUDA stops at one that is not there
    ],
)
def test_what_a_scheduler_chose_is_respected(
    environment: dict[str, str], count: int, names: tuple[str, ...]
) -> None:
    assert visible_gpus(environment, count) == names


@pytest.mark.parametrize(("gpus", "workers"), [(1, 4), (2, 3), (4, 16), (4, 2)])
def test_no_two_have_the_same_gpu(tmp_path: Path, gpus: int, workers: int) -> None:
    names = visible_gpus({}, gpus)
    held: Counter[str] = Counter()
    used: set[str] = set()
    most, guard = 0, threading.Lock()

    def work(shared: Gpus) -> None:
        nonlocal most
        with shared.one(lambda: False) as gpu:
            assert gpu is not None
            with guard:
                held[gpu] += 1
                assert held[gpu] == 1
                used.add(gpu)
                most = max(most, sum(held.values()))
            time.sleep(0.01)
            with guard:
                held[gpu] -= 1

    # Two invocations on one folder, each with workers of its own.
    invocations = [Gpus(names, tmp_path), Gpus(names, tmp_path)]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for future in [pool.submit(work, invocations[i % 2]) for i in range(3 * workers)]:
            future.result()
    assert most <= gpus
    assert used <= set(names)


def test_who_is_stopped_waits_no_longer(tmp_path: Path) -> None:
    shared = Gpus(("0",), tmp_path)
    with shared.one(lambda: False) as first, shared.one(lambda: True) as second:
        assert (first, second) == ("0", None)
    with shared.one(lambda: False) as third:
        assert third == "0"
