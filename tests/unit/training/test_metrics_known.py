"""Metrics against scikit-learn on random and degenerate input, and against known truth."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from passt_bench.errors import InputError
from passt_bench.training.metrics import score, scored_note

ALL = ("mAP", "mAP_official", "mAP_masked", "AUC", "dprime", "accuracy")


def build(name: str, targets: np.ndarray, scores: np.ndarray) -> tuple[float, dict[int, float]]:
    return score(name, targets, scores)


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Targets and scores with ties, absent and ever-present classes, one clip, one class."""
    clips, classes = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = (random.random((clips, classes)) < random.random(classes)).astype(np.float32)
    kind = draw(st.sampled_from(("normal", "levels", "equal", "half")))
    scores = random.standard_normal((clips, classes)).astype(np.float32)
    if kind == "levels":
        scores = np.round(scores)
    elif kind == "equal":
        scores = np.zeros_like(scores)
    elif kind == "half":
        scores = (100 * scores).astype(np.float16)
    return targets, scores


@settings(max_examples=150, deadline=None)
@given(tables())
def test_every_class_is_scikit_learns(table: tuple[np.ndarray, np.ndarray]) -> None:
    targets, scores = table
    present = [c for c in range(targets.shape[1]) if targets[:, c].any()]
    mixed = [c for c in present if not targets[:, c].all()]
    if present:
        wanted = {c: average_precision_score(targets[:, c], scores[:, c]) for c in present}
        for name in ("mAP", "mAP_masked"):
            value, per_class = build(name, targets, scores)
            assert per_class == pytest.approx(wanted, abs=1e-6)
            assert value == pytest.approx(np.mean(list(wanted.values())), abs=1e-6)
        value, per_class = build("mAP_official", targets, scores)
        assert value == pytest.approx(sum(wanted.values()) / targets.shape[1], abs=1e-6)
        assert set(per_class) == set(range(targets.shape[1]))
    if mixed:
        wanted = {c: roc_auc_score(targets[:, c], scores[:, c]) for c in mixed}
        value, per_class = build("AUC", targets, scores)
        assert per_class == pytest.approx(wanted, abs=1e-6)
        assert value == pytest.approx(np.mean(list(wanted.values())), abs=1e-6)
        if 0 < value < 1:
            assert build("dprime", targets, scores)[0] == pytest.approx(
                sqrt(2) * norm.ppf(value), abs=1e-6
            )


@settings(max_examples=100, deadline=None)
@given(tables(), st.integers(0, 2**32 - 1))
def test_unknown_labels_are_left_out_as_weights_of_zero_leave_them(
    table: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    """The reference code gives scikit-learn the mask as sample_weight."""
    targets, scores = table
    known = np.random.default_rng(seed).random(targets.shape) < 0.6
    partial = np.where(known, targets, np.nan)
    classes = range(targets.shape[1])
    present = [c for c in classes if (targets[:, c] * known[:, c]).any()]
    mixed = [c for c in present if ((1 - targets[:, c]) * known[:, c]).any()]
    if present:
        wanted = {
            c: average_precision_score(targets[:, c], scores[:, c], sample_weight=known[:, c])
            for c in present
        }
        assert build("mAP_masked", partial, scores)[1] == pytest.approx(wanted, abs=1e-6)
    if mixed:
        wanted = {
            c: roc_auc_score(targets[:, c], scores[:, c], sample_weight=known[:, c]) for c in mixed
        }
        assert build("AUC", partial, scores)[1] == pytest.approx(wanted, abs=1e-6)


def test_known_truth() -> None:
    targets = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=np.float32)
    scores = np.array([[4, 0, 0], [3, 0, 9], [2, 0, 0], [1, 0, 0]], dtype=np.float32)
    first = (1 + 2 / 3) / 2
    assert build("mAP", targets, scores)[0] == pytest.approx((first + 1) / 2)
    assert build("mAP_official", targets, scores)[0] == pytest.approx((first + 1) / 3)
    assert build("AUC", targets, scores) == (pytest.approx(0.875), {0: 0.75, 2: 1.0})


def test_accuracy_by_hand() -> None:
    targets = np.eye(2)[[0, 0, 1]]
    value, per_class = build("accuracy", targets, np.array([[2.0, 1], [1, 2], [1, 2]]))
    assert value == pytest.approx(2 / 3)
    assert per_class == {0: 0.5, 1: 1.0}


def test_few_pairs_do_not_pull_a_d_prime_in() -> None:
    """Half a pair is a quarter here, and yet an area of five sixths stays what it is."""
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1]], dtype=np.float32)
    scores = np.array([[-3, -2, -1], [-5, -1, 0], [-4, 0, 2]], dtype=np.float32)
    assert build("AUC", targets, scores)[0] == pytest.approx(5 / 6)
    assert build("dprime", targets, scores)[0] == pytest.approx(sqrt(2) * norm.ppf(5 / 6))


def test_one_class_ranked_perfectly_has_a_finite_d_prime() -> None:
    targets = np.array([[1], [0], [0]], dtype=np.float32)
    scores = np.array([[2.0], [1.0], [0.0]])
    value, per_class = build("dprime", targets, scores)
    assert value == per_class[0] == pytest.approx(sqrt(2) * norm.ppf(1 - 0.5 / 2))
    assert build("dprime", targets, -scores)[0] == pytest.approx(-value)


def test_d_prime_is_that_of_the_mean_area_and_not_the_mean() -> None:
    targets = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=np.float32)
    scores = np.array([[4, 0], [3, 1], [0, 2], [0, 1]], dtype=np.float32)
    value, per_class = build("dprime", targets, scores)
    area, _ = build("AUC", targets, scores)
    assert area == pytest.approx((1 + 0.5) / 2)
    assert value == pytest.approx(sqrt(2) * norm.ppf(0.75))
    assert np.mean(list(per_class.values())) != pytest.approx(value)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    scores = np.array([[bad, 0.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="NaN or infinity"):
        build(name, np.eye(2), scores)


@pytest.mark.parametrize("name", ["mAP", "mAP_official", "accuracy"])
def test_unknown_labels_are_refused_where_all_are_needed(name: str) -> None:
    targets = np.array([[1, np.nan], [0, 1]])
    with pytest.raises(InputError, match="labels are unknown") as caught:
        build(name, targets, np.zeros((2, 2)))
    assert (caught.value.field, caught.value.value) == ("metrics", name)
    assert "AUC, dprime, mAP_masked" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in ALL if name != "accuracy"])
def test_clips_without_any_positive_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no class has .* positive"):
        build(name, np.zeros((3, 2)), np.zeros((3, 2)))


def test_only_positives_have_no_area() -> None:
    with pytest.raises(InputError, match="both a positive and a negative"):
        build("AUC", np.ones((3, 2)), np.zeros((3, 2)))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(0, 2), (2,), (3, 2)])
def test_shapes_are_checked(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be one"):
        build(name, np.zeros(shape), np.zeros((0, 2) if shape == (0, 2) else (2, 2)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mAP", "1 of 3 classes have a positive clip; the others are left out: b, c"),
        ("mAP_official", "1 of 3 classes have a positive clip; the others count as 0: b, c"),
        ("AUC", "0 of 3 classes have both positive and negative clips"),
    ],
)
def test_how_many_classes_were_scored_is_told(name: str, words: str) -> None:
    targets = np.array([[1, 0, 0], [1, 0, np.nan]])
    assert words in str(scored_note(name, targets, ("a", "b", "c")))
    assert scored_note(name, np.array([[1, 0], [0, 1]]), ("a", "b")) is None


def test_many_absent_classes_are_named_in_part() -> None:
    note = scored_note("mAP", np.zeros((2, 9)), [str(c) for c in range(9)])
    assert note is not None
    assert note.endswith("0, 1, 2, 3, 4 and 4 more")
