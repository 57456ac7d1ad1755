from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_studies import DATA, arm_key, key, run, session, session_key, study

from passt_bench.analysis.results import analyze, load_results
from passt_bench.errors import InputError
from passt_bench.records.evaluation import Against, EvaluationRecord, Member
from passt_bench.records.run import StudyRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store
from passt_bench.spec import Recipe
from passt_bench.spec.key import digest


def test_all_comes_from_the_first_store_that_has_it(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "runs"), Store(tmp_path / "reports" / "tiny")
    first.write_study(study())
    second.write_study(replace(study(), question="Old?"))
    for seed in (0, 1, 2):
        for variant in study().variants:
            second.write(run(study(), variant.name, seed, 0.5 + 0.01 * seed))
    first.write(run(study(), "none", 0, 0.9))
    first.write(session("s", "2026-02-01", {"none": 1.0, "time": 0.5}))
    second.write(session("s", "2026-02-01", {"none": 1.0, "time": 0.9}))
    second.write(session("t", "2026-01-01", {"none": 1.0, "frequency": 0.7}))
    assert load_results("tiny", [second, first]).study.question == "Old?"
    results = load_results("tiny", [first, second])
    assert results.study == study()
    assert len(results.cells) == len(results.records) == 9
    assert results.records[key("none", 0, None)].metrics["mAP"] == 0.9
    assert results.records[key("none", 1, None)].metrics["mAP"] == pytest.approx(0.51)
    assert [m.variant for m in results.means] == ["none", "time", "frequency"]
    ratios = {name: arm.ratios["train_step"].median for name, arm in results.arms.items()}
    assert ratios == {"none": 1.0, "time": 0.5, "frequency": 0.7}
    with pytest.raises(InputError, match="no study of this name is on record") as refused:
        load_results("tinny", [first, second])
    assert (refused.value.field, refused.value.value) == ("study", "tinny")


def evaluated(name: str, other: str, *runs: str | None, **changes: object) -> EvaluationRecord:
    """Two models by their names, and possibly the runs that trained them, on the same clips."""
    first, second = (
        (Member(title, "0" * 64, Recipe(), run),)
        for title, run in zip((name, other), runs or (None, None), strict=True)
    )
    record = EvaluationRecord(
        key=digest([name, other, runs, str(changes)]), name=name, members=first, fingerprint=DATA,
        split="test", fold=None, clips=10, seconds=1.0, sampling_rate=16000, device="cpu",
        against=Against(other, second, 1.0, 16000, 0.02),
    )  # fmt: skip
    return replace(record, **changes)  # type: ignore[arg-type]


def test_models_compared_on_the_same_clips_belong_to_every_study_of_their_runs(
    tmp_path: Path,
) -> None:
    store, of = Store(tmp_path), study(seeds=(0, 1), folds=(1, 2))
    store.write_study(of)
    store.write_study(replace(of, name="also", variants=of.variants[:2]))
    store.write_study(replace(study(("none", "time")), name="three"))
    none, time, frequency = (key(name, 1, 2) for name in ("none", "time", "frequency"))
    for record in (
        evaluated("tiny:time:1:2", "tiny:none:1:2", time, none),
        evaluated("tiny:frequency:1:2", "tiny:none:1:2", frequency, none),
        evaluated("also:time:1:2", "also:none:1:2"),  # by an earlier version
        evaluated("tiny:time:1:2", "passt-s.pt", time, None),
        evaluated("x:time", "x:none", time, none, fingerprint=replace(DATA, digest="other")),
        replace(evaluated("tiny:time:1:2", "", time, none), against=None),
    ):
        store.write(record)

    def pairs(name: str) -> set[tuple[str, str]]:
        found = load_results(name, [store]).paired
        return {(each.name, each.against.name) for each in found if each.against}

    whole = {(f"tiny:{name}:1:2", "tiny:none:1:2") for name in ("time", "frequency")}
    assert pairs("tiny") == whole
    assert pairs("also") == {("also:time:1:2", "also:none:1:2")}
    assert len(load_results("also", [store]).paired) == 2
    assert pairs("three") == set()  # its seeds suffice for intervals


def test_each_variant_keeps_the_ratio_of_its_own_session() -> None:
    old = session("old", "2026-01-01", {"none": 1.0, "time": 0.5})
    new = session("new", "2026-02-01", {"none": 2.0, "frequency": 0.8}, failed=["frequency"])
    results = analyze(study(), {}, [old, new])
    assert results.arms["time"].ratios["train_step"].median == 0.5
    assert results.arms["frequency"].status == "oom"  # a failure is a measurement too
    assert results.arms["none"].phases["train_step"].median == 2.0
    assert [s.key for s in results.sessions] == [session_key("old"), session_key("new")]


FOUR = study(("none", "time", "frequency", "late"))
SHARED = replace(study(("none", "salt 1")), variants=tuple(
    replace(v, arm=arm_key("none")) for v in study(("none", "salt 1")).variants
))  # fmt: skip


@pytest.mark.parametrize(
    ("of", "sessions", "ratios", "used", "step"),
    [
        # The newest wins, then the one with the greater key.
        (study(), [
            session("b", "2026-02-01", {"none": 1.0, "time": 0.3}),
            session("c", "2026-01-01", {"none": 1.0, "time": 0.1}),
            session("a", "2026-02-01", {"none": 1.0, "time": 0.2}),
        ], {"none": 1.0, "time": 0.3}, ["b"], 1.0),
        # The baseline is shown where most variants are; one alone is not this study's session.
        (FOUR, [
            session("all", "2026-01-01", {"none": 1.0, "time": 0.5, "frequency": 0.6}),
            session("one", "2026-02-01", {"none": 3.0, "late": 1.2}),
            session("alone", "2026-03-01", {"none": 9.0}),
        ], {"none": 1.0, "time": 0.5, "frequency": 0.6, "late": 0.4}, ["all", "one"], 1.0),
        (SHARED, [session("s", "", {"none": 1.0})], {"none": 1.0, "salt 1": 1.0}, ["s"], 1.0),
        # A session of another baseline does not count.
        (study(), [session("s", "", {"time": 1, "none": 0.5}, baseline="time")], {}, [], None),
    ],
)  # fmt: skip
def test_sessions_that_are_used(
    of: StudyRecord,
    sessions: list[SessionRecord],
    ratios: dict[str, float],
    used: list[str],
    step: float | None,
) -> None:
    results = analyze(of, {}, sessions)
    found = {name: arm.ratios["train_step"].median for name, arm in results.arms.items()}
    assert found == pytest.approx(ratios)
    assert [s.key for s in results.sessions] == [session_key(name) for name in used]
    assert not found or results.arms["none"].phases["train_step"].median == step
