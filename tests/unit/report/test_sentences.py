import re
from dataclasses import replace
from pathlib import Path

import pytest
from study_on_disk import SMALL, Arm, write_study

from passt_bench.analysis.budgets import AT_EQUAL_TIME, Reached
from passt_bench.analysis.compare import Comparison, best_of
from passt_bench.analysis.results import Results, analyze, load_results
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.report.cost_tables import costs_headline
from passt_bench.report.provenance import answer, conditions, not_run, study_facts
from passt_bench.report.sentences import (
    answers,
    coarse,
    findings,
    power_sentence,
    runs_sentence,
    step_time,
    weights_sentence,
)
from passt_bench.report.study_tables import adjusted, reached_sentence, reached_table, verdicts
from passt_bench.report.terminal import result_json
from passt_bench.report.text import Span
from passt_bench.report.view import Cost, StudyView, study_view
from passt_bench.spec import InitSpec, pairwise

NAN = float("nan")
REPORTS = Path(__file__).parents[3] / "reports"


def told(view: StudyView) -> str:
    return " ".join(findings(view))


def comparison(
    verdict: str, gap: tuple[float, ...], needed: tuple[int, int | None] | None = None
) -> Comparison:
    value, low, high = gap
    return Comparison(
        variant="time .5", baseline="none", n=3, difference=value,
        low=low, high=high, verdict=verdict, margin=0.02, detectable=0.0312, smallest_margin=0.015,
        blocks_needed=needed, method="m",
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load_results("quick", [write_study(tmp_path_factory.mktemp("s"), SMALL[:2])])


@pytest.mark.parametrize(
    ("item", "start"),
    [
        (comparison("worse", (-0.0512, -0.0624, -0.0404)), "worse by 0.051 [0.040, 0.062]; "),
        (
            comparison("undecided", (0.012, -0.01, 0.034), (9, 17)),
            "undecided (difference +0.012 [−0.010, +0.034]; detectable with 3 seeds: 0.031; "
            "a new study with fresh seeds probably takes 9 to 17 of them for a verdict); ",
        ),
        (comparison("not estimable", (NAN, NAN, NAN)), "the difference cannot be estimated: "),
        (
            comparison("same", (0.012, 0.005, 0.019)),
            "the same within ±0.02 (difference +0.0120 [+0.0050, +0.0190]; real, but inside the m",
        ),
        (
            comparison("not worse", (0.012, -0.01, 0.034)),
            "not worse by more than 0.02 (difference +0.012 [−0.010, +0.034]); ",
        ),
        (
            replace(comparison("no verdict", (0.012, NAN, NAN)), n=1, detectable=NAN),
            "no verdict (difference +0.012; 1 seed, an interval needs three); ",
        ),
    ],
)
def test_each_verdict_has_its_sentence(results: Results, item: Comparison, start: str) -> None:
    view = study_view(replace(results, comparisons=(item,)))
    ((_, _, sentence),) = answers(view)
    assert sentence.startswith(start)
    # 34 of 66 tokens: (0.006 + 34 x 0.44 ms) against (0.006 + 66 x 0.44 ms)
    assert sentence.endswith(
        "each training step takes 0.598× [0.586, 0.610] as long, with 0.52× the memory for "
        "backward and 34 of 66 tokens."
    )


def test_the_headline_counts_verdicts(quick: Results) -> None:
    verdicts = ("better", "worse", "worse", "same", "undecided", "failed")
    items = tuple(
        replace(comparison(verdict, (0.0, -0.1, 0.1)), variant=v.name)
        for v, verdict in zip(quick.study.variants[1:], verdicts, strict=False)
    )
    view = study_view(replace(quick, comparisons=items))
    text = told(view)
    assert text.startswith("Against “none” (mAP 0.84")
    assert "1 of 12 variants is better (“unstructured .25”), 2 are worse, 1 is the same wit" in text


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


def test_variants_with_the_same_runs_are_counted_once_and_named_together(quick: Results) -> None:
    again = quick.study.variants[2].name
    view = study_view(replace(quick, same={again: quick.study.variants[1].name}))
    assert f"“{again}” has the runs of “{view.variants[1].name}” and is counted once" in told(view)
    assert len(view.answers) == len(view.others) - 1
    assert f"{again} (the same runs as “{view.variants[1].name}”)" in {
        row[0] for row in verdicts(view).texts()
    }


REPORT_ANSWERS = {  # by hand from the tables of contrasts of the committed studies
    "patchout_rate": "change of mAP per tenth more patches dropped: below zero for unstructured,",
    "few_clips": "; change of the gain: below zero, so the gain is smaller with about three ",
    "esc50_longer": "; interaction of patchout and budget: below zero, so the gain is smaller for",
    # Apart, as equal FLOPs are twice the epochs: 4 better of 8 would be of both.
    "quick": "equal FLOPs, 3 of 4 variants are better (“unstructured .5”, “time .5” and “unstruct",
    "overlap_equal_cost": "same within ±0.02 (“stride 6, half dropped”; real, but inside the marg",
    "equal_cost": "; half of the patches dropped, at equal FLOPs: better at 1x, 2x and 4x (+0.020",
}


@pytest.mark.parametrize("name", REPORT_ANSWERS)
def test_the_first_two_sentences_answer_what_a_study_asks(name: str) -> None:
    view = study_view(load_results(name, [Store(REPORTS / name)]))
    text = answer(view)
    assert REPORT_ANSWERS[name] in text
    assert len(re.findall(r"\. [A-Z]", text)) == 1 and " seeds, on 2 cores of " in text


def test_variants_that_cannot_run_are_named_with_the_reason(quick: Results) -> None:
    study = replace(quick.study, left_out={"CNN-2": "69 steps, of at least 100"})
    wanted = "1 of 14 variants cannot run here: “CNN-2” (69 steps, of at least 100)."
    assert not_run(study_view(replace(quick, study=study))) == wanted
    assert not not_run(study_view(quick))


def test_two_seeds_have_no_verdict_and_the_answer_says_how_to_get_one(quick: Results) -> None:
    two = study_view(replace(quick, study=replace(quick.study, seeds=(0, 1)), look=None))
    assert told(two).startswith(
        "No verdict: an interval needs 3 seeds, and this study has 2 (add --seeds 3); “none” reach"
    )


def test_too_few_seeds_name_the_command_that_compares_the_weights(quick: Results) -> None:
    def text(**changes: object) -> str | None:
        paired = changes.pop("paired", ())
        of = replace(quick.study, **changes)  # type: ignore[arg-type]
        return weights_sentence(study_view(replace(quick, study=of, paired=paired)))  # type: ignore[arg-type]

    assert text(seeds=(4, 5)) == (
        "2 seeds cannot tell how other trainings would end. This compares these very weights, on "
        "this page too: `passt-bench evaluate --data synthetic --checkpoint "
        "'quick:unstructured .25:4' --against 'quick:none:4'`"
    )
    folds = text(seeds=(4,), folds=(3, 5)) or ""
    assert folds.startswith("1 seed cannot") and "--data synthetic --fold 3 --check" in folds
    assert folds.endswith("--against 'quick:none:4:3'`")
    own = replace(quick.study.fingerprint, dataset="manifest")
    assert "--data manifest=DIR --checkpoint" in (text(seeds=(4,), fingerprint=own) or "")
    ran = "passt-bench run quick --data esc50=my --data 'synthetic=a b' --runs DIR"
    there = text(seeds=(4,), command=ran) or ""
    assert "evaluate --data 'synthetic=a b' --runs DIR --checkpoint 'quick:" in there
    assert text() is None and text(seeds=(4, 5), variants=quick.study.variants[:1]) is None
    assert text(seeds=(4, 5), paired=("a comparison",)) is None  # it is on the page


def test_a_study_of_one_variant_says_what_its_clips_show(quick: Results) -> None:
    first, *others = quick.study.variants
    runs = {c.key: quick.records[c.key] for c in first.cells}
    by = dict.fromkeys(quick.study.fingerprint.classes[1:], 0.5)
    runs = {
        key: replace(run, metrics={"accuracy": 0.75}, train={"test_clips": 12.0, "epoch": 3.0},
                     per_class={"accuracy": by})
        for key, run in runs.items()
    }  # fmt: skip
    command = "passt-bench train --set training.epochs=5"
    of = replace(quick.study, variants=(first,), metric="accuracy", contrasts={}, command=command)
    view = study_view(analyze(of, runs, ()))
    low = replace(runs[first.cells[-1].key], metrics={"accuracy": 0.5})
    five = study_view(analyze(of, runs | {low.key: low}, ()))
    assert runs_sentence(five) == "Its 5 seeds reach accuracy 0.500 to 0.750."
    seeds = of.seeds[:4]
    one = replace(first, cells=first.cells[:4])
    view = study_view(analyze(replace(of, seeds=seeds, variants=(one,)), runs, ()))
    assert (runs_sentence(view) or "").startswith(
        "Seed 0: accuracy 0.75 [0.47, 0.91] on 12 test clips (interval over clips), with the "
        "weights of epoch 3, the best in validation. Seed 1: "
    )
    assert (runs_sentence(view) or "") in result_json(view, None, None)["answer"]
    cells, of_folds = first.cells[:3], list[RunRecord]()
    for fold, (cell, right, epoch) in enumerate(zip(cells, (3, 9, 0), (2, 7, 5), strict=True), 1):
        train = {"test_clips": 12.0 if right else 6.0, "epoch": float(epoch)}
        metrics = {"accuracy": right / train["test_clips"]}
        of_folds.append(replace(runs[cell.key], seed=0, fold=fold, metrics=metrics, train=train))
    one = replace(view.baseline, runs=tuple(of_folds))
    assert runs_sentence(replace(view, variants=(one,))) == (
        "Seed 0: accuracy 0.40 [0.25, 0.58] on 30 test clips (interval over clips) of 3 folds "
        "(0 to 0.750 in each), with the weights of epochs 2 to 7, the best in validation."
    )
    classes = quick.study.fingerprint.classes
    absent = f"over {len(classes) - 1} of {len(classes)} classes (no test clip of {classes[0]})"
    assert absent in told(view) and ", with training.epochs=5." in conditions(view)
    assert not coarse(view)  # there is nothing to compare, so no margin
    two = study_view(analyze(replace(of, variants=(first, others[0])), runs, ()))
    assert coarse(two) == (
        "One of the 12 test clips changes accuracy by 0.083, 4.2 times the margin of ±0.02. Use "
        "more clips, or folds."
    )
    own = replace(two.study, fingerprint=replace(of.fingerprint, dataset="manifest"))
    command = "`passt-bench data split manifest=DIR --into-folds 5 --again`"
    assert coarse(replace(two, study=own)).endswith(f", or folds: {command}")
    assert "with the study file's settings, except training.epochs=5" in conditions(two)


def test_a_fine_tuned_model_says_from_which_weights(quick: Results) -> None:
    init = InitSpec("checkpoint", "model.safetensors", "a1" * 32)
    first, *others = quick.study.variants
    tuned = replace(first, recipe=replace(first.recipe, init=init))
    command = "passt-bench train --data manifest --from=mine:passt_micro:0"
    of = replace(quick.study, variants=(tuned,), contrasts={}, command=command)
    view = study_view(replace(quick, study=of))
    assert " fine-tuned for 10 epochs from mine:passt_micro:0 on “" in conditions(view)
    by_set = "passt-bench train --set init.checkpoint=mine:none --set init.source=checkpoint"
    other = study_view(replace(quick, study=replace(of, command=by_set)))
    assert " fine-tuned for 10 epochs from mine:none on “" in conditions(other)
    wanted = "mine:passt_micro:0 (SHA-256 a1a1a1a1a1a1…)"
    assert ("Start weights", wanted) in study_facts(view)
    both = replace(of, variants=(tuned, others[0]), command="")
    of_file = conditions(study_view(replace(quick, study=both)))
    assert " trained or fine-tuned for " in of_file and " from model.safetensors on " in of_file


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


def test_what_the_seeds_could_hardly_show_is_said_unless_they_showed_it(quick: Results) -> None:
    worse = tuple(replace(c, verdict="worse") for c in quick.comparisons)
    quick = replace(quick, comparisons=worse, study=replace(quick.study, margin=0.015))
    text = power_sentence(study_view(quick)) or ""
    assert "are the same within ±0.015" in text and "a margin of ±0.020" in text
    first = quick.comparisons[0]
    one = (replace(first, verdict="same"), *quick.comparisons[1:])
    assert power_sentence(study_view(replace(quick, comparisons=one))) is None
    wide = replace(quick, study=replace(quick.study, margin=0.03))
    assert power_sentence(study_view(wide)) is None
    assert power_sentence(study_view(replace(quick, look=None))) is None


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


def test_a_study_of_lengths_says_from_where_on_another_model_is_faster() -> None:
    def text(name: str) -> str:
        reports = Path(__file__).parents[3] / "reports"
        return costs_headline(study_view(load_results(name, [Store(reports / name)])))

    assert text("length").startswith(
        "cnn14 trains faster than passt_s from 10 s on, slower up to 3 s; mobilenetv3 trains "
        "faster than passt_s at every length. “PaSST, patchout .6, 30 s” trains"
    )
    assert text("engine_x_patchout").startswith("“today, 474 tokens” trains")


def test_means_over_different_seeds_are_not_what_differences_come_from(tmp_path: Path) -> None:
    arms = (Arm("none"), Arm("time .5", "time", 0.5), Arm("time .75", "time", 0.75))
    whole = study_view(load_results("quick", [write_study(tmp_path / "a", arms, session=False)]))
    assert adjusted(whole) is None
    failed = (*arms[:2], replace(arms[2], statuses={1: "diverged"}))
    part = study_view(load_results("quick", [write_study(tmp_path / "b", failed, session=False)]))
    v = part.others[1]
    assert v.difference.value != pytest.approx(v.value.value - part.baseline.value.value)
    assert (adjusted(part) or "").startswith("The means of “time .75” and of “none” are over d")


def test_missing_runs_are_not_called_failed(tmp_path: Path) -> None:
    gone = dict.fromkeys(range(5), "missing")
    arms = (Arm("none"), Arm("time .5", "time", 0.5, statuses=gone))
    view = study_view(load_results("quick", [write_study(tmp_path, arms, session=False)]))
    assert told(view).startswith("0 of 5 seeds, no verdict yet; “none” reaches mAP 0.8")
    assert ", up to 5 seeds, on " in conditions(view)  # the baseline's, not none at all
    ((verdict, _, sentence),) = answers(view)
    assert verdict == "missing"
    assert sentence == "not run yet; with 34 of 66 tokens."


@pytest.mark.parametrize(
    ("ratio", "verdict", "words"),
    [
        # The step takes 1 / 0.43 times as long, and the interval excludes nothing.
        ((1 / 0.43, 1 / 1.67, 1 / 0.23), "undecided", "takes 2.3× [0.6, 4.3] as long (undecided)"),
        ((1.0, 0.97, 1.03), "about as fast", "1.00× [0.97, 1.03]"),
        ((0.98, 0.97, 0.99), "about as fast", "takes as long, within ±5 % (0.980× [0.970, 0.990])"),
        ((0.5, 0.48, 0.52), "faster", "takes 0.500× [0.480, 0.520] as long"),
        ((2.0, 1.9, 2.1), "slower", "takes 2.00× [1.90, 2.10] as long"),
        ((1.0, NAN, NAN), "undecided", ""),
    ],
)
def test_the_verdict_on_speed_is_an_equivalence_test(
    ratio: tuple[float, float, float], verdict: str, words: str
) -> None:
    cost = Cost(Span(0.1), Span(*ratio))
    assert cost.speed_verdict == verdict
    assert words in step_time(cost)


def test_a_reference_is_marked_and_not_counted(quick: Results) -> None:
    scale = ("time .5", "CNN")
    variants = tuple(replace(v, reference=v.name in scale) for v in quick.study.variants)
    items = tuple(
        replace(c, verdict="better" if c.variant in scale else "worse") for c in quick.comparisons
    )
    study = replace(quick.study, variants=variants)
    view = study_view(replace(quick, study=study, comparisons=items))
    text = told(view)
    assert "better" not in text.partition("; neighbors: ")[0]
    assert " (“time .5” and “CNN” are shown for scale, not counted); neighbors: " in text
    assert f"all {len(variants) - 3} variants" in text
    names = {row[0] for row in verdicts(view).texts()}
    assert {*(f"{name} (for scale, not counted)" for name in scale), "unstructured .5"} <= names


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
