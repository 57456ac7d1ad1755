"""Patchout as text: what is read, what is written, what is refused."""

import pytest

from passt_bench.errors import InputError
from passt_bench.spec import Patchout
from passt_bench.spec.patchout_text import parse_patchout, patchout_text


def test_reading_and_writing() -> None:
    assert parse_patchout("structured:.75") == Patchout("structured", rate=0.75)
    assert parse_patchout("time:0") == Patchout("time", rate=0.0)
    assert parse_patchout("none") == Patchout()
    text = patchout_text(Patchout("time", rate=0.5), [(10, 18), (10, 18)])
    assert text == "patchout time:0.5, 10 of 18 tokens kept"
    counts = Patchout("structured", time=40, frequency=4)
    text = patchout_text(counts, [(474, 1190), (30, 66)])
    assert text == "patchout structured:time=40,frequency=4, 474 of 1190 and 30 of 66 tokens kept"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("structrued:.5", "structrued"),
        ("", ""),
        *((text, text) for text in ("time", "time:", "time:1", "time:-.1", "time:nan", "time:1/2")),
    ],
)
def test_wrong_text_names_option_value_and_remedy(text: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_patchout(text, "--against-patchout")
    assert (caught.value.field, caught.value.value) == ("--against-patchout", value)
    assert caught.value.remedy
