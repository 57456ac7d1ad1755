from dataclasses import replace
from pathlib import Path

import pytest
from one_comparison import comparison, told
from study_on_disk import SMALL, Arm, write_study

from passt_bench.analysis.compare import Comparison
from passt_bench.analysis.results import Results, analyze, load_results
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.report.cost_tables import costs_headline
from passt_bench.report.provenance import conditions, not_run, study_facts
from passt_bench.report.sentences import (
    answers,
    coarse,
    power_sentence,
    runs_sentence,
    step_time,
    weights_sentence,
)
from passt_bench.report.study_tables import adjusted, verdicts
from passt_bench.report.terminal import result_json
from passt_bench.report.text import Span
from passt_bench.report.view import Cost, study_view
from passt_bench.spec import InitSpec

NAN = float("nan")
REPORTS = Path(__file__).parents[3] / "reports"


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


def test_variants_with_the_same_runs_are_counted_once_and_named_together(quick: Results) -> None:
    again = quick.study.variants[2].name
    view = study_view(replace(quick, same={again: quick.study.variants[1].name}))
    assert f"“{again}” has the runs of “{view.variants[1].name}” and is counted once" in told(view)
    assert len(view.answers) == len(view.others) - 1
    assert f"{again} (the same runs as “{view.variants[1].name}”)" in {
        row[0] for row in verdicts(view).texts()
    }


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
        "2 seeds cannot tell how other trainings would end. This compares the two models that are "
        "kept: `passt-bench evaluate --data synthetic --checkpoint "
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
