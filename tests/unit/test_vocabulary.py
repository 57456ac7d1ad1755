"""Class names as the authors of the data sets order them."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import pytest

from passt_bench.vocabulary import are_numbers, audioset_ids, built_in, class_names


@pytest.mark.parametrize(
    ("data", "count", "first", "last"),
    [
        ("audioset", 527, "Speech", "Field recording"),
        ("fsd50k", 200, "Accelerating_and_revving_and_vroom", "Zipper_(clothing)"),
        ("esc50", 50, "dog", "hand_saw"),
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
    assert class_names("imagenet", 3) == ("class 0", "class 1", "class 2")
    assert are_numbers(class_names("imagenet", 3))
    assert not are_numbers(class_names("esc50", 50))


def test_the_vocabulary_of_fsd50k_is_the_published_file() -> None:
    """As zenodo.org/records/4060432 has it; the reference code asserts that it is sorted."""
    path = files("passt_bench") / "labels" / "fsd50k_vocabulary.csv"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "992b6e11422101ee575ab3022d37b79b98e19407b211331c72f5d9fdd16e7174"
    assert list(built_in("fsd50k")) == sorted(built_in("fsd50k"))


def test_the_order_of_esc50_is_that_of_its_targets() -> None:
    """The ten of ESC-10, whose targets are those of ESC-50."""
    names = built_in("esc50")
    ten = (0, 1, 10, 11, 12, 20, 21, 38, 40, 41)
    assert [names[target] for target in ten] == [
        "dog", "rooster", "rain", "sea_waves", "crackling_fire", "crying_baby", "sneezing",
        "clock_tick", "helicopter", "chainsaw",
    ]  # fmt: skip


def test_audioset_ids_stand_in_the_order_of_the_names() -> None:
    ids = dict(zip(audioset_ids(), built_in("audioset"), strict=True))
    assert ids["/m/09x0r"] == "Speech"
    assert ids["/m/07hvw1"] == "Field recording"
