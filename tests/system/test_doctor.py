from pathlib import Path

import pytest

from passt_bench.registry import MODELS
from passt_bench.runner import doctor
from passt_bench.runner.doctor import examine


def _found(out: Path) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in examine(out)}


def test_it_tells_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(doctor.DATA_VARIABLE, raising=False)
    found = _found(tmp_path / "runs" / "deeper")
    assert found["real audio"].state == "note"
    assert found["disk"].detail.endswith("deeper")
    assert "cores" in found["processor"].detail
    assert "torch" in found["versions"].detail
    assert found["output folder"].state == "good"
    assert list(tmp_path.iterdir()) == []


def test_missing_things_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_table", {item.name: item for item in MODELS.all()})
    MODELS.register("wrapped", version=1, summary="another's", packages=("numpy", "a-package"))(1)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = _found(tmp_path)
    assert found["wrapped"].state == "missing"
    assert "a-package not installed" in found["wrapped"].detail
    assert found["wrapped"].remedy == "Install a-package to use it."
    assert "g++" in found["compiler"].remedy
    assert all(f.detail and f.remedy for f in found.values() if f.state == "missing")


def test_background_load_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = {"load": [0.1], "cores": 2, "other_cores": 0.0, "governor": "performance"}
    quiet |= {"throttled": "0", "gpus": [], "warnings": []}
    busy = quiet | {"other_cores": 1.4, "warnings": ["Other processes keep 1.4 of 2 cores busy"]}
    monkeypatch.setattr(doctor, "background_load", lambda seconds: quiet)
    assert _found(tmp_path)["other work"].state == "good"
    monkeypatch.setattr(doctor, "background_load", lambda seconds: busy)
    found = _found(tmp_path)["other work"]
    assert (found.state, found.detail) == ("note", "Other processes keep 1.4 of 2 cores busy")
    gpu = {"name": "NVIDIA X", "busy_percent": 40, "used_mib": 900, "slowed": 0}
    monkeypatch.setattr(doctor, "background_load", lambda seconds: quiet | {"gpus": [gpu]})
    found_gpu = _found(tmp_path)
    assert found_gpu["GPU 0"].state == "note"
    assert "slowed" not in found_gpu["GPU 0"].detail
    hot = gpu | {"busy_percent": 0, "used_mib": 0, "slowed": 0x40}
    monkeypatch.setattr(doctor, "background_load", lambda seconds: quiet | {"gpus": [hot]})
    assert _found(tmp_path)["GPU 0"].detail.endswith("slowed by power or heat")
    assert found_gpu["CUDA"].state == "missing"
