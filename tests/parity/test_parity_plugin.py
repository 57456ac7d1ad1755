"""The authors' models as `examples/peers/` brings them: by entry point, measured as any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import peers
import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import create_model
from passt_bench.models.testing import ModelContract
from passt_bench.records.store import Store
from passt_bench.registry import MODELS
from passt_bench.runner.compare import subjects
from passt_bench.runner.estimates import summarize_model
from passt_bench.spec import (
    DataSpec,
    ModelSpec,
    Patchout,
    Recipe,
    ast_frontend,
    panns_frontend,
    passt_frontend,
)
from passt_bench.spec.frontends import frontend_of

SMALL = {"width": 32, "depth": 1, "heads": 1}
OPTIONS = {"hear21passt": SMALL, "transformers_ast": SMALL, "panns_inference": {}}
PACKAGES = [package for name in OPTIONS for package in MODELS.get(name).packages]
CLASSES, FRAMES = 5, 100  # 1 s


def test_they_come_by_entry_point() -> None:
    assert {item.name for item in MODELS.all() if item.packages} == set(OPTIONS)
    assert frontend_of("hear21passt") == passt_frontend(jitter=False)
    assert frontend_of("transformers_ast") == ast_frontend()
    assert frontend_of("panns_inference") == panns_frontend()


@pytest.mark.parametrize("check", ["test_initial_weights", "test_state", "test_evaluation"])
@pytest.mark.parametrize("name", OPTIONS)
def test_contract(name: str, check: str) -> None:
    contract = ModelContract()
    contract.model, contract.options, contract.frames = name, OPTIONS[name], FRAMES
    contract.mels = frontend_of(name).mels
    with peers.quiet():
        getattr(contract, check)()


@pytest.mark.parametrize(
    "setting",
    [
        Patchout(),
        Patchout("unstructured", patches=7),
        Patchout("structured", time=3, frequency=2),
        Patchout("time", rate=0.5),
        Patchout("frequency", rate=0.5),
    ],
    ids=lambda setting: setting.kind,
)
def test_the_official_passt_draws_its_patchout_itself(setting: Patchout) -> None:
    """As many patches as the record says, others in each step, and all of them in evaluation."""
    items = ["hear21passt:width=32,depth=1,heads=1", "passt_micro"]
    shared = Recipe(ModelSpec("passt_s"), data=DataSpec(seconds=1.0))
    recipe = next(iter(subjects(items, shared).values()))
    facts = summarize_model(replace(recipe, patchout=setting), CLASSES)
    net = create_model("hear21passt", CLASSES, frames=FRAMES, **SMALL).train()
    tokens: list[int] = []
    net.net.blocks[0].register_forward_pre_hook(lambda _, x: tokens.append(x[0].shape[1]))
    x = torch.randn(2, 1, 128, FRAMES)
    drawn = net.step_inputs(setting, FRAMES, 0, 0, len(x))
    assert torch.equal(net(x, **drawn), net(x, **drawn)) == (setting.kind == "none")
    net.eval()
    net(x, **drawn)
    assert tokens == [facts.tokens, facts.tokens, facts.tokens_full]
    assert (facts.tokens < facts.tokens_full) == (setting.kind != "none")


@pytest.mark.parametrize(
    ("name", "setting", "field"),
    [
        ("hear21passt", Patchout("block", rate=0.5), "patchout.kind"),
        ("hear21passt", Patchout("time", rate=0.5, scope="sample"), "patchout.scope"),
        ("transformers_ast", Patchout("time", rate=0.5), "patchout.kind"),
    ],
)
def test_what_the_official_code_does_not_have_is_refused(
    name: str, setting: Patchout, field: str
) -> None:
    net = create_model(name, CLASSES, frames=FRAMES, **SMALL)
    with pytest.raises(InputError) as refused:
        net.step_inputs(setting, FRAMES, 0, 0, 2)
    assert refused.value.field == field


def test_they_are_compared_with_ours(cli: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    size = "width=32,depth=1,heads=1"
    dropping = f"hear21passt:{size},patchout.kind=structured,patchout.time=3,patchout.frequency=2"
    items = [f"hear21passt:{size}", dropping, f"transformers_ast:{size}", "panns_inference"]
    words = ["compare", f"passt_s:{size},patchout.kind=none", *items, "--name", "mine"]
    words += [
        "--batch",
        2,
        "--seconds",
        1,
        "--set",
        "measurement.seconds=1",
        "--set",
        "measurement.steps=1",
    ]
    words += ["--runs", tmp_path / "runs", "--reports", tmp_path / "reports"]
    assert cli(*words)[0] == 0
    record = Store(tmp_path / "runs").study("mine")
    (versions,) = (session.versions for session in Store(tmp_path / "runs").sessions())
    assert versions.items() >= {(name, version(name)) for name in PACKAGES}
    arms = {a.key: a for s in Store(tmp_path / "runs").sessions() for a in s.arms}
    ours, whole, dropped, *others = (arms[variant.arm] for variant in record.variants)
    assert {arm.status for arm in arms.values()} == {"ok"}
    assert whole.tokens == ours.tokens > dropped.tokens
    assert dropped.flops < 0.7 * whole.flops
    assert whole.flops == pytest.approx(ours.flops, rel=0.01)
    assert dropped.memory["saved_for_backward"] < 0.8 * whole.memory["saved_for_backward"]
    assert len(others) == 2
    page = (tmp_path / "reports" / "mine" / "index.html").read_text(encoding="utf-8")
    assert "panns_inference" in page
    assert f"torchlibrosa {version('torchlibrosa')}" in page
