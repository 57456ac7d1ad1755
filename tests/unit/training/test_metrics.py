"""Metrics and their intervals over clips against scikit-learn, known truth and the contract."""

from __future__ import annotations

import itertools
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from passt_bench.errors import ContractError, InputError
from passt_bench.registry import METRICS
from passt_bench.training.clip_bootstrap import (
    RankSums,
    ScoredClips,
    clip_intervals,
    few_clips_note,
    mcnemar,
    paired_differences,
    rarer_than_none,
)
from passt_bench.training.metrics import Metric, PerClass, best_thresholds, score, scored_note
from passt_bench.training.testing import MetricContract

NAMES = ("mAP", "mAP_official", "mAP_masked", "AUC", "dprime", "accuracy")
CHECKS = [name for name in vars(MetricContract) if name.startswith("test_")]
Tables = tuple[np.ndarray, np.ndarray]


@st.composite
def tables(draw: st.DrawFn) -> Tables:
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


@settings(max_examples=100, deadline=None)
@given(tables(), st.integers(0, 2**32 - 1), st.sampled_from((0.6, 1.1)))
def test_every_class_is_scikit_learns(table: Tables, seed: int, share: float) -> None:
    """Unknown labels count as in the reference code, which gives the mask as sample_weight."""
    targets, scores = table
    known = np.random.default_rng(seed).random(targets.shape) < share
    partial = np.where(known, targets, np.nan)
    classes = range(targets.shape[1])
    present = [c for c in classes if (targets[:, c] * known[:, c]).any()]
    mixed = [c for c in present if ((1 - targets[:, c]) * known[:, c]).any()]

    def theirs(function: object, chosen: list[int]) -> PerClass:
        return {
            c: function(targets[:, c], scores[:, c], sample_weight=known[:, c])  # type: ignore[operator]
            for c in chosen
        }

    if present and known.all():
        wanted = theirs(average_precision_score, present)
        value, per_class = score("mAP_official", targets, scores)
        assert value == pytest.approx(sum(wanted.values()) / targets.shape[1], abs=1e-6)
        assert per_class == pytest.approx(dict.fromkeys(classes, 0) | wanted, abs=1e-6)
    if mixed:
        wanted = theirs(average_precision_score, mixed)
        for name in ("mAP", "mAP_masked") if known.all() else ("mAP_masked",):
            value, per_class = score(name, partial, scores)
            assert per_class == pytest.approx(wanted, abs=1e-6)
            assert value == pytest.approx(np.mean(list(wanted.values())), abs=1e-6)
        wanted = theirs(roc_auc_score, mixed)
        value, per_class = score("AUC", partial, scores)
        assert per_class == pytest.approx(wanted, abs=1e-6)
        assert value == pytest.approx(np.mean(list(wanted.values())), abs=1e-6)
        if 0 < value < 1:
            d_prime = score("dprime", partial, scores)[0]
            assert d_prime == pytest.approx(sqrt(2) * norm.ppf(value), abs=1e-6)


def test_known_truth() -> None:
    targets = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=np.float32)
    scores = np.array([[4, 0, 0], [3, 0, 9], [2, 0, 0], [1, 0, 0]], dtype=np.float32)
    first = (1 + 2 / 3) / 2
    assert score("mAP", targets, scores)[0] == pytest.approx((first + 1) / 2)
    assert score("mAP_official", targets, scores)[0] == pytest.approx((first + 1) / 3)
    assert score("AUC", targets, scores) == (pytest.approx(0.875), {0: 0.75, 2: 1.0})
    value, per_class = score("accuracy", np.eye(2)[[0, 0, 1]], np.array([[2, 1], [1, 2], [1, 2]]))
    assert value == pytest.approx(2 / 3)
    assert per_class == {0: 0.5, 1: 1.0}


def test_a_class_in_every_clip_has_no_average_precision_but_the_official_one() -> None:
    targets = np.array([[1, 1], [1, 0], [1, 0]], dtype=np.float32)
    scores = np.array([[1, 2], [2, 3], [3, 1]], dtype=np.float32)
    assert score("mAP", targets, scores) == (0.5, {1: 0.5})
    assert score("mAP_official", targets, scores) == (0.75, {0: 1.0, 1: 0.5})
    partial = np.array([[1, 1], [np.nan, 0], [np.nan, 0]])
    assert score("mAP_masked", partial, scores) == (0.5, {1: 0.5})
    drawn = np.array([[1, 2, 0], [1, 1, 2], [1, 0, 1]], dtype=np.float32)
    clips = ScoredClips(targets, scores)
    for name, wanted in (("mAP", [0.5, 2 / 3, np.nan]), ("mAP_official", [0.75, 5 / 6, 0.5])):
        found = METRICS.get(name).build.resample(clips, drawn)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_d_prime_is_that_of_the_mean_area_and_not_the_mean() -> None:
    """Only an area of 0 or 1 is moved, by half a pair."""
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1]], dtype=np.float32)
    scores = np.array([[-3, -2, -1], [-5, -1, 0], [-4, 0, 2]], dtype=np.float32)
    assert score("AUC", targets, scores)[0] == pytest.approx(5 / 6)
    value, per_class = score("dprime", targets, scores)
    assert value == pytest.approx(sqrt(2) * norm.ppf(5 / 6))
    assert np.mean(list(per_class.values())) != pytest.approx(value)
    targets, scores = np.array([[1.0], [0], [0]]), np.array([[2.0], [1], [0]])
    value, per_class = score("dprime", targets, scores)
    assert value == per_class[0] == pytest.approx(sqrt(2) * norm.ppf(1 - 0.5 / 2))
    assert score("dprime", targets, -scores)[0] == pytest.approx(-value)


@pytest.mark.parametrize(
    ("targets", "scores", "words"),
    [
        (np.eye(2), [[np.nan, 0], [1, 2]], "NaN or infinity"),
        (np.eye(2), [[np.inf, 0], [1, 2]], "NaN or infinity"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "must be the same"),
        (np.zeros(2), np.zeros((2, 2)), "must be the same"),
        (np.zeros((3, 2)), np.zeros((2, 2)), "must be the same"),
    ],
)
def test_tables_that_cannot_be_scored(targets: Any, scores: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        score("AUC", targets, np.asarray(scores))


def test_labels_that_a_metric_cannot_use_are_refused() -> None:
    for name in ("mAP", "mAP_official", "accuracy"):
        with pytest.raises(InputError) as caught:
            score(name, np.array([[1, np.nan], [0, 1]]), np.zeros((2, 2)))
        assert (caught.value.field, caught.value.value) == ("metrics", name)
    none = [(name, 0.0) for name in NAMES if name != "accuracy"]
    for name, label in [*none, ("AUC", 1.0), ("mAP", 1.0), ("mAP_masked", 1.0)]:
        with pytest.raises(InputError, match="no class has") as caught:
            score(name, np.full((3, 2), label), np.zeros((3, 2)))
        assert caught.value.field == "metrics"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mAP", "1 of 3 classes have both positive and negative clips; the others are left out: "),
        ("mAP_official", "2 of 3 classes have a positive clip; the others count as 0: c"),
        ("AUC", "1 of 3 classes have both positive and negative clips"),
    ],
)
def test_how_many_classes_were_scored_is_noted(name: str, words: str) -> None:
    targets = np.array([[1, 1, 0], [1, 0, np.nan]])
    assert words in str(scored_note(name, targets, ("a", "b", "c")))
    assert scored_note(name, np.array([[1, 0], [0, 1]]), ("a", "b")) is None


def scenes(seed: int, clips: int = 400, classes: int = 8, rate: float = 0.15) -> Tables:
    random = np.random.default_rng(seed)
    targets = (random.random((clips, classes)) < rate).astype(np.float32)
    scores = random.standard_normal(targets.shape).astype(np.float32) + 1.5 * targets
    return targets, scores


def values(names: tuple[str, ...], targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    return {name: score(name, targets, scores)[0] for name in names}


def test_weights_count_as_scikit_learns() -> None:
    for seed in range(30):
        random = np.random.default_rng(seed)
        clips = int(random.integers(2, 50))
        targets = (random.random(clips) < 0.4).astype(np.float32)
        targets[:2] = 1, 0
        scores = random.integers(0, 1 + seed % 20, clips).astype(np.float32)
        weights = random.integers(0, 4, (clips, 4)).astype(np.float32)
        weights[:2], weights[:, 0] = 1, 1
        for found, theirs in zip(
            RankSums(targets, scores).statistics(weights),
            (average_precision_score, roc_auc_score),
            strict=True,
        ):
            wanted = [theirs(targets, scores, sample_weight=weight) for weight in weights.T]
            assert found == pytest.approx(wanted, abs=1e-9)


def test_a_resample_without_positives_or_negatives_is_unknown() -> None:
    weights = np.array([[1, 0, 2], [1, 2, 0]], dtype=np.float32)
    precision, area = RankSums(np.array([1.0, 0.0]), np.array([1.0, 2.0])).statistics(weights)
    np.testing.assert_array_equal(precision, [0.5, np.nan, 1])
    np.testing.assert_array_equal(area, [0, np.nan, np.nan])


def test_intervals_hold_the_value_are_the_same_again_and_within_the_bounds() -> None:
    targets, scores = scenes(0)
    targets = np.eye(8)[targets.argmax(axis=1)]  # accuracy needs one class per clip
    known = values(NAMES, targets, scores)
    found = clip_intervals(known, targets, scores, 300)
    assert set(found) == set(NAMES)
    assert all(found[name][0] < known[name] < found[name][1] for name in NAMES)
    assert found == clip_intervals(known, targets, scores, 300)
    assert found["mAP"] == pytest.approx(found["mAP_masked"])
    targets, scores = np.array([[1.0], [0], [0], [0]]), np.array([[3.0], [2], [1], [0]])
    known = values(("mAP", "AUC", "dprime"), targets, scores)
    found = clip_intervals(known, targets, scores, 200)
    assert np.isfinite(list(found.values())).all()
    assert found["mAP"] == found["AUC"] == (1, 1)


@pytest.mark.parametrize("right", [0, 8, 10])
def test_an_accuracys_interval_is_wilsons(right: int) -> None:
    targets = np.eye(2)[[0] * 10]
    scores = np.eye(2)[[0] * right + [1] * (10 - right)]
    z, share = norm.ppf(0.975), right / 10
    middle = (share + z**2 / 20) / (1 + z**2 / 10)
    half = z * sqrt(share * (1 - share) / 10 + z**2 / 400) / (1 + z**2 / 10)
    found = clip_intervals({"accuracy": share}, targets, scores, 20)["accuracy"]
    assert found == pytest.approx((middle - half, middle + half))
    assert right < 10 or found == pytest.approx((0.7225, 1.0), abs=1e-4)


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (5, 0, 2 / 2**5),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(one: int, other: int, p: float) -> None:
    first = np.array([True] * one + [False] * other + [True, True, False])
    second = np.array([False] * one + [True] * other + [True, True, False])
    assert mcnemar(first, second) == (one, other, pytest.approx(p))


def pair(seed: int, gain: float = 0.3, **more: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, and scores of two models with most of their noise in common."""
    targets, scores = scenes(seed, **more)
    own = np.random.default_rng(seed + 10**6).standard_normal((2, *scores.shape))
    better, worse = (scores + 0.5 * noise for noise in own.astype(np.float32))
    return targets, better + np.float32(gain) * targets, worse


def compared(names: tuple[str, ...], seed: int, count: int = 200, **more: Any) -> Any:
    targets, *both = pair(seed, **more)
    first, second = (values(names, targets, scores) for scores in both)
    return paired_differences((first, second), targets, (both[0], both[1]), 0.02, count)


def test_a_paired_interval_is_narrower_than_that_of_two_separate_ones() -> None:
    names = ("mAP", "AUC", "dprime")
    targets, *both = pair(3)
    found = compared(names, 3, 400)
    for name in names:
        known = [values((name,), targets, scores) for scores in both]
        alone = [
            clip_intervals(value, targets, scores, 400)[name]
            for value, scores in zip(known, both, strict=True)
        ]
        widths = [high - low for low, high in alone]
        item = found[name]
        assert item.value == known[0][name] - known[1][name]
        assert item.low < item.value < item.high
        assert item.high - item.low < 0.7 * np.hypot(*widths)
        assert (item.only_first, item.only_second, item.p) == (None, None, None)


def test_an_accuracys_difference_is_that_of_its_discordant_clips() -> None:
    """800 clips that both or neither has right do not widen it."""
    wins = np.repeat([1, -1, 0], [120, 80, 800])
    targets, wrong = np.eye(2)[np.zeros(1000, dtype=int)], np.eye(2)[np.ones(1000, dtype=int)]
    one, other = (np.where(wins[:, None] == side, wrong, targets) for side in (-1, 1))
    shares = {"accuracy": 0.92}, {"accuracy": 0.88}
    item = paired_differences(shares, targets, (one, other), 0.02)["accuracy"]
    assert (item.value, item.only_first, item.only_second) == (pytest.approx(0.04), 120, 80)
    half = 1.96 * np.sqrt(wins.var() / 1000)
    assert (item.low, item.high) == pytest.approx((0.04 - half, 0.04 + half), abs=0.02 * half)
    assert item.verdict == "better"


def test_a_model_is_the_same_as_itself() -> None:
    targets, scores = scenes(0)
    targets = np.eye(8)[targets.argmax(axis=1)]  # accuracy needs one class per clip
    known = values(NAMES, targets, scores)
    found = paired_differences((known, known), targets, (scores, scores), 0.02, 50)
    for name, item in found.items():
        # A margin of mAP says nothing about AUC and d'.
        assert item.verdict == ("undecided" if name in ("AUC", "dprime") else "same")
        none = rarer_than_none(len(targets)) if name == "accuracy" else 0.0
        assert (item.value, item.low, item.high) == pytest.approx((0, -none, none))
        assert item.p in (1.0, None)


def test_the_paired_interval_covers_what_other_clips_give() -> None:
    """As for one model."""
    names, gaps = ("mAP", "AUC"), []
    for seed in range(2000, 2150):
        targets, *both = pair(seed, clips=300, classes=4)
        first, second = (values(names, targets, scores) for scores in both)
        gaps.append([first[name] - second[name] for name in names])
    truth = dict(zip(names, np.mean(gaps, axis=0), strict=True))
    found = [compared(names, seed, clips=300, classes=4) for seed in range(60)]
    for name in names:
        covered = sum(item[name].low <= truth[name] <= item[name].high for item in found)
        assert 52 <= covered <= 60
        assert sum(item[name].low > 0 for item in found) > 30


def test_the_interval_covers_what_other_clips_give() -> None:
    """95 % in theory; of 60 draws, 0.95 ± 2.6 standard errors are 52 to 60."""
    names = ("mAP", "AUC")
    truths = [values(names, *scenes(1000 + seed)) for seed in range(150)]
    truth = {name: np.mean([value[name] for value in truths]) for name in names}
    covered = dict.fromkeys(names, 0)
    for seed in range(60):
        targets, scores = scenes(seed)
        found = clip_intervals(values(names, targets, scores), targets, scores, 200)
        for name, (low, high) in found.items():
            covered[name] += low <= truth[name] <= high
    assert all(52 <= count <= 60 for count in covered.values())


@pytest.mark.parametrize(
    ("clips", "rate", "words"),
    [(199, 0.5, "199 clips"), (400, 0.01, "fewer than 10 positive clips"), (400, 0.5, None)],
)
def test_few_clips_are_noted(clips: int, rate: float, words: str | None) -> None:
    note = few_clips_note(scenes(0, clips, rate=rate)[0])
    assert note is None if words is None else words in str(note)


class TestMetrics(MetricContract):
    @pytest.fixture(autouse=True, params=NAMES)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.metric = request.param


class Broken(Metric):
    """Each entry of `FLAWS` breaks one part of the contract of a sound metric."""

    bounds = (0.0, 1.0)
    needs_all_labels = True

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        return float(((targets > 0.5) == (scores > 0)).mean()), {}


CALLS = itertools.count(1)
FLAWS: dict[str, dict[str, object]] = {
    "test_is_a_metric": {"better": "more"},
    "test_values": {"compute": lambda self, t, s: (1 / next(CALLS), {})},
    "test_better": {"better": "less"},
    "test_order": {"compute": lambda self, t, s: (float(s[0, 0] > 0), {})},
    "test_resamples": {"resample": lambda self, clips, weights: np.zeros(weights.shape[1])},
    "test_intervals": {"bounds": (0.0, 0.5)},
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_contract_finds_what_is_broken(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_table", dict(METRICS._table))
    METRICS.register("broken", version=1, summary="?")(type("Flawed", (Broken,), FLAWS[check])())
    contract = MetricContract()
    contract.metric = "broken"
    with pytest.raises(ContractError):
        getattr(contract, check)()


def test_thresholds_have_the_best_f1_of_all() -> None:
    """Against every threshold between two scores, on labels that are partly unknown."""
    random = np.random.default_rng(3)
    targets = (random.random((60, 4)) < (0.2, 0.5, 0.9, 0.0)).astype(float)
    targets[random.random(targets.shape) < 0.1] = np.nan
    logits = (2 * np.nan_to_num(targets) + random.standard_normal((60, 4))).astype(np.float32)
    found = best_thresholds(targets, logits)
    assert found[3] == 0.5  # no positive
    for c in range(3):
        known = ~np.isnan(targets[:, c])
        labels, probabilities = targets[known, c], expit(logits[known, c].astype(float))
        cuts = [0, *np.sort(probabilities) + 1e-9]
        best = max(f1_score(labels, probabilities >= cut, zero_division=0) for cut in cuts)
        assert f1_score(labels, probabilities >= found[c]) == pytest.approx(best)
        assert found[c] == probabilities.min() or found[c] not in probabilities
