"""A tracking server does not choose where files are written on this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tracked_study import write_all

from passt_bench.errors import InputError
from passt_bench.runner.tracking import sync


class _Server(BaseHTTPRequestHandler):
    """Answers like MLflow; asked again where a run's artifacts are, it names a local folder."""

    def handle_any(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        first, later = self.server.places  # type: ignore[attr-defined]
        info = {"run_id": "a" * 32, "experiment_id": "1", "status": "RUNNING"}
        info["artifact_uri"] = first if "runs/create" in self.path else later
        experiment = {"experiment_id": "1", "name": "small", "lifecycle_stage": "active"}
        answer: dict[str, Any] = {"run": {"info": info, "data": {}}}
        if "experiments" in self.path:
            answer = {"experiment": experiment}
        elif "runs/search" in self.path:
            answer = {"runs": []}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_GET = do_POST = do_PATCH = do_PUT = handle_any  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    "place", ["file://{}", "{}", "FILE:{}", "runs:/{}", "", "mlflow-artifacts:/"]
)
def test_a_server_does_not_choose_where_files_are_written(place: str, tmp_path: Path) -> None:
    elsewhere, runs = tmp_path / "elsewhere", tmp_path / "runs"
    elsewhere.mkdir()
    write_all(runs, seeds=(0,))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        server.places = place.format(elsewhere), f"file://{elsewhere}"  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        if place.startswith("mlflow"):
            sync(runs, tracking_uri=address)
        else:
            with pytest.raises(InputError) as caught:
                sync(runs, tracking_uri=address)
            assert (caught.value.source, caught.value.field) == (address, "artifact_uri")
        server.shutdown()
    assert not any(elsewhere.iterdir())
