from __future__ import annotations

import json
from pathlib import Path

import pytest

from passt_bench.errors import InputError
from passt_bench.records.files import pack_json, read, to_json, unpack_json, write_atomically
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
    assert unpack_json((store.folder(KEY) / "samples.json.gz").read_bytes()) == {"a": [1.5]}
    assert list(store.records()) == [_record()]
    assert store.run("2" * 16) is None


def test_text_is_canonical() -> None:
    text = to_json(_record())
    assert text == to_json(_record())
    assert json.loads(text)["metrics"]["mAP"] == 0.1 + 0.2
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(_record(metrics={"mAP": float("nan")}))
    assert pack_json({"b": 1, "a": 2}) == pack_json({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:100], "not a complete JSON file"),
        (lambda text: text.replace('"schema":1', '"schema":99'), "schema = 99.*newer"),
        (lambda text: text.replace('"status":"ok"', '"status":"fine"'), "status"),
        (lambda text: "[]", "schema"),
    ],
)
def test_broken_records_are_named(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "record.json"
    assert callable(change)
    path.write_text(change(to_json(_record())))
    with pytest.raises(InputError, match=message) as error:
        read(RunRecord, path)
    assert str(path) in str(error.value)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x" / "f"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_an_unknown_study_says_how_to_run_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="passt-bench run nope"):
        Store(tmp_path).study("nope")
