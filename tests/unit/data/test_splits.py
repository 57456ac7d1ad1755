"""Inner splits: grouped by source, about stratified, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passt_bench.data.splits import first_stratified, is_small, stratified, validation_split
from passt_bench.errors import InputError


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[labels]


@settings(max_examples=50, deadline=None)
@given(
    clips=st.integers(20, 80),
    per_source=st.integers(1, 4),
    share=st.floats(0.15, 0.6),
    seed=st.integers(0, 1000),
)
def test_no_source_is_divided_and_no_clip_is_lost(
    clips: int, per_source: int, share: float, seed: int
) -> None:
    clips -= clips % per_source  # a smaller source could bring a class nearer
    sources = [str(index // per_source) for index in range(clips)]
    # The label goes with the source, as in recordings that are cut into clips.
    targets = one_hot(np.array([index // per_source % 2 for index in range(clips)]), 2)
    train = np.arange(clips)[::2] if per_source == 1 else np.arange(clips)
    totals = targets[train].sum(axis=0)
    if per_source >= 2 * np.maximum(share * totals, totals > 1).max():  # none brings them nearer
        with pytest.raises(InputError, match="cannot be divided"):
            validation_split(train, sources, targets, share, seed)
        return
    learn, choose = validation_split(train, sources, targets, share, seed)
    assert sorted([*learn, *choose]) == list(train)
    assert not {sources[i] for i in learn} & {sources[i] for i in choose}
    assert abs(len(choose) - share * len(train)) <= per_source + 1


@pytest.mark.parametrize(
    ("clips", "chosen"),
    [([32] * 10, [6] * 10), ([40, 2, 1], [8, 1, 0])],  # nearest to a fifth
)
def test_classes_keep_their_share(clips: list[int], chosen: list[int]) -> None:
    labels = np.repeat(np.arange(len(clips)), clips)
    sources, targets = [*map(str, range(len(labels)))], one_hot(labels, len(clips))
    learn, choose = validation_split(np.arange(len(labels)), sources, targets, 0.2, 0)
    assert np.bincount(labels[choose], minlength=len(clips)).tolist() == chosen
    assert len(learn) == len(labels) - len(choose)


def test_several_labels_a_clip() -> None:
    targets = (np.random.default_rng(0).random((1500, 16)) < 0.15).astype(np.float32)
    _, choose = validation_split(np.arange(1500), [str(i) for i in range(1500)], targets, 0.2, 3)
    shares = targets[choose].sum(axis=0) / targets.sum(axis=0)
    assert 250 < len(choose) < 350
    assert (np.abs(shares - 0.2) < 0.03).all()


def test_the_seed_decides() -> None:
    targets = one_hot(np.arange(100) % 5, 5)
    sources = [str(i) for i in range(100)]
    first, again, other = (
        validation_split(np.arange(100), sources, targets, 0.3, seed)[1] for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("clips", [1, 6])
def test_one_source_cannot_be_divided(clips: int) -> None:
    with pytest.raises(InputError) as error:
        validation_split(np.arange(clips), ["0"] * clips, np.ones((clips, 1), dtype="f4"), 0.2, 0)
    assert (error.value.field, error.value.value) == ("training.validation_share", 0.2)


def test_the_first_in_turn_over_classes() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    chosen = first_stratified(np.arange(6), one_hot(labels, 3), 4)
    assert list(chosen) == [0, 1, 3, 5]
    assert list(first_stratified(np.arange(6), one_hot(labels, 3), 6)) == [0, 1, 2, 3, 4, 5]
    assert list(first_stratified(np.array([2, 4]), one_hot(labels, 3), 1)) == [2]


@pytest.mark.parametrize("seed", range(5))
def test_several_labels_of_a_clip_are_divided_exactly_where_that_is_possible(seed: int) -> None:
    rows = [[1, 1, 0]] * 10 + [[0, 1, 1]] * 20 + [[0, 0, 1]] * 10 + [[0, 0, 0]] * 10
    targets = np.array(rows, dtype=np.float32)
    parts = stratified(np.arange(50), targets, (0.2, 0.1, 0.7), seed)
    found = [[*targets[parts == part].sum(axis=0), (parts == part).sum()] for part in range(3)]
    assert found == [[2, 6, 6, 10], [1, 3, 3, 5], [7, 21, 21, 35]]


def test_a_rare_label_is_in_every_part_and_groups_stay_together() -> None:
    groups = np.repeat(np.arange(100), 3)
    targets = np.zeros((300, 2), dtype=np.float32)
    targets[:9, 0] = 1  # of three groups
    targets[5:, 1] = 1
    parts = stratified(groups, targets, (0.2, 0.1, 0.7), 0)
    assert sorted(parts[:9].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (parts.reshape(100, 3) == parts[::3, None]).all()
    assert np.bincount(parts).tolist() == pytest.approx([60, 30, 210], abs=3)


def test_a_split_is_small_if_most_classes_have_few_clips() -> None:
    few = [is_small(np.array(counts)) for counts in ([4, 4, 9], [4, 5, 9], [0], [5])]
    assert few == [True, False, True, False]
