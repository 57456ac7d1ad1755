"""The comparison of the paper's systems, small, on the CPU, with the published speed test."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures import Cli

from passt_bench.records.store import Store
from passt_bench.runner.compare import PAPER

SIZES = "--batch 1 --set measurement.seconds=1 --published --published-batch 1 --published-steps 2"
SMALL = "--set model.depth=1 --set model.width=48 --set model.heads=3"


@pytest.mark.parametrize(
    "words",
    ["paper --set engine.precision=bfloat16", "passt_s passt_s_n --set engine.compile=default"],
)
def test_the_systems_of_the_paper_side_by_side(words: str, cli: Cli, tmp_path: Path) -> None:
    status, out = cli("compare", *f"{words} {SIZES} {SMALL} --runs {tmp_path} --name ours".split())
    assert status == 0, out
    store = Store(tmp_path)
    record = store.study("ours")
    assert (store.root / "reports" / "ours" / "index.html").is_file()
    arms = [arm for session in store.sessions() for arm in session.arms]
    assert {arm.key for arm in arms} == {variant.arm for variant in record.variants}
    for arm in arms:
        assert arm.status == "ok" and arm.published is not None
        assert (arm.compile_seconds is None) == (arm.recipe.engine.compile == "off")
    if words.startswith("paper"):
        assert tuple(v.name for v in record.variants)[: len(PAPER)] == PAPER
        # The golden counts of the paper's Table 1.
        assert [v.tokens for v in record.variants[:5]] == [1190, 790, 474, 474, 254]
