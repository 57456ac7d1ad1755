"""Sizes that a file or a server states are no sizes of this process: refused before they are."""

from __future__ import annotations

import gzip
import io
import json
import resource
import socket
import threading
import time
import wave
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch
from fixtures import Cli
from safetensors import safe_open
from safetensors.torch import save_file
from small_model import write_model
from tracked_study import write_all

from passt_bench.data import openmic
from passt_bench.data.hdf5 import open_hdf5
from passt_bench.data.prepared import read_clips
from passt_bench.errors import InputError
from passt_bench.models.ensemble import build_ensemble
from passt_bench.models.weights.formats import read_tensors
from passt_bench.models.weights.model_file import read_model
from passt_bench.records.files import unpack_json
from passt_bench.records.store import read_record
from passt_bench.runner import bounded_answers, cluster
from passt_bench.runner.predict import find_audio, predict_files
from passt_bench.runner.tracking import SETTINGS, sync
from passt_bench.spec.recipe import DataSpec
from passt_bench.training import checkpoint
from passt_bench.training.engine import CPU

GROWTH = 1 << 30  # bytes


@pytest.fixture(autouse=True)
def _no_growth() -> Iterator[None]:
    """No case takes long or makes the process grow."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < GROWTH
    assert time.monotonic() - began < 10


def refused(act: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as caught:
        act()
    assert caught.value.remedy
    return caught.value


def _deflated(path: Path) -> None:
    torch.save({"w": torch.zeros(1 << 20)}, path.with_suffix(".whole"))
    with zipfile.ZipFile(path.with_suffix(".whole")) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in parts.items():
            packed.writestr(name, data)


SHARED = torch.zeros(1000)
TENSORS: dict[str, Callable[[Path], None]] = {
    "stride of zero": lambda path: torch.save(
        {"w": torch.zeros(1).as_strided((10**12,), (0,))}, path
    ),
    "one piece, many tensors": lambda path: torch.save(
        dict.fromkeys(map(str, range(99)), SHARED), path
    ),
    "deflated": _deflated,
}


@pytest.mark.parametrize("what", TENSORS)
def test_tensors_take_at_most_four_times_their_file(what: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    TENSORS[what](path)
    error = refused(lambda: read_tensors(path))
    assert error.source == path and "bytes of memory, but the file has" in error.problem


def test_weights_under_many_names_are_looked_for_once(tmp_path: Path) -> None:
    found: Any = {"w": torch.zeros(1)}
    for _ in range(4):
        found = {f"ema_{number}": found for number in range(300)}
    torch.save(found, tmp_path / "w.pt")
    assert [*read_tensors(tmp_path / "w.pt").tensors] == ["w"]


class _Bytes:
    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (1 << 31,)


@pytest.mark.parametrize("zipped", [True, False])
def test_bytes_of_a_stated_number_are_not_made(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"w": _Bytes()}, path, _use_new_zipfile_serialization=zipped)
    error = refused(lambda: read_tensors(path))
    assert (error.source, error.field) == (path, "bytearray")


ZEROS, SMALL = np.zeros(1 << 27, np.int8), np.zeros(1, np.int8)
ARCHIVES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "OpenMIC's labels": ("Y_true", lambda path: openmic._labels(path, 1)),
    "OpenMIC's names": ("sample_key", lambda path: openmic._labels(path, 1)),
    "prepared clips": ("names", lambda path: read_clips(path.parent, None)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives_unpack_to_at_most_four_times_their_size(what: str, tmp_path: Path) -> None:
    path, (name, read) = tmp_path / "clips.npz", ARCHIVES[what]
    members: dict[str, Any] = {"Y_true": SMALL, "Y_mask": SMALL, name: ZEROS}
    np.savez_compressed(path, **members)
    error = refused(lambda: read(path))
    assert error.source == path and "bytes of memory, but the file has" in error.problem


def test_a_shape_without_content_takes_nothing(tmp_path: Path) -> None:
    head = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(head, shape)
    with zipfile.ZipFile(tmp_path / "clips.npz", "w") as archive:
        for name in ("offsets", "Y_true"):
            archive.writestr(f"{name}.npy", head.getvalue())
    for _, read in ARCHIVES.values():
        path = tmp_path / "clips.npz"
        assert refused(partial(read, path)).source == path


def test_a_checkpoint_unpacks_to_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / checkpoint.LATEST, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", ZEROS.tobytes())
    assert checkpoint.load(tmp_path, ("key", 1)) is None
    assert "bytes of memory, but the file has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.depth", 10**7), ("model.depth", 100), ("model.width", 2**14),
        ("model.frames", 10**12), ("frontend.mels", 10**9), ("frontend.n_fft", 2**40),
        ("data.seconds", 1e12), ("frontend.sampling_rate", 1),
    ],
)  # fmt: skip
def test_metadata_build_no_model_beyond_their_tensors(
    field: str, value: float, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "w", ["a", "b"])
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        ((mark, text),) = file.metadata().items()
    facts, (part, name) = json.loads(text), field.split(".")
    facts["recipe"][part][name] = value
    save_file(tensors, path, {mark: json.dumps(facts)})
    error = refused(lambda: read_model(path))
    assert error.source == path


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5])
def test_json_is_flat(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    assert refused(lambda: read_record(path, in_store=False)).source == path


@pytest.mark.parametrize("value", ["[]", "{}", '""', "1", '{"":0}'])
def test_json_has_no_more_values_than_memory_takes(value: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("[" + f"{value}," * 5_000_000 + "0]")
    error = refused(lambda: read_record(path, in_store=False))
    assert error.source == path and "holds more than 4,000,000 values" in error.problem


def test_json_is_small(tmp_path: Path) -> None:
    path, packed = tmp_path / "record.json", tmp_path / "samples.json.gz"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no place on the disk
    packed.write_bytes(gzip.compress(bytes(65 << 20), 1))
    for what, read in ((path, lambda: read_record(path)), (packed, lambda: unpack_json(packed))):
        error = refused(read)
        assert error.source == what and "larger than 64 MiB" in error.problem


@pytest.mark.parametrize("allocate", [torch.empty, np.empty, bytearray])
def test_an_error_of_an_allocator_is_a_sentence(
    allocate: Callable[[int], object], monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setattr("passt_bench.cli.app", lambda **options: allocate(1 << 50))
    code, said = cli("show", "quick")
    assert code == 2 and said.startswith("error: memory ran out. Choose smaller")


def _never_written(file: h5py.File, path: Path) -> None:
    file.create_dataset("mp3", (2**32,), h5py.vlen_dtype(np.uint8))


def _link(file: h5py.File, path: Path) -> None:
    file["mp3"] = h5py.ExternalLink(str(path.with_name("other.hdf")), "mp3")


def _soft_link(file: h5py.File, path: Path) -> None:
    file["mp3"] = h5py.SoftLink("/elsewhere")


def _raw_storage(file: h5py.File, path: Path) -> None:
    place = [(str(path.with_name("secret")), 0, 2)]
    file.create_dataset("mp3", (2,), np.uint8, external=place)


@pytest.mark.parametrize("make", [_never_written, _link, _soft_link, _raw_storage])
def test_hdf5_holds_its_own_rows(make: Callable[[h5py.File, Path], None], tmp_path: Path) -> None:
    path = tmp_path / "train.hdf"
    (tmp_path / "secret").write_bytes(b"ab")
    with h5py.File(path, "w") as file:
        file["audio_name"], file["target"] = np.array([b"a", b"b"]), np.zeros((2, 1), np.uint8)
        make(file, path)
    error = refused(
        lambda: open_hdf5(DataSpec(), 16000, name="x", files={"train": (path,)}, classes=["c"])
    )
    assert (error.source, error.field) == (path, "mp3")


@pytest.mark.parametrize("rate", [1, 999, 768_001])
def test_a_recording_of_a_strange_rate_stops_no_other(rate: int, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(8000))
    soundfile.write(tmp_path / "b.wav", np.zeros(8000), 16000)
    ensemble = build_ensemble(write_model(tmp_path / "w", ["a", "b"]))
    strange, fine = predict_files(ensemble, find_audio([tmp_path])[0], None, CPU)
    assert f"{rate} Hz" in str(strange.error) and not fine.error


ANSWERS = {
    "without end": (200, b"", b" " * (1 << 16)),
    "drips": (200, b"", b" "),
    "drips headers": (0, b"", b"H"),
    "compressed": (200, b"gzip", b""),
    "garbage": (200, b"", None),
    "nested": (200, b"", None),
}


class _Server(BaseHTTPRequestHandler):
    def handle_any(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        what = self.server.what  # type: ignore[attr-defined]
        status, encoding, piece = ANSWERS[what]
        if status:
            self.send_response(status)
            if encoding:
                self.send_header("Content-Encoding", encoding.decode())
            self.end_headers()
        if piece is None:
            self.wfile.write(b"[" * 10**5 if what == "nested" else b"\x1b[31m{")
        while piece and not self.server.ended.wait(0.0 if len(piece) > 1 else 0.05):  # type: ignore[attr-defined]
            self.wfile.write(piece)

    do_GET = do_POST = handle_any  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client has left."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_all(root)
    return root


@pytest.mark.parametrize("what", ANSWERS)
def test_a_server_answers_in_bounds(what: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_answers, "MAX_SECONDS", 0.4)
    monkeypatch.setattr(bounded_answers, "MAX_BYTES", 1 << 20)
    with _Quiet(("127.0.0.1", 0), _Server) as server:
        server.what, server.ended = what, threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        error = refused(lambda: sync(runs, tracking_uri=address))
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
    assert error.source == address
    said = {"without end": "longer", "drips": "takes longer", "compressed": "is compressed"}
    assert said.get(what.removesuffix(" headers"), "JSON") in error.problem


@contextmanager
def _saying(what: bytes) -> Iterator[str]:
    """The address of a server that says so, and no more."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    opened.enter_context(server.accept()[0]).sendall(what)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)  # ends the wait for another one
        thread.join()


@pytest.mark.parametrize("what", [b"", b"\x1b[31m garbage"])
def test_what_is_no_scheduler_is_waited_for_in_bounds(
    what: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_CONNECT", 0.4)
    with _saying(what) as address:
        error = refused(cluster._connect(address).__enter__)
    assert (error.field, error.value) == ("--dask", address)


def test_a_database_is_waited_for_in_bounds(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    assert 2 <= float(SETTINGS["PGCONNECT_TIMEOUT"]) <= 30
    monkeypatch.setitem(SETTINGS, "PGCONNECT_TIMEOUT", "2")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "")  # to be removed again afterwards
    monkeypatch.delenv("PGCONNECT_TIMEOUT")
    with _saying(b"") as place:
        address = f"postgresql://{place}/x"
        assert refused(lambda: sync(runs, tracking_uri=address)).source == address


@pytest.mark.parametrize("address", ["http://[::1", "http://a b", "nonsense", "foo://bar"])
def test_an_address_that_is_none_is_a_sentence(address: str, runs: Path) -> None:
    assert refused(lambda: sync(runs, tracking_uri=address)).source == address
