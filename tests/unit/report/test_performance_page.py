"""The tables of docs/performance.md against the files that they are computed from."""

import json
import runpy
from pathlib import Path

import pytest
from step_profile import kinds_of, table

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("path", sorted(DOCS.glob("profile_*.json")), ids=lambda path: path.stem)
def test_the_page_has_the_tables_of_its_files(path: Path) -> None:
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert f"docs/{path.name}" in page
    assert table(json.loads(path.read_text(encoding="utf-8"))) in page


def test_a_kernel_counts_as_the_first_kind_that_its_name_tells() -> None:
    kernels = [
        ["cudnn_generated_fort_native_sdpa_sm90_flash_bprop", 1, 1.0],
        ["nvjet_sm90_tst_192x192_64x4", 1, 2.0],
        ["aten::addmm", 1, 4.0],
        ["triton_poi_fused_gelu_view_12", 1, 8.0],
        ["aten::copy_", 1, 16.0],
    ]
    found = [ms for ms in kinds_of(kernels).values() if ms]
    assert found == [1.0, 6.0, 8.0, 16.0]


@pytest.mark.parametrize("path", sorted(DOCS.glob("cpu_steps*.json")), ids=lambda path: path.stem)
def test_the_page_has_the_steps_on_two_cores(path: Path) -> None:
    steps = runpy.run_path(str(ROOT / "tests" / "bench" / "cpu_steps.py"))
    measured = json.loads(path.read_text(encoding="utf-8"))["tokens"]
    rows = steps["markdown"](measured)
    assert rows.count("\n") == len(steps["ENGINES"])
    assert rows in (DOCS / "performance.md").read_text(encoding="utf-8")
