"""Intervals over clips: the resampled statistics, their determinism, and what they cover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from passt_bench.errors import ContractError
from passt_bench.registry import METRICS
from passt_bench.training.clip_bootstrap import RankSums, clip_intervals, few_clips_note
from passt_bench.training.metrics import Metric, PerClass, score
from passt_bench.training.testing import CHECKS

NAMES = ("mAP", "mAP_official", "mAP_masked", "AUC", "dprime", "accuracy")


def scenes(
    seed: int, clips: int = 400, classes: int = 8, rate: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = (random.random((clips, classes)) < rate).astype(np.float32)
    scores = random.standard_normal(targets.shape).astype(np.float32) + 1.5 * targets
    return targets, scores


def values(names: tuple[str, ...], targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    return {name: score(name, targets, scores)[0] for name in names}


@pytest.mark.parametrize("seed", range(60))
def test_weights_count_as_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    clips = int(random.integers(2, 50))
    targets = (random.random(clips) < 0.4).astype(np.float32)
    targets[:2] = 1, 0
    scores = random.integers(0, 1 + seed % 20, clips).astype(np.float32)
    weights = random.integers(0, 4, (clips, 4)).astype(np.float32)
    weights[:2], weights[:, 0] = 1, 1
    precision, area = RankSums(targets, scores).statistics(weights)
    for column in range(4):
        weight = weights[:, column]
        wanted = average_precision_score(targets, scores, sample_weight=weight)
        assert precision[column] == pytest.approx(wanted, abs=1e-9)
        wanted = roc_auc_score(targets, scores, sample_weight=weight)
        assert area[column] == pytest.approx(wanted, abs=1e-9)


def test_a_resample_without_positives_or_negatives_is_unknown() -> None:
    weights = np.array([[1, 0, 2], [1, 2, 0]], dtype=np.float32)
    precision, area = RankSums(np.array([1.0, 0.0]), np.array([1.0, 2.0])).statistics(weights)
    assert precision[0] == 0.5
    assert np.isnan(precision[1])
    assert precision[2] == 1
    assert area[0] == 0
    assert np.isnan(area[1:]).all()


def test_unknown_labels_have_no_weight() -> None:
    targets, scores = np.array([1, np.nan, 0]), np.array([1.0, 5.0, 0.0])
    precision, area = RankSums(targets, scores).statistics(np.ones((3, 1), dtype=np.float32))
    assert (precision[0], area[0]) == (1, 1)


def test_a_class_without_positives_has_no_ranks() -> None:
    with pytest.raises(ValueError, match="without positives"):
        RankSums(np.zeros(3), np.zeros(3))


def test_intervals_hold_the_value_and_are_the_same_again() -> None:
    targets, scores = scenes(0)
    known = values(NAMES, targets, scores)
    shares: list[float] = []
    found = clip_intervals(known, targets, scores, 300, shares.append)
    assert set(found) == set(NAMES)
    assert all(found[name][0] < known[name] < found[name][1] for name in NAMES)
    assert found == clip_intervals(known, targets, scores, 300)
    assert shares[-1] == 1
    assert found["mAP"] == pytest.approx(found["mAP_masked"])


def test_more_clips_make_a_narrower_interval() -> None:
    widths = []
    for clips in (200, 800, 3200):
        targets, scores = scenes(1, clips)
        known = values(("mAP",), targets, scores)
        low, high = clip_intervals(known, targets, scores, 300)["mAP"]
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.35)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.35)


def test_an_accuracys_interval_is_the_binomials() -> None:
    random = np.random.default_rng(2)
    targets = np.eye(4)[random.integers(0, 4, 1000)]
    scores = targets + 2 * (random.random((1000, 1)) < 0.2) * np.roll(targets, 1, axis=1)
    known = values(("accuracy",), targets, scores)
    low, high = clip_intervals(known, targets, scores)["accuracy"]
    share = known["accuracy"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(share * (1 - share) / 1000), rel=0.06)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_metric_keeps_the_contract(check: Callable[[str], None], name: str) -> None:
    check(name)


class Broken(Metric):
    """Each entry of `FLAWS` breaks one part of the contract of a sound metric."""

    bounds = (0.0, 1.0)
    needs_all_labels = True
    calls = 0

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        return float(((targets > 0.5) == (scores > 0)).mean()), {}


def _impure(self: Broken, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    self.calls += 1
    return 1 / self.calls, {}


FLAWS: dict[str, dict[str, object]] = {
    "is_a_metric": {"better": "more"},
    "values_are_bounded_and_pure": {"compute": _impure},
    "better_is_better": {"better": "less"},
    "order_of_clips_decides_nothing": {"compute": lambda self, t, s: (float(s[0, 0] > 0), {})},
    "resamples_agree": {"resample": lambda self, clips, weights: np.zeros(weights.shape[1])},
    "intervals_hold_the_value": {"bounds": (0.0, 0.5)},
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_finds_what_is_broken(check: Callable[[str], None]) -> None:
    flaw = FLAWS[check.__name__]
    METRICS.register("broken", version=1, summary="?")(type("Flawed", (Broken,), flaw)())
    try:
        with pytest.raises(ContractError, match="broken"):
            check("broken")
    finally:
        del METRICS._table["broken"]


def test_bounds_are_kept() -> None:
    targets = np.array([[1.0], [0.0], [0.0], [0.0]])
    scores = np.array([[3.0], [2.0], [1.0], [0.0]])
    names = ("mAP", "AUC", "dprime")
    known = values(names, targets, scores)
    for low, high in clip_intervals(known, targets, scores, 200).values():
        assert np.isfinite([low, high]).all()
    assert clip_intervals({"mAP": 1.0}, targets, scores, 200)["mAP"] == (1, 1)


@pytest.mark.parametrize("name", ["mAP", "AUC"])
def test_the_interval_covers_what_other_clips_give(name: str) -> None:
    """95 % in theory; of 120 draws, 0.95 ± 2.6 standard errors are 108 to 120."""
    truth = np.mean([values((name,), *scenes(1000 + seed))[name] for seed in range(300)])
    covered = 0
    for seed in range(120):
        targets, scores = scenes(seed)
        known = values((name,), targets, scores)
        low, high = clip_intervals(known, targets, scores, 200)[name]
        covered += low <= truth <= high
    assert 107 <= covered <= 120


@pytest.mark.parametrize(
    ("clips", "rate", "words"),
    [(199, 0.5, "199 clips"), (400, 0.01, "fewer than 10 positive clips"), (400, 0.5, None)],
)
def test_few_clips_are_told(clips: int, rate: float, words: str | None) -> None:
    note = few_clips_note(scenes(0, clips, rate=rate)[0])
    assert note is None if words is None else words in str(note)
