import shlex
import sys
from pathlib import Path

import pytest
from planned_study import planned

from passt_bench.errors import InputError
from passt_bench.paper import STUDIES
from passt_bench.records.store import Store
from passt_bench.runner.plan import choose_variants, plan_request
from passt_bench.runner.request import Paths, RunConfig, StudyRequest, data_folders, typed_command
from passt_bench.runner.studies import load_study, study_names
from passt_bench.spec import ModelSpec, Variant, override
from passt_bench.study_run import describe


def test_a_plan_is_repeatable_and_shares_cells(study_file: Path, tmp_path: Path) -> None:
    one, two = planned(study_file, tmp_path), planned(study_file, tmp_path / "elsewhere")
    assert [(cell.seed, cell.variant) for cell in one.cells] == [  # in whole blocks
        (seed, name) for seed in (0, 1) for name in ("none", "time", "diverges")
    ]
    assert [cell.key for cell in one.cells] == [cell.key for cell in two.cells]
    assert len({cell.key for cell in one.cells}) == 6
    none, time, _ = one.record.variants
    assert (none.grid, none.tokens, none.tokens_full) == ((4, 4), 18, 18)
    assert (time.tokens, time.tokens_full, time.patchout["rate"]) == (10, 18, 0.5)
    assert one.record.better == "greater"
    same = planned(
        study_file, tmp_path, variants=(Variant("none"), Variant("again", reference=True))
    )
    assert [variant.reference for variant in same.record.variants] == [False, True]
    assert len(same.cells) == 2
    assert same.record.variants[0].cells == same.record.variants[1].cells
    again = choose_variants(same, ["again"], baseline=False)  # the cells are those of the chosen
    assert [cell.key for cell in again.cells] == [cell.key for cell in same.cells]
    assert {cell.variant for cell in again.cells} == {"again"}
    # Six rounds are the most here: a limit of a day does not make them last that long.
    day = {"measurement.seconds": 86400.0, "measurement.most_rounds": 6}
    base = override(load_study(str(study_file)).study.base, day)
    text = describe(planned(study_file, tmp_path, base=base), Store(tmp_path), RunConfig())
    assert "Expected: about" in text and " h " not in text


def test_some_variants_are_planned_within_the_whole_study(study_file: Path, tmp_path: Path) -> None:
    whole = planned(study_file, tmp_path)
    for chosen, baseline, kept in (
        ([], True, ["none", "time", "diverges"]),
        (["diverges", "time", "time"], True, ["none", "time", "diverges"]),
        (["none"], True, ["none"]),
        (["time"], False, ["time"]),
        ([], False, ["time", "diverges"]),
    ):
        plan = choose_variants(whole, chosen, baseline)
        assert plan.stored_record == whole.record
        assert [variant.name for variant in plan.record.variants] == kept
        assert [cell for cell in whole.cells if cell.variant in kept] == list(plan.cells)
        assert plan.has_baseline is ("none" in kept)


def test_each_run_is_in_one_part() -> None:
    for of in range(1, 9):
        parts = [RunConfig(part=(number, of)).share_of(range(7)) for number in range(1, of + 1)]
        assert sorted(cell for part in parts for cell in part) == [*range(7)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_command_can_be_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["run", "quick", "--variant", "stride 6, 64 patches", "--data", "esc50=/data/my sounds"]
    monkeypatch.setattr(sys, "argv", ["passt-bench", *words])
    assert shlex.split(typed_command()) == ["passt-bench", *words[:-1], "esc50=DIR"]
    monkeypatch.setattr(sys, "argv", ["passt-bench", "--storage", "postgresql://me:p@h/b?pwd=x"])
    assert typed_command() == "passt-bench --storage 'postgresql://h/b?pwd=***'"
    assert data_folders(words[-1:]) == {"esc50": Path("/data/my sounds")}
    (tmp_path / "mine" / "meta").mkdir(parents=True)
    (tmp_path / "mine" / "meta" / "esc50.csv").touch()
    monkeypatch.setenv("PASST_BENCH_DATA", str(tmp_path))
    assert data_folders([]) == {"esc50": tmp_path / "mine"}


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
        planned(study_file, tmp_path, variants=(Variant("none"), Variant("bad", variant)))
    assert caught.value.field == field
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", study_names())
def test_every_study_of_the_suite_can_be_planned(name: str, tmp_path: Path) -> None:
    base = load_study(name).study.base
    if base.data.name == "esc50" and name not in STUDIES and not data_folders(()):
        pytest.skip("needs real audio")
    if base.init.source == "checkpoint" and base.init.checkpoint is None:
        pytest.skip("needs a pretrained model")
    paths = Paths(tmp_path, data_folders(()))
    one = {"seeds": 1} if load_study(name).study.seeds else {}
    one |= {"folds": 1} if base.data.name == "esc50" and name not in STUDIES else {}
    request = StudyRequest(name, **one)
    plan = plan_request(load_study(name), request, paths, listed=True)
    assert plan.record.notebook
    assert plan.study.minutes or name in STUDIES
    if name == "quick":  # compares kinds at equal tokens
        tokens = {variant.name: variant.tokens for variant in plan.record.variants}
        assert tokens["unstructured .5"] == tokens["time .5"]
