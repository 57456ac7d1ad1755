"""MLflow's own page, on this machine alone."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

from passt_bench.errors import InputError
from passt_bench.import_path import VARIABLE
from passt_bench.runner.address import (
    SETTINGS,
    TrackingError,
    database,
    holds_data,
    local_uri,
    store_uri,
    without_password,
)


def serve_ui(root: Path, port: int = 5000) -> NoReturn:
    """Becomes MLflow's page over the runs of an output folder, on 127.0.0.1.

    Raises:
        InputError: nothing was synced here.
        TrackingError: the runs live on a server that has a page of its own.
    """
    uri = store_uri(root)
    if uri.startswith("http"):
        raise TrackingError(
            "the runs are on a server with a page of its own",
            source="MLFLOW_TRACKING_URI",
            remedy=f"Open {without_password(uri)}",
        )
    if uri == local_uri(root) and not holds_data(database(root)):
        raise InputError(
            "no MLflow store here",
            source=root,
            remedy=f"Run a study first, or: passt-bench sync --out {root}",
        )
    # The server's job runners would be eight more processes, for things that are not used here.
    settings = {**SETTINGS, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # Not among the words of the command, which everybody on the machine can read: it may hold a
    # password.
    settings["MLFLOW_BACKEND_STORE_URI"] = uri
    artifacts = (root.resolve() / "mlartifacts").as_uri()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--default-artifact-root", artifacts]
    settings[VARIABLE] = "1"
    # Uvicorn, which MLflow starts, puts the current folder first by itself; it gets the folder
    # that is first on the path of the passt-bench command.
    settings["UVICORN_APP_DIR"] = sysconfig.get_path("scripts")
    os.execve(sys.executable, command, settings)
