"""What long work shows."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from passt_bench import console
from passt_bench.console import plain_console, rough, stage


@pytest.mark.parametrize(("patience", "shown"), [(60.0, False), (0.01, True)])
def test_only_longer_work_is_shown_on_stderr(
    patience: float, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage(plain_console(stderr=True), "Looking", patience) as update:
        for share in (0.1, 0.5, 1.0):
            time.sleep(0.02)
            update(share, "")
    out, err = capsys.readouterr()
    assert (out, "Looking: done in" in err) == ("", shown)


@pytest.mark.parametrize("terminal", [True, False])
def test_work_that_goes_on_is_never_at_100_percent(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    out = io.StringIO()
    with stage(Console(file=out, force_terminal=terminal, width=100), "Working") as update:
        for share in (0.5, 0.996, 1.0):
            update(share, f"at {share}")
    text = out.getvalue()
    assert "at 1.0" in text
    assert "99" in text
    assert "100" not in text
    assert "Working: done in" in text


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_leaves_progress_out(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "quiet", quiet)
    out = io.StringIO()
    for terminal in (True, False):
        with stage(Console(file=out, force_terminal=terminal, width=100), "Working") as update:
            update(0.5, "half")
            print("a result")
    assert bool(out.getvalue()) == (not quiet)
    assert "a result" in capsys.readouterr().out + out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (45, "45 s"), (61, "1 min"), (239, "4 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_rough_durations(seconds: float, text: str) -> None:
    assert rough(seconds) == text
