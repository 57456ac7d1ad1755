import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from study_on_disk import Arm, fingerprint, write_study

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.report.paper import AUDIOSET, IMAGENET, Available, render_paper

PUBLISHED = Path(__file__).parents[2] / "reports" / "paper"
NOTHING = Available()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        shutil.copy(PUBLISHED / f"table{number}.csv", tmp_path)
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ran(folder: Path, table: int = 1) -> dict[str, str]:
    return {
        next(iter(row.values())): row["ran_here"] for row in rows(folder / f"table{table}_here.csv")
    }


def test_published_numbers_are_kept_to_the_digit(folder: Path) -> None:
    render_paper(folder, NOTHING)
    for number in (1, 2, 3):
        published, here = (
            rows(folder / f"table{number}.csv"),
            rows(folder / f"table{number}_here.csv"),
        )
        assert [{k: v for k, v in row.items() if k != "ran_here"} for row in here] == published
    passt = next(row for row in rows(folder / "table1.csv") if row["model"] == "PaSST-S")
    assert passt["mAP"] == "0.471"
    assert "| PaSST-S | yes | 0.471 | 88.7 | 3.8 | 0.513 | 474 |" in (
        folder / "table1.md"
    ).read_text(encoding="utf-8")


def test_without_anything_every_row_says_why(folder: Path) -> None:
    render_paper(folder, NOTHING)
    assert ran(folder)["PaSST-S"] == "no data, no weights, no GPU"
    assert ran(folder)["CNN (RF-CNN)"] == "no data, no GPU"
    assert ran(folder, 3)["PaSST-S"] == "no data, no weights, no GPU"
    assert all(ran(folder, table)[row] for table in (1, 2, 3) for row in ran(folder, table))


def test_reasons_follow_what_is_there(folder: Path) -> None:
    render_paper(folder, Available(datasets=frozenset({"audioset", "esc50"}), gpu=True))
    assert ran(folder)["PaSST-S"] == "no weights"
    assert ran(folder)["PANNs"] == "not run yet"
    assert ran(folder, 3)["PaSST-S"] == (
        "OpenMIC, DCASE20, FSD50K: no data, no weights; ESC-50: no weights"
    )
    everything = Available(
        frozenset({"audioset", "openmic", "esc50", "dcase20", "fsd50k"}),
        frozenset({IMAGENET, AUDIOSET}), gpu=True,
    )  # fmt: skip
    render_paper(folder, everything)
    assert set(ran(folder).values()) == {"not run yet"}


def test_a_row_that_ran_shows_its_number(folder: Path, tmp_path: Path) -> None:
    data = replace(fingerprint(), dataset="audioset")
    arms = (Arm("PaSST-B"), Arm("PaSST-S", "structured", 0.5, effect=0.01))
    results = load_results("quick", [write_study(tmp_path / "runs", arms, data=data)])
    render_paper(folder, NOTHING, [results])
    assert ran(folder)["PaSST-S"].startswith("mAP 0.8")
    assert ran(folder)["PaSST-S"].endswith("(study quick)")
    assert ran(folder)["PaSST-U"] == "no data, no weights, no GPU"


def test_page_and_latex_hold_all_rows(folder: Path) -> None:
    page = render_paper(folder, NOTHING).read_text(encoding="utf-8")
    assert page.count('<th scope="row">') == 11 + 9 + 7
    assert (folder / "table1.tex").read_text(encoding="utf-8").count(r" \\") == 12
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    render_paper(folder, NOTHING)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_a_missing_or_changed_table_is_named(folder: Path) -> None:
    (folder / "table2.csv").write_text("system,mAP\nx,0.5\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"table2\.csv.*columns.*members"):
        render_paper(folder, NOTHING)
    (folder / "table2.csv").unlink()
    with pytest.raises(InputError, match="missing"):
        render_paper(folder, NOTHING)
