"""A real study beside a server that is away, dies, hangs, answers 500 or cuts connections."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
from faulty_server import Proxy, client_at, content, mlflow_server

from passt_bench.records.store import Store
from passt_bench.runner.tracking import sync
from passt_bench.runner.tracking_uri import ANSWER_SECONDS, REACH_SECONDS

EPOCHS = 20
SLACK = 10.0  # for starting a process and importing on a busy machine
# fault → whether it begins at once or once the study is seen live, and how long the last sync of
# the run may take to find out. Where connections are cut, some answers may have to be awaited.
FAULTS = {
    "refuse": (False, SLACK),
    "dies": (True, SLACK),
    "hang": (True, REACH_SECONDS + SLACK),
    "stall": (False, ANSWER_SECONDS + SLACK),
    "500": (True, SLACK),
    "cut": (False, SLACK + 4),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server")) as port:
        yield port


@pytest.fixture(scope="module")
def plain():
    """Training seconds of the same study without tracking, repeated between the faults."""
    return []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The address of a store that no fault comes near."""
    return f"sqlite:///{tmp_path_factory.mktemp('undisturbed') / 'mlflow.db'}"


def start(name, out, track, url=""):
    command = [sys.executable, str(Path(__file__).with_name("live_study.py")), name, str(out)]
    command += [str(EPOCHS), "track" if track else "no"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": url}
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


def told(process):
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def wait_until_midway(url, name, process, out):
    """Until a cell in training is seen with points of its curve, or half of the cells are done.

    On two cores that train, the process beside gets what little is left, and may see nothing.
    """
    client = client_at(url)
    while process.poll() is None:
        if len(list(out.glob("records/*/record.json"))) >= 2:
            return
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            runs = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
            if any("train_loss" in run.data.metrics for run in runs):
                return
        time.sleep(0.3)
    pytest.fail("the study was over before its middle")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_nothing_and_one_sync_sets_all_right(
    fault, server, plain, undisturbed, tmp_path
):
    late, bound = FAULTS[fault]
    mode = "refuse" if fault == "dies" else fault
    if len(plain) < 3:
        plain.append(told(start("plain", tmp_path / "plain", track=False))["trained"])
    with contextlib.closing(Proxy(server, "pass" if late else mode)) as proxy:
        process = start(fault, tmp_path / "runs", True, proxy.url)
        if late:
            live_at = f"http://127.0.0.1:{server}"
            wait_until_midway(live_at, fault, process, tmp_path / "runs")
            proxy.turn(mode)
        cost = told(process)
        print(f"\n{fault}: {growth(cost, plain)}", flush=True)
        assert cost["ok"] and "records are not affected" in cost["message"]
        assert proxy.failed or mode == "refuse"
        assert cost["blocked"] < 0.02 * cost["trained"]
        assert cost["waited"] < bound
        if fault == "hang":
            again = told(start(fault, tmp_path / "runs", True, proxy.url))
            print(f"{fault}: a finished study again: {again['whole']:.1f} s", flush=True)
            assert again["blocked"] == 0 and again["waited"] < bound
        proxy.turn("pass")
        sync(tmp_path / "runs", tracking_uri=proxy.url)
        assert sync(tmp_path / "runs", tracking_uri=proxy.url).unchanged == 6
        delivered = content(f"http://127.0.0.1:{server}", fault)
    sync(tmp_path / "runs", tracking_uri=undisturbed)
    expected = content(undisturbed, fault)
    assert_complete(expected, Store(tmp_path / "runs").study(fault))
    assert delivered == expected


def growth(cost, plain):
    return (
        f"trained {cost['trained']:.2f} s, {100 * (cost['trained'] / median(plain) - 1):+.1f} % to "
        f"the median of {len(plain)} without; blocked while training {1000 * cost['blocked']:.0f} "
        f"ms; waited at the end {cost['waited']:.2f} s; CPU beside {cost['cpu_beside']:.2f} s"
    )


def assert_complete(found, study):
    cells = {cell.key for variant in study.variants for cell in variant.cells}
    assert len(cells) == 4 and cells < found.keys() and len(found) == 6
    for key in cells:
        assert [step for step, _ in found[key]["curves"]["train_loss"]] == [*range(1, EPOCHS + 1)]
        assert found[key]["artifacts"].keys() == {"record.json"}
        assert found[key]["status"] == "FINISHED"
