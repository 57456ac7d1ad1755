"""Answers of declared contrasts: pairs, interactions, budgets, the best of a family."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from one_comparison import comparison, told

from passt_bench.analysis.budgets import AT_EQUAL_TIME, Reached
from passt_bench.analysis.compare import Comparison, best_of
from passt_bench.analysis.results import Results, load_results
from passt_bench.records.store import Store
from passt_bench.report.provenance import answer
from passt_bench.report.sentences import (
    answers,
    findings,
    power_sentence,
)
from passt_bench.report.study_tables import reached_sentence, reached_table
from passt_bench.report.view import study_view
from passt_bench.spec import pairwise

NAN = float("nan")
REPORTS = Path(__file__).parents[3] / "reports"
REPORT_ANSWERS = {  # by hand from the tables of contrasts of the committed studies
    "patchout_rate": "change of mAP per tenth more patches dropped: below zero for unstructured,",
    "few_clips": "; change of the gain: below zero, so the gain is smaller with about three ",
    "esc50_longer": "; interaction of patchout and budget: below zero, so the gain is smaller for",
    # Apart, as equal FLOPs are twice the epochs: 4 better of 8 would be of both.
    "quick": "equal FLOPs, 3 of 4 variants are better (“unstructured .5”, “time .5” and “unstruct",
    "overlap_equal_cost": "same within ±0.02 (“stride 6, half dropped”; real, but inside the marg",
    "equal_cost": "; half of the patches dropped, at equal FLOPs: better at 1x, 2x and 4x (+0.020",
}


def test_the_headline_answers_from_each_declared_family(quick: Results) -> None:
    def contrast(name: str, verdict: str, low: float, margin: float = 0.02) -> Comparison:
        gap = (low + 0.01, low, low + 0.02)
        return replace(comparison(verdict, gap), variant=name, baseline="", margin=margin)

    good, bad, same = (("better", 0.03), ("worse", -0.05), ("same", -0.01))
    families = {
        "half (primary)": [contrast("8x", *good)],
        "few": [contrast("1x", *bad), contrast("2x", *good), contrast("4x", *good)],
        "many": [contrast(f"{n}", *(same if n else bad)) for n in range(5)],
        "slopes": [
            contrast("time", *good, 0.0),
            contrast("frequency", *bad, 0.0),
            contrast("both", "undecided", -0.01, 0.0),
        ],
        "early": [contrast("1x", "no verdict", NAN, 0.0)],
    }
    pairs = {"half (primary)": {"8x": {"unstructured .5": 1.0, "none": -1.0}}}
    study = replace(quick.study, contrasts=pairs)
    first, *later = findings(study_view(replace(quick, declared=families, study=study)))
    assert first.startswith("Half (primary): “unstructured .5” is better than “none” (+0.040 [")
    assert "]); against “none” (mAP 0." in first  # second, as a primary question comes first
    assert first.endswith(
        "; few: better for 2x and 4x (+0.040), worse for 1x (−0.040 [−0.050, −0.030])."
    )
    assert later == [  # the first would have more than 75 words
        "Many: worse for 0 (−0.040 [−0.050, −0.030]),"
        " the same within ±0.02 for 1, 2, 3 and 4 (0.000).",
        "Slopes: above zero for time (+0.040 [+0.030, +0.050]), below zero for frequency"
        " (−0.040 [−0.050, −0.030]), not shown to differ from zero for both"
        " (0.000 [−0.010, +0.010]).",
        "Early: no verdict for 1x.",
    ]


def test_a_pair_is_told_by_its_variants_and_a_contrast_by_its_own_preposition(
    quick: Results,
) -> None:
    def family(verdict: str, *names: str) -> list[Comparison]:
        item = comparison(verdict, (0.01, -0.01, 0.03))
        return [replace(item, variant=name, baseline="") for name in names]

    pairs = pairwise("time .5", "CNN")
    (pair,) = pairs.values()
    study = replace(quick.study, contrasts={"kinds": pairs, "models": {"own": pair}})
    rates = {".25": {"unstructured .25": 1.0, "none": -1.0}, ".75": {"time .5": 1.0, "none": -1.0}}
    study = replace(study, contrasts={**study.contrasts, "rates": rates})
    timed = "half dropped" + AT_EQUAL_TIME
    declared = {
        "kinds": family("not worse", "time .5 − CNN", "other"),
        "models": family("same", "own"),
        "stride": family("better", "at full tokens", "with 32 patches"),
        timed: family("same", "against none, 2x"),
        "rates": family("better", ".25", ".75"),
    }
    view = study_view(replace(quick, study=study, declared=declared))
    texts = " ".join(findings(view))
    assert "models: “time .5” is the same as “CNN” within ±0.02 (+0.010 [−0.010, +0.030])" in texts
    assert "Stride: better at full tokens and with 32 patches (+0.010)" in texts
    assert "Rates: “unstructured .25” and “time .5” are better than “none” (+0.010)." in texts
    assert texts.endswith(
        "Half dropped, at equal training time: the same as “none, 2x” within ±0.02 "
        "(+0.010 [−0.010, +0.030])."
    )
    one = replace(view.results, declared=declared | {"kinds": declared["kinds"][:1]})
    assert "kinds: “time .5” is not worse than “CNN” by more than 0.02 (" in told(study_view(one))
    reached = {"FLOPs": [Reached("none 8x", "half", (0.4, 0.3, 0.5), 0.1, 9, 10)]}
    labels = [label for _, label, _ in answers(study_view(replace(view.results, reached=reached)))]
    assert labels == [
        "kinds, for time .5 − CNN", "kinds, at other", "models", "stride, at full tokens",
        "stride, with 32 patches", f"{timed}, against none, 2x", "rates, at .25", "rates, at .75",
    ]  # fmt: skip


@pytest.mark.parametrize("name", REPORT_ANSWERS)
def test_the_first_two_sentences_answer_what_a_study_asks(name: str) -> None:
    view = study_view(load_results(name, [Store(REPORTS / name)]))
    text = answer(view)
    assert REPORT_ANSWERS[name] in text
    assert len(re.findall(r"\. [A-Z]", text)) == 1 and " seeds, on 2 cores of " in text


def test_with_budgets_contrasts_answer(quick: Results) -> None:
    gain = replace(comparison("better", (0.04, 0.03, 0.05)), variant="8x", baseline="")
    slope = replace(gain, variant="slope", margin=0.0)
    reached = {"FLOPs": [Reached("none 8x", "half", (0.4, 0.3, float("inf")), 0.1, 9, 10)]}
    declared = {"half": [gain], "by budget": [slope]}
    view = study_view(replace(quick, declared=declared, reached=reached))
    assert answers(view) == [
        ("better", "half", "better by 0.040 [0.030, 0.050]."),
        ("above zero", "by budget", "above zero (+0.040 [+0.030, +0.050])."),
    ]
    assert told(view).startswith("Half: better at 8x (+0.040 [+0.030, +0.050]); by budget: ab")
    assert power_sentence(view) is None
    assert reached_sentence(view) == (
        "“half” is as good as “none 8x” for 0.40× [0.30, not reached] of its FLOPs."
    )
    several = [Reached(f"none, {n}x", "half", (0.4 / n, 0.1, 0.5), 0.1, 9, 10) for n in (1, 2)]
    view = study_view(replace(quick, declared=declared, reached={"time": several}))
    assert reached_sentence(view) == (
        "“half” is as good as “none” at 1x and 2x for 0.40× and 0.20× of its training time."
    )
    at_once = Reached("none 4x", "half", (0.9, 0.9, 0.9), 0.9, 10, 10)
    in_part = Reached("none 6x", "half", (0.7, 0.6, 0.8), 0.6, 10, 10)
    view = study_view(replace(quick, reached={"FLOPs": [*reached["FLOPs"], in_part, at_once]}))
    assert [row[2:] for row in reached_table(view).rows] == [
        ("9 of 10", "0.40× [0.30, not reached]"),
        ("10 of 10", "0.70× [≤ 0.60, 0.80]"),
        ("10 of 10", "≤ 0.90×"),
    ]


def test_contrasts_come_first_where_the_baseline_differs_in_more_than_patchout() -> None:
    reports = Path(__file__).parents[3] / "reports"
    view = study_view(load_results("few_clips", [Store(reports / "few_clips")]))
    assert told(view).startswith("Half of the patches dropped, at equal steps: better for 50 clip")
    assert told(view).endswith(" all 7 variants are worse.")
    (_, first, _), *_ = found = answers(view)
    assert first == "half of the patches dropped, at equal steps, for 50 clips"
    assert [verdict for verdict, *_ in found][:5] == [*["better"] * 3, "worse", "below zero"]
    assert found[-1][2].endswith(
        "each training step takes 0.596× [0.582, 0.610] as long and the whole training 0.60×, "
        "with 0.52× the memory for backward and 34 of 66 tokens."
    )


@pytest.mark.parametrize(
    ("verdicts_of_pairs", "best"),
    [
        (("worse", "worse", "undecided"), None),  # a loses to both; b and c are not told apart
        (("worse", "undecided", "better"), ("b", [0.02, 0.02])),
        (("better", "better", "not worse"), ("a", [0.02, 0.02])),
        (("better", "same", "better"), None),
    ],
)
def test_the_best_of_a_family_is_better_than_every_other(
    verdicts_of_pairs: tuple[str, ...], best: tuple[str, list[float]] | None
) -> None:
    pairs = pairwise("a", "b", "c")
    assert list(pairs) == ["a − b", "a − c", "b − c"]
    items = [
        replace(
            comparison(verdict, (-0.02 if verdict == "worse" else 0.02, NAN, NAN)), variant=name
        )
        for name, verdict in zip(pairs, verdicts_of_pairs, strict=True)
    ]
    assert best_of(pairs, items) == best
    assert best_of({"a − b": pairs["a − b"]}, items[:1]) is None  # of two, a verdict says it


def test_a_study_of_all_pairs_says_which_is_best() -> None:
    view = study_view(load_results("esc50_kinds", [Store(REPORTS / "esc50_kinds")]))
    first = findings(view)[0]
    assert first.startswith("Kinds at equal tokens: “structured .5” is better than every other, by")
    assert answers(view)[0][1] == "kinds at equal tokens, for unstructured .5 − time .5"
