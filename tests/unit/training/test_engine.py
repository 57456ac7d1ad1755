"""The engine: losses by hand, half precision, attention kernels, and settings that cannot work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import RECIPE, equal, fresh, make_task, stopped, trained
from torch.nn import functional as F

from passt_bench.errors import ContractError, InputError, require, require_error
from passt_bench.measure.memory import saved_for_backward
from passt_bench.models import AudioModel, create_model
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.spec import EngineSpec, Patchout, Recipe, override
from passt_bench.training.batches import with_known
from passt_bench.training.engine import Engine, ModelStep, loss_of
from passt_bench.training.evaluate import predict
from passt_bench.training.state import Training, copy_of

X = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
NAN = math.nan
TARGETS = np.array([[1, NAN, 0], [NAN, NAN, 1], [0, 1, NAN]], dtype="f4")
LOGITS = torch.tensor([[0.3, 9.0, -1.0], [7.0, -7.0, 0.2], [0.5, -0.4, 5.0]])


def test_masked_loss_is_the_mean_over_known_labels() -> None:
    targets = torch.from_numpy(TARGETS)
    known = ~targets.isnan()
    expected = float(F.binary_cross_entropy_with_logits(LOGITS[known], targets[known]))
    for form in (targets, torch.from_numpy(with_known(TARGETS))):
        logits = LOGITS.clone().requires_grad_()
        loss = loss_of("masked_bce", logits, form)
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
        loss.backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        assert torch.equal(logits.grad != 0, known)
    nothing = loss_of("masked_bce", LOGITS, torch.full((3, 3), NAN))
    assert float(nothing) == 0


def test_a_mixed_clip_has_the_mixed_loss_of_both() -> None:
    """Known in one clip alone, a label counts with that clip's share and its own target."""
    share, both = 0.7, with_known(TARGETS)
    mixed = torch.from_numpy(share * both[:1] + (1 - share) * both[2:])
    entries = F.binary_cross_entropy_with_logits(
        LOGITS[:1].expand(2, 3), torch.tensor([[1.0, 0, 0], [0, 1, 0]]), reduction="none"
    )
    weights = torch.tensor([[share, 0, share], [1 - share, 1 - share, 0]])
    expected = float((entries * weights).sum() / weights.sum())
    assert float(loss_of("masked_bce", LOGITS[:1], mixed)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "targets"), [("bce", [1.0, 0.0]), ("masked_bce", [1.0, 0.0]), ("ce", [0.7, 0.3])]
)
def test_losses_of_logits_that_are_zero(kind: str, targets: list[float]) -> None:
    found = loss_of(kind, torch.zeros(1, 2), torch.tensor([targets]))
    assert float(found) == pytest.approx(math.log(2))


def _net() -> AudioModel:
    return create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_like_float32_at_first(precision: Any, tmp_path: Path) -> None:
    losses = []
    for folder, chosen in (("whole", "float32"), ("half", precision)):
        task = make_task(tmp_path / folder)
        task.recipe = replace(task.recipe, engine=EngineSpec(precision=chosen))
        done = trained(task)
        losses.append(done.progress.train_loss)
        assert {value.dtype for value in done.net.parameters()} == {torch.float32}
        parts = torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)["parts"]
        assert set(parts) == {"optimizer"} | ({"scaler"} if chosen == "float16" else set())
        assert chosen != "float16" or parts["scaler"]["scale"] == 65536.0
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[1] != losses[0]


DECLARED = [
    ({"attention": "materialised"}, 1e-5),
    ({"attention": "by_heads"}, 1e-5),
    ({"residual": "compute"}, 0.0),  # float32 is the compute precision
    ({"precision": "bfloat16"}, 0.05),
    ({"precision": "bfloat16", "residual": "compute"}, 0.05),
    ({"precision": "bfloat16", "attention": "materialised"}, 0.05),
    ({"precision": "bfloat16", "attention": "by_heads"}, 0.05),
    ({"precision": "float16"}, 0.005),
    ({"accumulate": 4}, 0.0),
]


class EngineContract:
    """What every engine must do with the settings of ``spec``.

    ``tolerance`` is the largest error of an output, as a share of the largest output in plain
    float32; ``impossible`` has settings that cannot be combined.
    """

    engine: type[Engine] = Engine
    spec = EngineSpec()
    tolerance = 1e-5
    impossible: tuple[Mapping[str, Any], ...] = (
        {"device": "cpu", "graph": True},
        {"device": "cuda", "graph": True, "precision": "float16"},
    )

    def _parts(self) -> tuple[Engine, AudioModel, torch.Tensor]:
        """The engine, a small model on the CPU and its input."""
        spec = replace(self.spec, evaluate_precision=self.spec.precision)
        return self.engine(spec), _net(), X

    def test_outputs(self) -> None:
        """Outputs are those of the model in plain float32, within the tolerance."""
        engine, net, x = self._parts()
        with torch.no_grad():
            plain = net.eval()(x)
        engine.configure(net.to(engine.device))
        found = engine.infer(net, x).cpu()
        require(found.dtype == torch.float32, f"outputs must be float32, not {found.dtype}")
        error = float((found - plain).abs().max() / plain.abs().max())
        require(error <= self.tolerance, f"errors may be {self.tolerance}, and one is {error:.2g}")

    def test_training_step(self) -> None:
        """Every used parameter gets a finite gradient, and weights stay float32."""
        engine, net, x = self._parts()
        recipe = replace(Recipe(), engine=self.spec)
        step = ModelStep(net.to(engine.device).train(), recipe, engine)
        step.run(engine.send({"x": x, "targets": torch.zeros(len(x), 3)}))
        for name, weight in net.named_parameters():
            grad = torch.zeros(()) if weight.grad is None else weight.grad
            good = name in net.unused or bool(grad.isfinite().all() and grad.any())
            require(good, f"{name} must have a finite gradient")
        kinds = {weight.dtype for weight in net.parameters()}
        require(kinds == {torch.float32}, f"weights must stay float32, and are {kinds}")

    def test_refusals(self) -> None:
        """Settings that cannot be combined are refused by name."""
        for settings in self.impossible:
            make = partial(self.engine, replace(self.spec, **settings))
            error = require_error(make, InputError, f"{dict(settings)} must raise InputError")
            named = str(error.field).removeprefix("engine.") in settings
            require(named, f"the error must name one of {', '.join(settings)}")


class TestEngine(EngineContract):
    @pytest.fixture(autouse=True, params=DECLARED, ids=str)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        settings, self.tolerance = request.param
        self.spec = EngineSpec(**settings)


OWN = Engine.infer
BROKEN: list[tuple[str, str, dict[str, Any]]] = [
    ("outputs", "not torch.bfloat16", {"infer": lambda *parts: OWN(*parts).bfloat16()}),
    ("outputs", "and one is", {"infer": lambda *parts: 1.1 * OWN(*parts)}),
    ("training_step", "finite", {"make_scaler": lambda _: torch.amp.GradScaler("cpu", math.inf)}),
    ("training_step", "head", {"prepare": lambda _, net: _without_head(net)}),
    ("training_step", "stay float32", {"prepare": lambda _, net: net.bfloat16()}),
    ("refusals", "must raise", {"__init__": lambda _, spec: None}),
]


def _without_head(net: Any) -> torch.nn.Module:
    for name, weight in net.named_parameters():
        weight.requires_grad_(not name.startswith("head"))
    return net


@pytest.mark.parametrize(("check", "words", "change"), BROKEN)
def test_what_breaks_the_contract_is_noticed(
    check: str, words: str, change: dict[str, Any]
) -> None:
    contract = EngineContract()
    contract.engine, contract.tolerance = type("Broken", (Engine,), change), 0.05
    contract.spec = EngineSpec(precision="bfloat16")
    with pytest.raises(ContractError, match=words):
        getattr(contract, f"test_{check}")()


@pytest.mark.parametrize(("engine", "tolerance"), DECLARED, ids=str)
def test_evaluation_computes_like_training(engine: dict[str, Any], tolerance: float) -> None:
    """By default in float32, never compiled; it differs from float32 if the settings say so."""
    net, spec, every = _net().eval(), EngineSpec(**engine), np.arange(16)
    plain = predict(net, X[:, 0].numpy(), every)
    usual = predict(net, X[:, 0].numpy(), every, Engine(spec))
    np.testing.assert_allclose(usual, plain, atol=1e-5 * np.abs(plain).max())
    mode = "off" if spec.attention == "by_heads" else "default"  # which is refused
    asked = replace(spec, evaluate_precision=spec.precision, compile=mode)
    found = predict(net, X[:, 0].numpy(), every, Engine(asked))
    call = Engine(spec).prepare(net)
    with torch.no_grad(), Engine(spec).autocast():
        np.testing.assert_array_equal(found, call(X).float().numpy())
    assert (found != plain).any() == (tolerance > 0)


def test_materialised_attention_is_kept_for_backward() -> None:
    saved = []
    for attention in ("by_heads", "fused", "materialised"):
        net = _net()
        call = Engine(EngineSpec(attention=attention)).prepare(net)
        saved.append(saved_for_backward(partial(call, X), net.parameters()))
    assert saved[2] > saved[1] >= saved[0]
    net = _net()
    assert Engine(EngineSpec()).prepare(net) is net


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("loss", ["bce", "ce", "masked_bce"])
def test_the_gradients_of_chunks_add_up_to_those_of_the_batch(loss: Any, scope: Any) -> None:
    targets = torch.rand(16, 3, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    if loss == "masked_bce":  # the chunks know 12, 1, 0 and 2 labels
        known = torch.zeros(16, 3)
        known.view(-1)[[*range(12), 13, 40, 47]] = 1
        targets = torch.stack([targets * known, known], dim=1)
    found = []
    for chunks in (1, 4):
        net, recipe = _net(), replace(RECIPE, engine=EngineSpec(accumulate=chunks))
        step = ModelStep(net.train(), override(recipe, {"training.loss": loss}))
        drawn = net.step_inputs(Patchout("unstructured", rate=0.5, scope=scope), 32, 0, 0, 16)
        assert drawn["kept"].ndim == (2 if scope == "sample" else 1)
        value = step.run({"x": X, "targets": targets, **drawn})
        grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        found.append((value, grads))
    (whole, grads), (parts, sums) = found
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=0)
    assert grads.keys() == sums.keys()
    for name, grad in grads.items():
        scale = 1e-5 * float(grad.abs().max())
        torch.testing.assert_close(sums[name], grad, rtol=0, atol=scale)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_training_in_chunks_is_that_of_batches_and_resumes_exactly(
    precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = {name: make_task(tmp_path / name) for name in ("plain", "whole", "resumed")}
    for name, task in tasks.items():
        spec = EngineSpec(precision=precision, accumulate=1 if name == "plain" else 2)
        task.recipe = replace(task.recipe, engine=spec)
    whole, plain = trained(tasks["whole"]), trained(tasks["plain"])
    tolerance = 1e-5 if precision == "float32" else 0.02
    assert whole.progress.train_loss == pytest.approx(plain.progress.train_loss, rel=tolerance)
    stopped(monkeypatch, 6, tasks["resumed"])
    again = trained(tasks["resumed"])
    assert again.progress.train_loss == whole.progress.train_loss
    assert equal(again.net.state_dict(), whole.net.state_dict())


def test_a_step_in_chunks_keeps_less_for_backward() -> None:
    saved = []
    for chunks in (1, 4):
        recipe = override(RECIPE, {"engine.accumulate": chunks, "training.batch_size": 8})
        subject = RecipeFactory(recipe, 3)()
        assert list(subject.step) == (
            ["forward", "backward", "optimizer"] if chunks == 1 else ["chunks"]
        )
        subject.train(1)
        assert subject.parts is not None
        saved.append(saved_for_backward(subject.parts["forward"], subject.resident))
    assert saved[1] == pytest.approx(saved[0] / 4, rel=0.1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("recompute", "share"), [("norms", 0.8), ("blocks", 0.25)])
def test_recomputation_saves_memory_and_changes_no_bit(
    recompute: Any, share: float, precision: Any
) -> None:
    found = []
    for chosen in ("none", recompute):
        net, engine = _net(), Engine(EngineSpec(precision=precision, recompute=chosen))
        call = engine.prepare(net)

        def forward(call: Any = call, engine: Engine = engine) -> torch.Tensor:
            with engine.autocast():
                logits: torch.Tensor = call(X).float()
            return logits.square().sum()

        saved = saved_for_backward(forward, net.parameters())
        loss = forward()
        loss.backward()  # type: ignore[no-untyped-call]
        grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        found.append((saved, loss, grads))
    (before, loss, grads), (after, same, again) = found
    assert after < share * before
    assert torch.equal(loss, same)
    assert grads.keys() == again.keys()
    assert all(torch.equal(grad, again[name]) for name, grad in grads.items())


@pytest.mark.parametrize(("precision", "size"), [("float32", 4), ("bfloat16", 2)])
@pytest.mark.parametrize("residual", ["float32", "compute"])
def test_norms_leave_out_exactly_what_is_computed_again(
    precision: Any, size: int, residual: Any
) -> None:
    """Among what is still counted are autocast's copies of the weights."""
    saved = []
    for recompute in ("none", "norms"):
        net, chosen = _net(), EngineSpec(precision=precision, residual=residual)
        engine = Engine(replace(chosen, recompute=recompute))
        with engine.autocast():
            forward = partial(engine.prepare(net), X)
            saved.append(saved_for_backward(forward, net.parameters()))
    blocks: Any = net.blocks
    width, hidden = blocks[0].mlp.fc2.weight.shape
    tokens = 16 + 2
    normalized = len(blocks) * tokens  # for the attention; the last block passes on two of them
    behind = (len(blocks) - 1) * tokens + 2
    left_out = normalized * width + behind * (width + hidden)
    assert saved[0] - saved[1] == len(X) * size * left_out


@pytest.mark.parametrize("mode", ["default", "max-autotune"])
def test_the_compiler_chooses_itself_which_norms_to_recompute(mode: Any) -> None:
    with pytest.raises(InputError, match="compiler itself chooses") as caught:
        Engine(EngineSpec(compile=mode, recompute="norms"))
    assert (caught.value.field, caught.value.value) == ("engine.recompute", "norms")


def test_a_resumed_optimizer_reads_the_rate_from_its_own_tensor(tmp_path: Path) -> None:
    """On which a captured step depends, though a checkpoint holds another tensor."""
    task = make_task(tmp_path)
    graph = override(task.recipe, {"engine.graph": True})

    def start() -> tuple[ModelStep, torch.Tensor, Training]:
        net = fresh()
        step = ModelStep(net, graph, Engine(EngineSpec()))
        rate = step.optimizer.param_groups[0]["lr"]
        return step, rate, Training(net, step, task)

    step, rate, state = start()
    assert isinstance(rate, torch.Tensor)
    batch = {"x": X[:, :, :16], "targets": torch.zeros(16, 3)}
    step.set_learning_rate(0.25)
    state.start()
    state.count_step(step.run(batch))  # writes a checkpoint
    step, rate, state = start()
    assert state.progress.step == 1
    step.set_learning_rate(0.5)
    assert step.optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 0.5
    before = copy_of(state.net)
    rate.fill_(0.0)  # as the device does between two replays
    step.run(batch)
    assert equal(before, copy_of(state.net))


def test_inputs_that_are_no_tensors_are_sent_as_they_are() -> None:
    inputs = {"amounts": (1, 2, 3), "kept": None, "x": X}
    sent = Engine(EngineSpec()).send(inputs)
    assert sent == inputs
    assert sent["x"] is X
