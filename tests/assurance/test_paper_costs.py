"""The comparison of the paper's systems, small, on the CPU: what a GPU machine will run."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures import Cli

from passt_bench.records.store import Store
from passt_bench.runner.compare import PAPER

SIZES = "--device cpu --batch 1 --session-limit 1 --published-batch 1 --published-steps 2"
SMALL = "--set model.depth=1 --set model.width=48 --set model.heads=3"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--precision float32,bfloat16 --engine eager", ("float32-eager", "bfloat16-eager")),
        ("passt_s passt_s_n --precision float32 --engine compiled", ("float32-compiled",)),
    ],
)
def test_the_systems_of_the_paper_side_by_side(
    words: str, names: tuple[str, ...], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out = cli("paper-costs", *f"{words} {SIZES} {SMALL}".split())
    assert status == 0, out
    store = Store(tmp_path / "runs")
    for name in names:
        record = store.study(f"paper-costs-cpu-{name}")
        assert (store.root / "reports" / record.name / "index.html").is_file()
        wanted = {variant.arm for variant in record.variants}
        arms = [arm for s in store.sessions() for arm in s.arms if arm.key in wanted]
        for arm in arms:
            assert arm.status == "ok" and arm.published is not None
            assert (arm.compile_seconds is None) == (arm.recipe.engine.compile == "off")
        if name.endswith("compiled"):
            assert {arm.recipe.engine.compile for arm in arms} == {"default"}
        else:
            assert tuple(v.name for v in record.variants)[: len(PAPER)] == PAPER
            # The golden counts of the paper's Table 1.
            assert [v.tokens for v in record.variants[:5]] == [1190, 790, 474, 474, 254]
