"""A real MLflow server, a proxy in front of it that fails in chosen ways, and what MLflow holds."""

import contextlib
import hashlib
import http.client
import math
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from passt_bench.runner.tracking import KEY, SETTINGS


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serving(command, port, **options):
    """Runs a command that serves MLflow at the port, from when it answers."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--port", str(port)], **quiet, **options)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                if urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            time.sleep(0.5)
        else:
            raise AssertionError("it does not serve")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def mlflow_server(folder):
    """Runs ``mlflow server`` with its artifacts behind it; yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", (folder / "artifacts").as_uri()]
    settings = {**os.environ, **SETTINGS, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving(command, port, env=settings):
        yield port


class Proxy:
    """In front of a server, on a port of its own; after some requests it begins to fail.

    Faults: ``refuse``: nobody listens; ``hang``: requests are taken and never answered; ``500``;
    ``cut``: every third request reaches the server, and half of its answer comes back.
    """

    def __init__(self, behind, fault, after=0):
        self.behind, self.fault, self.left = behind, fault, after
        self.port, self.asked, self.failed = free_port(), 0, 0
        self.released, self._server = threading.Event(), None
        if fault != "refuse" or after:
            self._server = _Server(("127.0.0.1", self.port), _Handler)
            self._server.proxy = self
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def fails(self):
        """Whether, and how, the next request fails."""
        self.left -= 1
        self.asked += 1
        if self.left >= 0:
            return None
        if self.fault == "refuse":
            self._stop()
        if self.fault == "cut" and self.asked % 3:
            return None
        self.failed += 1
        return self.fault

    def _stop(self):
        # A loop over a socket that is closed alone would take a core until its process ends.
        self._server.shutdown()
        self._server.server_close()

    def close(self):
        self.released.set()
        if self._server is not None:
            self._stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """A client that was killed leaves its connection."""


class _Handler(BaseHTTPRequestHandler):
    # One request a connection, so that a server that is gone is gone for everybody.
    protocol_version = "HTTP/1.0"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.fails()
        if fault == "hang":
            self.server.proxy.released.wait()
        elif fault == "500":
            self.answer(500, [("Content-Type", "text/plain")], b"broken")
        elif fault != "refuse":
            status, headers, answer = self.ask(body)
            sent = len(answer) // 2 if fault == "cut" else None
            self.answer(status, headers, answer, sent)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def ask(self, body):
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "host")}
        behind = http.client.HTTPConnection("127.0.0.1", self.server.proxy.behind, timeout=60)
        with contextlib.closing(behind):
            behind.request(self.command, self.path, body, headers)
            answer = behind.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def answer(self, status, headers, body, sent=None):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, format, *args):
        pass


def client_at(uri):
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def content(uri, study):
    """What a store holds of a study, by key; without the ids that only the store could give.

    Fails where a key has two runs.
    """
    client = client_at(uri)
    runs = client.search_runs([client.get_experiment_by_name(study).experiment_id])
    keys = {run.info.run_id: run.data.tags[KEY] for run in runs}
    assert len(set(keys.values())) == len(runs)
    return {keys[run.info.run_id]: _content_of(client, run, keys) for run in runs}


def _content_of(client, run, keys):
    run_id, tags = run.info.run_id, dict(run.data.tags)
    parent = tags.pop("mlflow.parentRunId", None)
    curves = {
        name: sorted((p.step, p.value) for p in client.get_metric_history(run_id, name))
        for name in run.data.metrics
        if tags["role"] == "cell"
    }
    artifacts = {}
    for file in client.list_artifacts(run_id):
        data = Path(client.download_artifacts(run_id, file.path)).read_bytes()
        artifacts[file.path] = hashlib.sha256(data).hexdigest()
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "end": run.info.end_time,
        "params": dict(run.data.params),
        # What a summary said early and no longer holds is NaN; elsewhere it was never said.
        "metrics": {name: v for name, v in run.data.metrics.items() if not math.isnan(v)},
        "tags": {name: text for name, text in tags.items() if not name.startswith("mlflow.")},
        "parent": keys[parent] if parent else None,
        "curves": curves,
        "artifacts": artifacts,
    }
