"""Downloads from a server on this machine: whole, broken off, wrong, changed, away."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import small_weights
import torch

from passt_bench.errors import InputError
from passt_bench.models import load_weights
from passt_bench.models.weights.model_file import check_published
from passt_bench.published_weights import (
    PUBLISHED,
    Published,
    find_published,
    get,
    locate,
)


@dataclass
class Server:
    url: str = ""
    content: bytes = b""
    break_after: int | None = None  # bytes of a body, once
    status: int = 200
    asked: int = 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            if state.status != 200:
                self.send_error(state.status)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()
            cut, state.break_after = state.break_after, None
            self.wfile.write(state.content[:cut])

        def log_message(self, *words: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def entry(server: Server, tmp_path: Path) -> Published:
    path = small_weights.save(tmp_path / "source.pt", small_weights.passt(stride=14))
    server.content = path.read_bytes()
    real = PUBLISHED["passt_s_p16_s14_128_ap469"]
    return replace(real, url=f"{server.url}/{real.file}", width=64, depth=1)


def test_a_file_arrives_whole_and_checked(server: Server, entry: Published, tmp_path: Path) -> None:
    folder, shares = tmp_path / "w", []
    path = get(entry, check_published, folder, lambda share, text: shares.append(share))
    assert path.read_bytes() == server.content
    assert shares[-1] == 1.0
    assert get(entry, check_published, folder) == path
    assert server.asked == 1  # what is there is not downloaded again
    assert {p.name for p in folder.iterdir() if p.name[0] != "."} == {entry.file}


def test_a_broken_download_is_absent(server: Server, entry: Published, tmp_path: Path) -> None:
    server.break_after = 1000
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        get(entry, check_published, tmp_path)
    assert str(tmp_path / entry.file) in str(caught.value)  # what to put where
    assert [path for path in tmp_path.iterdir() if path.name.startswith(entry.file)] == []
    assert get(entry, check_published, tmp_path).read_bytes() == server.content


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"stride": 10}, "stride"),
        ({"frames": 2000}, "frames"),
        ({"depth": 2}, "depth"),
        ({"width": 128}, "width"),
        ({"labels": "openmic"}, "classes"),
        ({"labels": "imagenet"}, "parameters"),
        ({}, None),  # a web page
    ],
)
def test_another_file_under_the_name_is_refused(
    server: Server, entry: Published, tmp_path: Path, change: dict[str, Any], field: str | None
) -> None:
    if not change:
        server.content = b"<!DOCTYPE html><p>Sign in first"
    with pytest.raises(InputError, match="not the published file") as caught:
        get(replace(entry, **change), check_published, tmp_path)
    assert caught.value.field == field
    assert not (tmp_path / entry.file).exists()


def test_without_a_network_it_says_what_to_put_where(
    server: Server, entry: Published, tmp_path: Path
) -> None:
    away = replace(entry, url="http://127.0.0.1:9/" + entry.file)
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        get(away, check_published, tmp_path)
    assert caught.value.source == away.url
    reason = caught.value.problem.removeprefix("could not be downloaded (")
    assert "Connection refused" in reason and len(reason) < 90 and "object at" not in reason
    assert str(tmp_path / entry.file) in str(caught.value)
    server.status = 404
    with pytest.raises(InputError, match="404"):
        get(entry, check_published, tmp_path)


def test_names_and_file_names_are_found_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(tmp_path))
    entry = PUBLISHED["passt_s_swa_p16_128_ap476"]
    with pytest.raises(InputError, match="not on this machine") as caught:
        locate(entry.name)
    assert caught.value.source == tmp_path / entry.file
    assert entry.url in str(caught.value)
    source = small_weights.passt()
    small_weights.save(tmp_path / entry.file, source)
    assert locate(entry.name) == locate(entry.file) == tmp_path / entry.file
    net = small_weights.randomised(small_weights.passt(), 3)
    load_weights(net, entry.name)
    assert torch.equal(net.cls_token, source.cls_token)


def test_the_table_holds_every_released_file() -> None:
    files = [entry.file for entry in PUBLISHED.values()]
    assert len(files) == len(set(files)) == 28
    for entry in PUBLISHED.values():
        assert entry.averaged or "swa" not in entry.file
        named = re.search(r"-s(\d+)-", entry.file)
        assert named is None or entry.stride in (int(named[1]), None)
    with pytest.raises(InputError, match="Did you mean 'passt_20sec'"):
        find_published("passt_20se")
