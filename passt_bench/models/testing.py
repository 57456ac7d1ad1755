"""Contract tests for models, patchout kinds and front ends, to be subclassed by plug-ins.

In the tests of a plug-in, for pytest::

    class TestMyModel(ModelContract):
        model = "my_model"
        options = {"width": 16}

Nothing here needs pytest: each check is a method ``test_…`` that raises `ContractError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from passt_bench.errors import InputError, require, require_error
from passt_bench.models import build_model, create_model
from passt_bench.models.base import AudioModel, initialize
from passt_bench.models.frontend import frame_count, make_frontend
from passt_bench.models.patchout import draw_batch, draw_kept, resolve, scaled
from passt_bench.registry import PATCHOUTS
from passt_bench.spec.recipe import FrontendSpec, Pair, Patchout

_BATCH = 3


class ModelContract:
    """What every model must do; choose options with which it is checked in a second."""

    model: str
    options: Mapping[str, Any] = {}
    classes = 5
    mels = 64
    frames = 64

    def _build(self, **more: Any) -> AudioModel:
        """The model without weights, and by default without patchout."""
        return build_model(self.model, self.classes, **self._arguments(more))

    def _create(self, seed: int = 0, **more: Any) -> AudioModel:
        """The model with initial weights, in evaluation."""
        return create_model(self.model, self.classes, seed=seed, **self._arguments(more)).eval()

    def _arguments(self, more: Mapping[str, Any]) -> dict[str, Any]:
        given = {"mels": self.mels, "frames": self.frames, "patchout": Patchout()}
        return {**given, **self.options, **more}

    def _input(self, batch: int = _BATCH) -> torch.Tensor:
        """Random log-mel, (batch, 1, mels, frames)."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, 1, self.mels, self.frames, generator=generator)

    def test_shapes(self) -> None:
        """Builds and runs on the meta device, where `plan` counts; logits have the right shape."""
        with torch.device("meta"):
            net = self._build()
            x = torch.empty(_BATCH, 1, self.mels, self.frames)
        on_meta = all(t.device.type == "meta" for t in (*net.parameters(), *net.buffers()))
        require(on_meta, "the model must build on the meta device")
        shape = tuple(net.eval()(x).shape)
        require(shape == (_BATCH, self.classes), f"logits must be (batch, classes), not {shape}")
        grid = net.grid(self.frames)
        if grid is not None:
            for name, pair in (("grid", grid), ("patch", net.patch), ("stride", net.stride)):
                good = isinstance(pair, tuple) and len(pair) == 2 and min(pair) > 0
                require(good, f"{name} must be a positive pair (frequency, time): {pair}")

    def test_initial_weights(self) -> None:
        """`init_parameter` sets every value of every parameter, using only its generator."""
        nets: list[AudioModel] = []
        for seed in (0, 0, 1):
            torch.manual_seed(len(nets))  # which must not matter
            net = self._build()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.fill_(torch.nan)
            initialize(net, seed)
            nets.append(net)
        for name, parameter in nets[0].named_parameters():
            require(bool(parameter.isfinite().all()), f"init_parameter must set all of {name}")
        one, same, other = (list(net.parameters()) for net in nets)
        require(all(map(torch.equal, one, same)), "the same seed must give the same weights")
        require(not all(map(torch.equal, one, other)), "another seed must give other weights")

    def test_own_initial_values(self) -> None:
        """What the constructor sets to values of its own is not overwritten unnoticed."""
        built = []
        for seed in (0, 1):  # what torch draws by default differs
            torch.manual_seed(seed)
            built.append(dict(self._build().named_parameters()))
        net = self._create()
        for name, parameter in net.named_parameters():
            own = built[0][name]
            chosen = torch.equal(own, built[1][name]) and bool(own.any() or own.ndim == 1)
            lost = chosen and not torch.equal(own, parameter)
            overridden = type(net).init_parameter is not AudioModel.init_parameter
            problem = f"init_parameter overwrites what the constructor gives {name}; override it"
            require(overridden or not lost, problem)

    @torch.no_grad()
    def test_state(self) -> None:
        """A state dict, read by a new model, gives the same logits."""
        net, copy, x = self._create(0), self._create(1), self._input()
        require(not torch.equal(net(x), copy(x)), "logits must depend on the weights")
        copy.load_state_dict(net.state_dict())
        require(torch.equal(net(x), copy(x)), "the state dict must hold all state")

    @torch.no_grad()
    def test_evaluation(self) -> None:
        """In evaluation nothing is random, and a clip's logits do not depend on its batch."""
        net, x = self._create(), self._input()
        logits = net(x)
        require(logits.dtype == torch.float32, "float32 input must give float32 logits")
        require(bool(logits.isfinite().all()), "logits must be finite")
        require(torch.equal(logits, net(x)), "evaluation must not be random")
        alone = torch.cat([net(row[None]) for row in x])
        same = torch.allclose(alone, logits, rtol=1e-3, atol=1e-4)
        require(same, "logits of a clip must not depend on other clips")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            require(bool(net(x).isfinite().all()), "logits must be finite in bfloat16")
        same = torch.equal(net.train().eval()(x), logits)
        require(same, "train() and eval() must not change logits")

    def test_gradients(self) -> None:
        """Every parameter gets a gradient, except those named in ``unused``."""
        net = self._create().train()
        torch.manual_seed(0)
        net(self._input(batch=8)).square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
        without = {name for name, grad in gradients.items() if grad is None or not grad.any()}
        problem = f"exactly `unused` must be without a gradient, not {sorted(without)}"
        require(without == set(net.unused), problem)

    @torch.no_grad()
    def test_kept_patches(self) -> None:
        """``kept`` selects patches; keeping all of them changes nothing."""
        net, x = self._create().train(), self._input()
        grid = net.grid(self.frames)
        if grid is None:
            problem = "without patches, `kept` must raise ValueError"
            require_error(lambda: net(x, torch.arange(1)), ValueError, problem)
            return
        patches = grid[0] * grid[1]

        def logits(kept: torch.Tensor | None) -> torch.Tensor:
            torch.manual_seed(0)  # for dropout
            out: torch.Tensor = net(x, kept)
            return out

        every, whole = logits(None), logits(torch.arange(patches))
        same = torch.allclose(whole, every, rtol=1e-5, atol=1e-6)
        require(same, "keeping all patches must change nothing")
        for scope in ("batch", "sample"):
            setting = Patchout("unstructured", patches=max(1, patches // 2), scope=scope)
            found = logits(draw_batch(setting, grid, 0, 0, _BATCH))
            require(found.shape == every.shape, f"one pattern per {scope} must be accepted")
            require(not torch.equal(found, every), f"one pattern per {scope} must drop patches")

    def test_input_of_kept_patches(self) -> None:
        """Gradients reach the input under the patches that are kept, and nothing else."""
        net, x = self._create(), self._input(batch=1).requires_grad_()
        grid = net.grid(self.frames)
        if grid is None:
            return
        kept = torch.tensor([grid[0] * grid[1] - 1])  # the last is in one corner of the input
        net(x, kept).square().sum().backward()
        assert x.grad is not None
        top, left = (int(n - 1) * s for n, s in zip(grid, net.stride, strict=True))
        patch = x.grad[0, 0, top : top + net.patch[0], left : left + net.patch[1]]
        require(bool(patch.any()), "kept patches must be read; indices are frequency-major")
        elsewhere = int(x.grad.count_nonzero() - patch.count_nonzero())
        require(elsewhere == 0, "no other patch may be read")

    @torch.no_grad()
    def test_own_patchout(self) -> None:
        """A model's own patchout is active only in training; without patches it is refused."""
        x, setting = self._input(), Patchout("unstructured", rate=0.5)
        if self._build().grid(self.frames) is None:
            problem = "without patches, patchout must raise InputError"
            require_error(lambda: self._build(patchout=setting), InputError, problem)
            return
        net, plain = self._create(patchout=setting), self._create()
        require(torch.equal(net(x), plain(x)), "patchout must be off in evaluation")
        net.train()
        require(not torch.equal(net(x), net(x)), "each training step must draw new patches")

    def test_options(self) -> None:
        """An option that the model does not have is refused by name."""
        problem = "an unknown option must raise InputError"
        error = require_error(lambda: self._build(no_such_option=1), InputError, problem)
        require(error.field == "model.no_such_option", "the error must name the option")

    @torch.no_grad()
    def test_offsets(self) -> None:
        """If input fits several positions in the time encodings, ``offset`` selects one."""
        net = self._create()
        require(net.num_offsets(self.frames) >= 1, "num_offsets must be at least 1")
        places = ((n, net.num_offsets(n)) for n in range(self.frames, 0, -1))
        try:
            frames, count = next((pair for pair in places if pair[1] > 1), (0, 0))
        except InputError:  # fewer frames than a patch has
            return
        x = self._input()[..., :frames]
        sums = {net(x, offset=torch.tensor(i)).sum().item() for i in range(count)}
        require(len(sums) == count, "each offset must give other logits")


class PatchoutContract:
    """What every patchout kind must do; the setting must leave patches on every grid."""

    setting: Patchout
    grids: ClassVar[tuple[Pair, ...]] = ((8, 8), (12, 99), (5, 7))  # (frequency, time)

    def test_draws(self) -> None:
        """A draw keeps exactly the number of patches that was resolved, each once, in order."""
        for grid in self.grids:
            total, kept = grid[0] * grid[1], resolve(self.setting, grid).kept
            require(1 <= kept <= total, f"must keep 1 to {total} patches, not {kept}")
            for step in range(20):
                drawn = draw_kept(self.setting, grid, 0, step)
                right = drawn.dtype == np.int64 and drawn.shape == (kept,)
                require(right, f"must draw {kept} indices, int64")
                inside = drawn[0] >= 0 and drawn[-1] < total and bool((np.diff(drawn) > 0).all())
                require(inside, "indices must be ascending and within the grid")

    def test_draws_are_pure(self) -> None:
        """A draw depends only on seed and step."""
        for grid in self.grids:
            draws, again = (
                [draw_kept(self.setting, grid, 0, step) for step in range(20)] for _ in range(2)
            )
            same = all(map(np.array_equal, draws, again))
            require(same, "draws must depend only on seed and step")
            dropped = grid[0] * grid[1] - len(draws[0])
            differ = any(not np.array_equal(draws[0], other) for other in draws)
            require(differ or not dropped, "steps must draw different patches")

    def test_schedules(self) -> None:
        """A smaller share of the amount drops less, and share 0 drops nothing."""
        if not PATCHOUTS.get(self.setting.kind).build.fields:
            return
        for grid in self.grids:
            shares = (0.0, 0.25, 0.5, 1.0)
            kept = [resolve(scaled(self.setting, share, grid), grid).kept for share in shares]
            require(kept[0] == grid[0] * grid[1], "share 0 must drop nothing")
            require(kept == sorted(kept, reverse=True), "a larger share must drop more")
            require(kept[-1] == resolve(self.setting, grid).kept, "share 1 must be the setting")


class FrontEndContract:
    """What every front end must do; the sizes of its spec should be small."""

    spec: FrontendSpec
    seconds = 0.5

    def _waves(self) -> torch.Tensor:
        """Noise, faint noise and silence, (3, samples)."""
        samples = round(self.seconds * self.spec.sampling_rate)
        noise = torch.rand(samples, generator=torch.Generator().manual_seed(0)) - 0.5
        return torch.stack((noise, noise / 1e4, torch.zeros(samples)))

    def test_shape(self) -> None:
        """(batch, 1, mels, frames), with the number of frames that `frame_count` gives."""
        net, waves = make_frontend(self.spec), self._waves()
        for samples in (waves.shape[1], waves.shape[1] - 1, waves.shape[1] - self.spec.hop):
            frames = frame_count(self.spec, samples / self.spec.sampling_rate)
            shape, expected = tuple(net(waves[:, :samples]).shape), (3, 1, self.spec.mels, frames)
            require(shape == expected, f"log-mel must be {expected}, not {shape}")

    def test_values(self) -> None:
        """Finite float32, with and without autocast; each clip is independent of the others."""
        net, waves = make_frontend(self.spec), self._waves()
        x = net(waves)
        finite = x.dtype == torch.float32 and bool(x.isfinite().all())
        require(finite, "log-mel must be finite float32")
        require(not torch.equal(x[0], x[1]), "log-mel must depend on the sound")
        alone = torch.cat([net(wave[None]) for wave in waves])
        same = torch.allclose(alone, x, rtol=1e-4, atol=1e-4)
        require(same, "log-mel of a clip must not depend on other clips")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            require(torch.equal(net(waves), x), "autocast must change nothing")

    def test_normalization(self) -> None:
        """``mean`` is subtracted, then the result is divided by ``std``."""
        moved = replace(self.spec, mean=self.spec.mean + 1.0, std=2 * self.spec.std)
        x, y = (make_frontend(spec)(self._waves()) for spec in (self.spec, moved))
        wanted = (x * self.spec.std - 1.0) / moved.std
        require(torch.allclose(y, wanted, rtol=1e-4, atol=1e-4), "must use mean and std")

    def test_state(self) -> None:
        """A front end has nothing to train or save."""
        net = make_frontend(self.spec)
        require(not list(net.parameters()), "must not have parameters")
        require(not net.state_dict(), "must not save state")

    def test_edges(self) -> None:
        """Other filter edges give another log-mel, because jitter in training needs it."""
        net, waves = make_frontend(self.spec), self._waves()
        same = net(waves, net.banks(self.spec.fmin, self.spec.fmax))
        unchanged = torch.allclose(same, net(waves), rtol=1e-4, atol=1e-4)
        require(unchanged, "its own edges must change nothing")
        other = net(waves, net.banks(self.spec.fmin, 0.8 * self.spec.fmax))
        require(not torch.equal(other, same), "other edges must change log-mel")

    def test_short_clips(self) -> None:
        """A clip too short for a frame is refused."""
        net, problem = make_frontend(self.spec), "a clip of one sample must raise InputError"
        require_error(lambda: net(self._waves()[:, :1]), InputError, problem)
