"""Class names as the authors of the data sets order them."""

from __future__ import annotations

import pytest

from passt_bench.vocabulary import audioset_ids, built_in, class_names


@pytest.mark.parametrize(
    ("data", "count", "first", "last"),
    [
        ("audioset", 527, "Speech", "Field recording"),
        ("openmic", 20, "accordion", "voice"),
        ("dcase20", 10, "airport", "tram"),
    ],
)
def test_built_in_names(data: str, count: int, first: str, last: str) -> None:
    names = built_in(data)
    assert (len(names), len(set(names)), names[0], names[-1]) == (count, count, first, last)
    assert class_names(data, count) == names
    assert class_names(data, 2) == ("class 0", "class 1")  # of a head of its own


def test_names_that_are_not_built_in() -> None:
    assert built_in("fsd50k") == ()
    assert class_names("esc50", 3) == ("class 0", "class 1", "class 2")


def test_audioset_ids_stand_in_the_order_of_the_names() -> None:
    ids = dict(zip(audioset_ids(), built_in("audioset"), strict=True))
    assert len(ids) == 527
    assert ids["/m/09x0r"] == "Speech"
    assert ids["/m/07hvw1"] == "Field recording"
