from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from passt_bench.errors import InputError
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import failure
from passt_bench.runner.plan import (
    Datasets,
    StudyPlan,
    choose_variants,
    missing_cells,
    plan_request,
    plan_study,
)
from passt_bench.runner.request import Paths, RunConfig, StudyRequest, data_folders, typed
from passt_bench.runner.studies import StudyFile, load_file, load_study, study_names
from passt_bench.spec import ModelSpec, Variant, override
from passt_bench.study_run import describe


def _plan(file: Path, out: Path, **changes: object) -> StudyPlan:
    paths = Paths(out)
    study = replace(load_study(str(file)).study, **changes)  # type: ignore[arg-type]
    return plan_study(study, paths, datasets=Datasets(paths))


def _asked(request: StudyRequest, out: Path) -> StudyPlan:
    return plan_request(load_study(request.study), request, Paths(out, data_folders(())))


def test_a_plan_is_repeatable_and_shares_cells(study_file: Path, tmp_path: Path) -> None:
    one, two = _plan(study_file, tmp_path), _plan(study_file, tmp_path / "elsewhere")
    assert [(cell.seed, cell.variant) for cell in one.cells] == [  # in whole blocks
        (seed, name) for seed in (0, 1) for name in ("none", "time", "diverges")
    ]
    assert [cell.key for cell in one.cells] == [cell.key for cell in two.cells]
    assert len({cell.key for cell in one.cells}) == 6
    same = _plan(study_file, tmp_path, variants=(Variant("none"), Variant("again")))
    assert len(same.cells) == 2
    assert same.record.variants[0].cells == same.record.variants[1].cells
    again = choose_variants(same, ["again"], baseline=False)  # the cells are those of the chosen
    assert [cell.key for cell in again.cells] == [cell.key for cell in same.cells]
    assert {cell.variant for cell in again.cells} == {"again"}


def test_some_variants_are_planned_within_the_whole_study(study_file: Path, tmp_path: Path) -> None:
    whole = _plan(study_file, tmp_path)

    def names(*chosen: str, baseline: bool = True) -> list[str]:
        plan = choose_variants(whole, chosen, baseline)
        assert plan.whole == whole.record
        kept = [variant.name for variant in plan.record.variants]
        assert [cell for cell in whole.cells if cell.variant in kept] == list(plan.cells)
        assert plan.has_baseline is ("none" in kept)
        return kept

    assert names() == ["none", "time", "diverges"]
    assert names("time") == ["none", "time"]
    assert names("diverges", "time", "time") == ["none", "time", "diverges"]
    assert names("none") == ["none"]
    assert names("time", baseline=False) == ["time"]
    assert names(baseline=False) == ["time", "diverges"]


def test_names_of_variants_are_taken_whole(tmp_path: Path) -> None:
    request = StudyRequest("quick", variants=("stride 6, 64 patches",), baseline=False)
    (variant,) = _asked(request, tmp_path).record.variants
    assert variant.name == "stride 6, 64 patches"
    with pytest.raises(InputError) as caught:
        _asked(replace(request, variants=("stride 6,64 patches",)), tmp_path)
    assert (caught.value.source, caught.value.field) == ("quick", "--variant")
    assert "Did you mean 'stride 6, 64 patches'? Known: CNN; frequency .5;" in str(caught.value)


def test_the_command_on_record_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["run", "quick", "--variant", "stride 6, 64 patches", "--data", "esc50=/data/my sounds"]
    monkeypatch.setattr(sys, "argv", ["passt-bench", *words])
    assert shlex.split(typed()) == ["passt-bench", *words[:-1], "esc50=DIR"]


def test_the_record_has_grid_tokens_direction_and_references(
    study_file: Path, tmp_path: Path
) -> None:
    one, two, three = load_study(str(study_file)).study.variants
    record = _plan(study_file, tmp_path, variants=(one, two, replace(three, reference=True))).record
    none, time, _ = record.variants
    assert (none.grid, none.tokens, none.tokens_full) == ((4, 4), 18, 18)
    assert (time.tokens, time.tokens_full, time.patchout["rate"]) == (10, 18, 0.5)
    assert record.better == "greater"
    assert [variant.reference for variant in record.variants] == [False, False, True]


def test_the_expected_time_counts_the_rounds_that_can_be(study_file: Path, tmp_path: Path) -> None:
    """Six rounds are the most here: a limit of a day does not make them last that long."""
    base = load_study(str(study_file)).study.base
    limits = {"measurement.seconds": 86400.0, "measurement.most_rounds": 6}
    plan = _plan(study_file, tmp_path, base=override(base, limits))
    text = describe(plan, Store(tmp_path), RunConfig())
    assert "Expected: about" in text
    assert " h " not in text


def test_more_seeds_are_counted_on(study_file: Path, tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    study = load_study(str(study_file)).study
    for number, seeds in ((1, (0,)), (4, (0, 1, 2, 3))):
        assert plan_study(study, paths, seeds=number).record.seeds == seeds


@pytest.mark.parametrize(
    ("variant", "field"),
    [
        ({"metrics": ("mAP", "f1")}, "metric"),
        ({"metrics": ("accuracy",)}, "metrics"),
        ({"training.checkpoint_selection": "validation"}, "training.checkpoint_selection"),
        ({"frontend.mels": 8}, "mels"),
        ({"data.seed": 5}, "data"),
        ({"model": ModelSpec("panns_micro"), "patchout.kind": "time"}, "patchout.kind"),
    ],
)
def test_what_cannot_run_is_refused(
    study_file: Path, tmp_path: Path, variant: dict[str, object], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        _plan(study_file, tmp_path, variants=(Variant("none"), Variant("bad", variant)))
    assert caught.value.field == field
    assert not list(tmp_path.iterdir())


def test_missing_cells_and_retry(study_file: Path, tmp_path: Path) -> None:
    plan, store = _plan(study_file, tmp_path), Store(tmp_path)
    assert missing_cells(plan, store) == list(plan.cells)
    broken: RunRecord = failure(plan.cells[0], "error", "why")
    store.write(broken)
    assert missing_cells(plan, store) == list(plan.cells[1:])
    again = missing_cells(plan, store, ("error",))
    assert again[0] == replace(plan.cells[0], attempt=2)


@pytest.mark.parametrize("name", [n for n in study_names() if isinstance(load_file(n), StudyFile)])
def test_every_study_of_the_suite_can_be_planned(name: str, tmp_path: Path) -> None:
    if name == "patchout_type" and not os.environ.get("PASST_BENCH_DATA"):
        pytest.skip("needs real audio")
    plan = _asked(StudyRequest(name), tmp_path)
    assert plan.record.notebook
    assert plan.study.minutes
    if name == "quick":  # compares kinds at equal tokens
        tokens = {variant.name: variant.tokens for variant in plan.record.variants}
        kinds = ("unstructured", "time", "frequency", "structured")
        assert len({tokens[f"{kind} .75"] for kind in kinds}) == 1
        assert len({tokens[f"{kind} .5"] for kind in kinds[:3]}) == 1


def test_data_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PASST_BENCH_DATA", raising=False)
    assert data_folders(["esc50=/x"]) == {"esc50": Path("/x")}
    (tmp_path / "mine" / "meta").mkdir(parents=True)
    (tmp_path / "mine" / "meta" / "esc50.csv").write_text("")
    monkeypatch.setenv("PASST_BENCH_DATA", str(tmp_path))
    assert data_folders([]) == {"esc50": tmp_path / "mine"}
