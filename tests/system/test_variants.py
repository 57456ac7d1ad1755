"""Pages that show the variants of a study that were run so far."""

from dataclasses import replace
from pathlib import Path

import pytest
from study_on_disk import SMALL, Arm, write_study

from passt_bench.analysis.results import begun, load_results
from passt_bench.errors import InputError
from passt_bench.records.store import Store
from passt_bench.report.build import build_study

ARMS = (
    Arm("none"),
    Arm("time .5", "time", 0.5, effect=-0.2),
    Arm("stride 6", stride=6, effect=0.035),
    Arm("stride 6, 64 patches", "structured", 0.36, stride=6, effect=-0.01),
)
UNRUN = dict.fromkeys(range(5), "missing")


def verdicts(page: Path) -> list[str]:
    return (page.parent / "tables" / "verdicts.csv").read_text(encoding="utf-8").splitlines()


def written(tmp_path: Path, arms: tuple[Arm, ...]) -> tuple[Path, str]:
    write_study(tmp_path / "runs", arms, session=False, rich=False)
    page = build_study("quick", tmp_path / "runs", tmp_path / "reports")
    return page, page.read_text(encoding="utf-8")


def unrun(*arms: Arm) -> tuple[Arm, ...]:
    return tuple(replace(arm, statuses=UNRUN) for arm in arms)


def test_variants_that_were_not_run_are_named_and_not_shown(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    page, text = written(tmp_path, (*ARMS[:2], *unrun(*ARMS[2:])))
    assert "2 of the 4 variants of the study. Not run yet: “stride 6” and “stride 6, 64" in text
    assert len(verdicts(page)) == 1 + 2
    assert "have not been run yet" not in text
    assert "No verdict" not in text and "“time .5” is worse" in text
    assert ", 5 seeds" in text
    # The report keeps the whole study, and what was not run changed no comparison.
    assert Store(reports / "quick").study("quick") == Store(runs).study("quick")
    results = begun(load_results("quick", [Store(runs)]))
    (shown,) = (row for row in verdicts(page) if row.startswith("time .5"))
    assert f"{results.comparisons[0].low:.6g}" in shown


@pytest.mark.parametrize(
    ("arms", "said", "unsaid"),
    [
        (SMALL, ("too large",), "Not run yet"),
        ((ARMS[0], *unrun(*ARMS[1:])), ("1 variant ·",), "nan"),
        (
            (*unrun(ARMS[0]), ARMS[1], *unrun(ARMS[2])),
            ("The baseline “none” has no result, so nothing can be", "Not run yet: “stride 6”."),
            "These are 3",
        ),
    ],
    ids=["failed", "only the baseline", "without the baseline"],
)
def test_pages_of_incomplete_studies(
    arms: tuple[Arm, ...], said: tuple[str, ...], unsaid: str, tmp_path: Path
) -> None:
    _, text = written(tmp_path, arms)
    assert all(words in text for words in said)
    assert unsaid not in text.replace("unanswered", "")


def test_an_unknown_study_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_study(tmp_path / "runs", ARMS, session=False, rich=False)
    with pytest.raises(InputError) as caught:
        build_study("slow", tmp_path / "runs", tmp_path / "reports")
    assert (caught.value.field, caught.value.value) == ("study", "slow")
    assert not (tmp_path / "reports").exists()
