"""Patchout as text: what is read, what is written, what is refused."""

import pytest

from passt_bench.errors import InputError
from passt_bench.spec import Patchout
from passt_bench.spec.study import parse_patchout, patchout_text


def test_reading_and_writing() -> None:
    assert parse_patchout("structured:.75") == Patchout("structured", rate=0.75)
    assert parse_patchout("time:0") == Patchout("time", rate=0.0)
    assert parse_patchout("none") == Patchout()
    assert parse_patchout(None) is None
    text = patchout_text(Patchout("time", rate=0.5), [(10, 18), (10, 18)])
    assert text == "time:0.5, 10 of 18 tokens kept"
    counts = Patchout("structured", time=40, frequency=4)
    text = patchout_text(counts, [(474, 1190), (30, 66)])
    assert text == "structured:time=40,frequency=4, 474 of 1190 and 30 of 66 tokens kept"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("structrued:.5", "patchout kind", "structrued"),
        ("", "patchout kind", ""),
        ("time", "rate", "time"),
        ("time:", "rate", "time:"),
        *((f"time:{rate}", "rate", rate) for rate in ("1", "50", "-.1", "nan", "1/2")),
    ],
)
def test_wrong_text_names_option_value_and_remedy(text: str, field: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_patchout(text, "--against-patchout")
    found = caught.value
    assert (found.source, found.field, found.value) == ("--against-patchout", field, value)
    assert found.remedy and (found.value != "50" or "mean time:0.5?" in found.remedy)
