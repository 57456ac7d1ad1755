"""Which study on record a command's study is, and what of it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import small_study
from layouts import write_esc50
from planned_study import finished

from passt_bench.analysis.results import Results, begun, load_results
from passt_bench.errors import InputError
from passt_bench.records.run import StudyRecord
from passt_bench.records.store import Store
from passt_bench.registry import METRICS
from passt_bench.report.provenance import not_run, study_facts
from passt_bench.report.sentences import answers, findings
from passt_bench.report.terminal import result_json
from passt_bench.report.view import study_view
from passt_bench.runner import plan as planning
from passt_bench.runner.compare import as_study
from passt_bench.runner.plan import StudyPlan, choose_variants, plan_request
from passt_bench.runner.request import Paths, RunConfig, StudyRequest
from passt_bench.runner.run_status import chosen, named_on_record
from passt_bench.runner.studies import StudyFile, load_study
from passt_bench.spec import Recipe, Variant, override
from passt_bench.study_run import describe, write_study


@pytest.fixture
def file(tmp_path: Path) -> StudyFile:
    return load_study(str(small_study.write(tmp_path)))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def begin(
    file: StudyFile, runs: Path, *sets: str, data: dict[str, Path] | None = None, **asked: object
) -> StudyPlan:
    """Plans a study, and begins it as `run` does."""
    plan = plan_request(file, StudyRequest("tiny", sets, **asked), Paths(runs, data or {}))  # type: ignore[arg-type]
    write_study(plan, Store(runs))
    return plan


def changed(file: StudyFile, **changes: object) -> StudyFile:
    return replace(file, study=replace(file.study, **changes))  # type: ignore[arg-type]


def test_other_settings_get_a_name_of_their_own_and_find_it_again(
    file: StudyFile, runs: Path
) -> None:
    late = plan_request(file, StudyRequest("tiny", ("training.epochs=9",)), Paths(runs))
    first = begin(file, runs)
    assert (first.study.name, first.notes) == ("tiny", ())
    with pytest.raises(InputError) as caught:  # another command has taken the name meanwhile
        write_study(late, Store(runs))
    assert (caught.value.field, caught.value.value) == ("name", "tiny")
    longer = begin(file, runs, "training.epochs=3")
    assert longer.study.name == longer.record.name == longer.stored_record.name == "tiny-2"
    assert "variant 'none', training.epochs = 3" in longer.notes[0]
    assert longer.notes[0] in describe(longer, Store(runs), RunConfig())
    for sets, name, found in (
        (("training.epochs=4",), None, "tiny-3"),
        ((), None, "tiny"),
        (("training.epochs=3",), None, "tiny-2"),
        (("engine.num_workers=1",), None, "tiny"),  # decides no result
        (("training.epochs=4",), "mine", "mine"),  # names that are given are kept apart likewise
        (("training.epochs=5",), "mine", "mine-2"),
    ):
        assert begin(file, runs, *sets, name=name).study.name == found
    assert Store(runs).studies() == ["mine", "mine-2", "tiny", "tiny-2", "tiny-3"]
    recorded = Store(runs).study("tiny")
    assert [v.cells for v in recorded.variants] == [v.cells for v in first.stored_record.variants]


def test_a_name_on_record_without_a_file(file: StudyFile, runs: Path) -> None:
    store = Store(runs)
    for sets in ((), ("training.epochs=3",)):
        command = begin(file, runs, *sets).stored_record.command
    asked = StudyRequest("tiny-2", variants=("time",))
    assert (named := named_on_record(asked, store)) == store.study("tiny-2")
    assert [variant.name for variant in chosen(named, asked).variants] == ["none", "time"]
    for other in (replace(asked, seeds=1), replace(asked, study="tiny-3"), StudyRequest("quick")):
        assert named_on_record(other, store) is None
    with pytest.raises(InputError, match="a name on record") as caught:
        load_study("tiny-2", store)
    assert str(caught.value).endswith(command)


def test_what_a_page_compares_is_a_setting(file: StudyFile, runs: Path) -> None:
    file = changed(file, base=replace(file.study.base, metrics=("mAP", "AUC")))
    begin(file, runs)
    fewer = {"variants": (Variant("none"), Variant("more", {"salt": 1}))}
    settings = ({"baseline": "time"}, {"metric": "AUC"}, {"margin": 0.1}, fewer)
    for number, changes in enumerate(settings, 2):
        other = begin(changed(file, **changes), runs)
        assert other.study.name == f"tiny-{number}"
        assert ("no variant 'time'" if changes is fewer else next(iter(changes))) in other.notes[0]


def test_contrasts_that_change_after_the_first_run_are_named(file: StudyFile, runs: Path) -> None:
    def declare(*names: str) -> StudyPlan:
        pairs = {name: {"time": 1.0, "none": -1.0} for name in names}
        return begin(changed(file, contrasts={"family": pairs}), runs)

    def facts() -> dict[str, str]:
        return dict(study_facts(study_view(load_results("tiny", [Store(runs)]))))

    assert declare("a").notes == declare("a", "b").notes == ()  # nothing has been run
    assert "contrasts_changed" not in (runs / "studies" / "tiny.json").read_text()
    Store(runs).write(finished(declare("a", "b").cells[0]))
    assert declare("a", "b").notes == () and "Contrasts" not in facts()
    assert declare("a").notes == ("The contrasts declared in tiny changed after its first run.",)
    assert declare("a").notes == ()  # the page goes on saying so
    assert facts()["Contrasts"].endswith(", when runs were on record already")


def test_contrasts_keep_their_declared_order(file: StudyFile, runs: Path) -> None:
    turned = {"z": {"time": 1.0, "none": -1.0}, "y": {"time": -1.0, "none": 1.0}}
    for contrasts in ({"last": turned}, {}):
        begin(changed(file, contrasts=contrasts), runs)
        declared = load_results("tiny", [Store(runs)]).declared
        assert [c.variant for c in declared.get("last", ())] == ["z", "y"][: 2 * len(contrasts)]
    assert "contrast_order" not in (runs / "studies" / "tiny.json").read_text()


def run(plan: StudyPlan, runs: Path, but: int = 0) -> Results:
    """Writes records of all cells of a plan but the last ones; what has begun of its study."""
    for cell in plan.cells[: len(plan.cells) - but]:
        value = {"none": 0.5, "time": 0.6, "diverges": 0.3}[cell.variant] + cell.seed * 0.01
        Store(runs).write(finished(cell, value))
    return begun(load_results(plan.study.name, [Store(runs)]))


def verdicts(results: Results) -> dict[str, str]:
    return {item.variant: item.verdict for item in results.comparisons}


def test_the_first_run_decides_which_variants_are_judged(file: StudyFile, runs: Path) -> None:
    some = begin(file, runs, seeds=3, variants=("time",))
    part = run(some, runs, but=1)
    assert (part.ended, part.look, verdicts(part)) == (2, None, {"time": "no verdict"})
    assert findings(study_view(part))[0].startswith(
        "2 of 3 seeds, no verdict yet; “none” reaches mAP"
    )
    shown = result_json(study_view(part), None, None)
    assert "2 of 3 seeds, no verdict yet" in shown["answer"]
    (sentence,) = (text for _, _, text in answers(study_view(part)))
    assert sentence.startswith("2 of 3 seeds, no verdict yet (difference +0.1")
    assert verdicts(run(some, runs)) == {"time": "better"}
    assert begin(file, runs, seeds=1, variants=("time",)).notes == ()
    later = begin(file, runs, seeds=3)
    assert later.stored_record.asked == (("none", "time"), ("diverges",))
    said = "“diverges”: added after the first run, a further look"
    assert said in later.notes[0] and said in not_run(study_view(run(later, runs, but=1)))
    assert set(verdicts(run(later, runs, but=1)).values()) == {"no verdict"}
    assert verdicts(run(later, runs)) == {"time": "better", "diverges": "worse"}


def test_a_command_that_asks_for_all_is_not_judged_in_parts(file: StudyFile, runs: Path) -> None:
    whole = begin(file, runs, seeds=3)
    some = choose_variants(whole, ("time",), True)
    for _ in range(2):
        shown = study_view(run(some, runs)).others
        assert {v.name: v.verdict for v in shown} == {"time": "no verdict", "diverges": "missing"}
        begin(file, runs, seeds=3, variants=("time",))  # the family stays


def test_the_same_runs_under_another_name_are_a_further_look(file: StudyFile, runs: Path) -> None:
    first = begin(file, runs, seeds=3)
    run(first, runs, but=1)
    assert begin(file, runs, seeds=3, name="early").notes == ()  # nothing could be judged yet
    assert set(verdicts(run(first, runs)).values()) == {"better", "worse"}
    alike = begin(file, runs, seeds=3, name="alike", variants=("time",))
    assert "“tiny” judged these runs before, planned with 3 seeds and 3 variants" in alike.notes[0]
    assert verdicts(run(alike, runs)) == {"time": "better"}
    grown = run(begin(file, runs, seeds=5, name="grown"), runs)
    assert grown.look == 5 and set(verdicts(grown).values()) == {"no verdict"}
    view = study_view(grown)
    assert "“tiny” judged these runs before" in not_run(view)
    assert not_run(view) in result_json(view, None, None)["notes"]
    assert all("; these runs were judged before)" in text for _, _, text in answers(view))
    begin(file, runs, seeds=5, name="grown")
    assert verdicts(run(first, runs)) == {"time": "better", "diverges": "worse"}
    # A margin chosen after the verdicts has none; “grown”, which has none either, judged nothing.
    wide = begin(changed(file, margin=0.3), runs, seeds=3)
    assert (wide.study.name, [e.study for e in wide.stored_record.earlier]) == (
        "tiny-2", ["alike", "early", "tiny"],
    )  # fmt: skip
    assert "with a margin of ±0.02, here ±0.3. There is no verdict here" in wide.notes[-1]
    assert set(verdicts(run(wide, runs)).values()) == {"no verdict"}
    # Two seeds were judged nowhere, so more may be added under any name.
    base = changed(file, base=override(file.study.base, {"training.epochs": 4}))
    run(begin(base, runs, seeds=2, name="two"), runs)
    assert begin(base, runs, seeds=4, name="four").stored_record.earlier == ()


def test_later_seeds_are_left_out_and_the_page_says_so(file: StudyFile, runs: Path) -> None:
    run(begin(file, runs, seeds=3), runs)
    first = study_view(run(begin(file, runs, seeds=3), runs))
    later = study_view(run(begin(file, runs, seeds=5), runs))
    assert not not_run(first)
    assert not_run(later) == (
        "Judged at the first 3 seeds, as first planned; 2 later seeds are left out."
    )
    assert later.baseline.value == first.baseline.value
    assert later.baseline.cells == "5 ok"


def test_a_look_needs_no_more_seeds_than_the_study_has(file: StudyFile, runs: Path) -> None:
    looks = changed(file, seeds=tuple(range(5)), looks=(3, 5))
    for seeds in (3, 5, 6):
        plan = begin(looks, runs, seeds=seeds)
        assert (plan.record.looks, len(plan.record.seeds)) == ((3, 5), seeds)
    assert Store(runs).study("tiny").judged_at == (3, 5)


def cells(study: StudyRecord) -> set[tuple[str, int]]:
    return {(variant.name, cell.seed) for variant in study.variants for cell in variant.cells}


def test_more_or_fewer_seeds_and_variants_are_the_same_study_of_which_nothing_is_lost(
    file: StudyFile, runs: Path
) -> None:
    begin(file, runs, seeds=1)
    assert begin(file, runs, seeds=3).study.name == "tiny"
    whole = Store(runs).study("tiny")
    assert whole.seeds == (0, 1, 2)
    assert {cell.seed for cell in begin(file, runs, seeds=1).cells} == {0}
    assert Store(runs).study("tiny") == whole
    variants = (*file.study.variants, Variant("more", {"salt": 1}))
    grown = begin(changed(file, variants=variants), runs, seeds=2)
    assert grown.study.name == "tiny"
    assert cells(Store(runs).study("tiny")) == {
        (variant.name, seed) for variant in variants for seed in (0, 1, 2)
    }
    part = begin(file, runs, "training.epochs=3", variants=("time",))
    assert len(part.record.variants) == 2
    assert begin(file, runs, "training.epochs=3").study.name == part.study.name == "tiny-2"


def test_folds_on_record_stay_and_other_data_are_another_study(
    file: StudyFile, runs: Path, tmp_path: Path
) -> None:
    of_files = {"data.name": "esc50", "data.train_clips": None, "data.test_clips": None}
    base = override(file.study.base, {**of_files, "training.loss": "ce"})
    file, data = changed(file, base=base), {"esc50": tmp_path / "esc"}
    write_esc50(data["esc50"], folds=3, each=2)
    for folds in (2, 3, 1):
        plan = begin(file, runs, data=data, folds=folds)
        assert plan.study.name == "tiny" and plan.record.folds == (1, 2, 3)[:folds]
    assert Store(runs).study("tiny").folds == (1, 2, 3)
    first, *_, last = sorted((data["esc50"] / "audio").glob("*.wav"))
    first.write_bytes(last.read_bytes())
    other = begin(file, runs, data=data)
    assert other.study.name == "tiny-2" and "first difference: the data" in other.notes[0]
    assert begin(file, runs, data={"esc50": data["esc50"]}).study.name == "tiny-2"


def test_a_row_that_cannot_run_for_now_stays_on_record(
    file: StudyFile, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for only in (("time", "diverges"), ("none", "time"), ("time",)):
        lacking = {v.name: "weights" for v in file.study.variants if v.name not in only}
        monkeypatch.setattr(planning, "without_weights", lambda study, found=lacking: found)
        plan = begin(file, runs)
        kept = Store(runs).study("tiny")
        assert {cell.variant for cell in plan.cells} == {*only}
        assert kept.baseline == ("time" if only == ("time", "diverges") else "none")
    assert [variant.name for variant in kept.variants] == ["none", "time", "diverges"]


def test_raised_versions_are_the_same_study_and_said(
    file: StudyFile, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = begin(file, runs)
    raised = replace(METRICS.get("mAP"), version=99)
    monkeypatch.setitem(METRICS._table, "mAP", raised)
    plan = begin(file, runs)
    assert plan.study.name == "tiny"
    assert "earlier versions" in plan.notes[0]
    assert cells(plan.stored_record) == cells(before.stored_record)
    assert {cell.key for cell in plan.cells}.isdisjoint({cell.key for cell in before.cells})


def test_comparisons_of_other_settings_are_kept_apart(file: StudyFile, runs: Path) -> None:
    recipe = file.study.base
    finer = override(recipe, {"model.stride": (8, 8)})
    begin(file, runs)  # a study that trains

    def compared(name: str = "pair", **recipes: Recipe) -> str:
        study = StudyFile(as_study(name, recipes), "")
        plan = plan_request(study, StudyRequest(name), Paths(runs))
        assert (plan.study.name != name) == bool(plan.notes)
        assert plan.record.variants[1].recipe == [*recipes.values()][1]
        write_study(plan, Store(runs))
        return plan.study.name

    for _ in range(2):  # measured again, they are the same comparison
        assert compared(a=recipe, b=finer) == "pair"
        assert compared(a=recipe, c=finer) == "pair-2"
        assert compared(a=finer, b=finer) == "pair-3"
    assert compared("tiny", a=recipe, b=finer) == "tiny-2"
