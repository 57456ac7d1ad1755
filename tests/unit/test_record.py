from __future__ import annotations

from pathlib import Path

import pytest

from passt_bench.records.files import pack_json, to_json, unpack_json
from passt_bench.records.run import Fingerprint, RunRecord
from passt_bench.records.store import Store
from passt_bench.spec import Recipe, override

KEY = "1" * 16
FINGERPRINT = Fingerprint("d", "abc", 2, 2, ("x", "y"), True, {"16000": 2}, (), {"g": ("x",)})


def _record(**changes: object) -> RunRecord:
    recipe = override(Recipe(), {"model.stride": (6, 6), "patchout.rate": 0.25})
    values: dict[str, object] = {"metrics": {"mAP": 0.1 + 0.2}, "curves": {"loss": (1.0, 0.5)}}
    return RunRecord(KEY, "ok", recipe, 3, 2, FINGERPRINT, **(values | changes))  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(_record(), samples={"a": [1.5]})
    assert store.run(KEY) == _record()
    assert unpack_json(store.folder(KEY) / "samples.json.gz") == {"a": [1.5]}
    assert list(store.records()) == [_record()]
    assert store.run("2" * 16) is None


def test_text_is_canonical() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(_record(metrics={"mAP": float("nan")}))
    assert pack_json({"b": 1, "a": 2}) == pack_json({"a": 2, "b": 1})
