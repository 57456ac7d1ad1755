"""What long work shows."""

from __future__ import annotations

import time

import pytest

from passt_bench.console import late_stage


def test_short_work_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with late_stage("Looking", patience=60) as update:
        for share in (0.0, 0.5, 1.0):
            update(share)
    assert capsys.readouterr() == ("", "")


def test_longer_work_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with late_stage("Looking", patience=0.01) as update:
        for share in (0.1, 0.5, 1.0):
            time.sleep(0.02)
            update(share)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Looking: done in" in err
