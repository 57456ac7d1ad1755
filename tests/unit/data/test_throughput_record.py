"""The throughput tables of docs/measuring.md are those of the record beside it."""

from __future__ import annotations

import json

import throughput


def test_the_tables_are_those_of_the_record() -> None:
    record = json.loads(throughput.RECORD.read_text())
    document = throughput.DOCUMENT.read_text(encoding="utf-8")
    assert throughput.within(document) == throughput.tables_of(record)


def test_prepared_clips_are_twenty_times_as_fast_as_mp3() -> None:
    rows = json.loads(throughput.RECORD.read_text())["rows"]
    (row,) = [row for row in rows if row["stage"] == "ratio"]
    assert row["ratio_tenth"] >= 20
    assert row["threads"] == 1
