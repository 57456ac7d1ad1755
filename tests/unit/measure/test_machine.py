import getpass
import json
import multiprocessing
import platform
import subprocess
import time
from pathlib import Path

import pytest
import torch

from passt_bench.measure import machine
from passt_bench.measure.flops import matmul_peak
from passt_bench.measure.machine import (
    background_load,
    changes,
    describe_machine,
    git_commit,
    library_versions,
    own_seconds,
    parse_gpus,
)


def test_the_machine_is_described_without_names() -> None:
    machine = describe_machine()
    assert machine == describe_machine()  # it enters keys
    assert {"cpu", "cores", "memory_gib", "system", "python"} <= set(machine)
    text = json.dumps(machine)
    assert machine == json.loads(text)  # as it comes back from a record
    assert platform.node() not in text
    assert getpass.getuser() not in text.split()


def test_versions_name_torch() -> None:
    assert library_versions()["torch"] == torch.__version__


def test_the_commit_is_a_hash_or_unknown() -> None:
    commit = git_commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40


def test_a_rendered_report_makes_no_other_source(tmp_path: Path) -> None:
    package, page = tmp_path / "passt_bench", tmp_path / "reports" / "page.html"
    for file in (package / "__init__.py", page):
        file.parent.mkdir()
        file.write_text("first")
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    commit = git_commit(package)
    assert commit is not None and len(commit) == 40
    page.write_text("second")
    assert git_commit(package) == commit
    (package / "__init__.py").write_text("second")
    assert git_commit(package) == f"{commit}-dirty"


def _burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_own_children_do_not_count_as_others() -> None:
    before = own_seconds()
    child = multiprocessing.get_context("forkserver").Process(target=_burn, args=(60,), daemon=True)
    child.start()
    deadline = time.monotonic() + 30
    while own_seconds() < before + 0.5 and time.monotonic() < deadline:
        time.sleep(0.05)
    found = own_seconds()
    child.kill()
    child.join()
    child.close()
    assert found >= before + 0.5


def test_warnings_are_sentences() -> None:
    state = background_load(0.05)
    assert {"load", "cores", "other_cores", "stolen_cores", "warnings"} <= set(state)
    json.dumps(state)
    busy = {**state, "warnings": ["Busy."], "throttled": "3"}
    both = changes(busy, {**busy, "throttled": "4"})
    assert both["warnings"] == ["Busy.", "The CPU was throttled by heat during the session."]


def test_gpu_lines_are_read() -> None:
    text = (
        "NVIDIA H100 80GB HBM3, 37, 1024, 0x0000000000000040, 1980, 652.31, 580.159.04\n"
        "GPU, B, [N/A], [N/A], [N/A], [N/A], [N/A], 580.1\n"
    )
    first, second = parse_gpus(text)
    assert first == {
        "name": "NVIDIA H100 80GB HBM3", "busy_percent": 37, "used_mib": 1024, "slowed": 0x40,
        "clock_mhz": 1980, "power_watts": 652.31, "driver": "580.159.04",
    }  # fmt: skip
    assert second == {
        "name": "GPU, B", "busy_percent": 0, "used_mib": 0, "slowed": 0,
        "clock_mhz": 0, "power_watts": 0.0, "driver": "580.1",
    }  # fmt: skip
    assert parse_gpus("") == []


def test_a_gpu_that_was_busy_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, idle = ({"name": "X", "busy_percent": n, "used_mib": 0, "slowed": 0} for n in (99, 0))
    for looks, warned in (([[busy], [idle]], False), ([[busy], [busy]], True), ([[idle]], False)):
        left = list(looks)
        monkeypatch.setattr(machine, "query_gpus", lambda left=left: left.pop(0))
        monkeypatch.setattr(machine, "_GPU_USE_WINDOW", 0.0)
        assert any("busy with" in text for text in background_load(0.0)["warnings"]) is warned
        assert left == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_matmul_peak_is_the_best_of_its_sizes(precision: str) -> None:
    torch.set_num_threads(1)
    rate = matmul_peak(torch.device("cpu"), precision, ((8, 8, 8), (256, 256, 256)), 0.05)
    assert 1e8 < rate < 1e14
