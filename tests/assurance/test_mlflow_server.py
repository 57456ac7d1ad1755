"""MLflow's page and a sync over HTTP, against a real server."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from passt_bench.records.run import (
    CellRecord,
    Fingerprint,
    RunRecord,
    StudyRecord,
    VariantRecord,
)
from passt_bench.records.store import Store
from passt_bench.runner.tracking import sync
from passt_bench.runner.tracking_uri import TrackingError
from passt_bench.spec import Recipe
from passt_bench.spec.key import digest

SERVE = (
    "import sys; from pathlib import Path; from passt_bench.runner.tracking_uri import serve_ui; "
)
SERVE += "serve_ui(Path(sys.argv[1]), int(sys.argv[2]))"


def write_study(root, name):
    fingerprint = Fingerprint("synthetic", "f" * 16, 1, 1, ("a",), True)
    store, key = Store(root), digest([name])
    cells = (CellRecord(key, 0, None),)
    variants = (VariantRecord("none", Recipe(), "a" * 16, cells),)
    store.write_study(StudyRecord(name, "?", "mAP", "none", variants, (0,), None, fingerprint))
    metrics = {"mAP": 0.75}
    store.write(RunRecord(key, "ok", Recipe(), 0, None, fingerprint, metrics=metrics))


@contextlib.contextmanager
def served(root):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(root), str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(urllib.error.URLError):
                if urllib.request.urlopen(f"{url}/health", timeout=5).status == 200:
                    break
            assert server.poll() is None
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


def metrics_of(url, experiment):
    body = json.dumps({"experiment_ids": [experiment]}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/runs/search", body, headers)
    runs = json.load(urllib.request.urlopen(request, timeout=20))["runs"]
    return [{item["key"]: item["value"] for item in run["data"].get("metrics", [])} for run in runs]


def test_the_page_serves_what_was_synced_and_takes_a_sync_over_http(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home, other = tmp_path / "home", tmp_path / "other"
    write_study(home, "first")
    write_study(other, "second")
    assert sync(home).created == 2
    with served(home) as url:
        page = urllib.request.urlopen(url, timeout=20).read().decode()
        assert "<title>MLflow" in page
        assert [m["mAP"] for m in metrics_of(url, "1")] == [0.75, 0.75]
        report = sync(other, tracking_uri=url)
        assert (report.created, report.unchanged) == (2, 0)
        assert sync(other, tracking_uri=url).unchanged == 2
        assert [m["mAP"] for m in metrics_of(url, "2")] == [0.75, 0.75]
        assert not (other / "mlflow.db").exists()
    write_study(other, "third")
    with pytest.raises(TrackingError, match="records are not affected"):
        sync(other, tracking_uri=url)
    with served(home) as again:
        report = sync(other, tracking_uri=again)
        assert (report.created, report.unchanged) == (2, 2)
    assert (home / "mlartifacts").is_dir()
