"""Models: log-mel (B, 1, mels, frames) → logits (B, classes), one calling convention for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from inspect import Parameter, signature
from typing import Any

from torch import nn

from passt_bench.errors import InputError
from passt_bench.models.ast import AST
from passt_bench.models.base import initialise
from passt_bench.models.cp_resnet import CpResNet
from passt_bench.models.mobilenet import MobileNetV3
from passt_bench.models.panns import Cnn6, Cnn10, Cnn14, Panns
from passt_bench.models.passt import PaSST
from passt_bench.models.patchout import draw, draw_batch, resolve, twin
from passt_bench.models.weights import load_weights, read_model, save_model
from passt_bench.registry import MODELS
from passt_bench.spec.frontends import ast_frontend, frontend_of, panns_frontend
from passt_bench.spec.recipe import FrontendSpec, Pair, Patchout, Recipe

__all__ = [
    "PaSST",
    "Panns",
    "Patchout",
    "build_model",
    "create_model",
    "draw",
    "draw_batch",
    "from_recipe",
    "initialise",
    "load_weights",
    "read_model",
    "resolve",
    "save_model",
    "twin",
]

Builder = Callable[..., nn.Module]
_FRAMES = 998  # that the published encodings of 10 s cover


def _panns(num_classes: int, *, mels: int, frames: int, width: int, depth: int) -> nn.Module:
    return Panns(num_classes, mels=mels, width=width, depth=depth)


_S = Patchout(kind="structured", time=40, frequency=4)
_TABLE: tuple[tuple[str, str, Builder], ...] = (
    ("passt_b", "PaSST-B, stride 10, no patchout (paper)", PaSST),
    (
        "passt_u",
        "PaSST-U, stride 10, 400 patches dropped (paper)",
        partial(PaSST, patchout=Patchout(kind="unstructured", patches=400)),
    ),
    (
        "passt_s",
        "PaSST-S, stride 10, 40 columns and 4 rows dropped (paper)",
        partial(PaSST, patchout=_S),
    ),
    (
        "passt_s_l",
        "PaSST-S-L, as S with 7 blocks (paper)",
        partial(PaSST, patchout=_S, depth=7),
    ),
    (
        "passt_s_n",
        "PaSST-S-N, stride 16, 20 columns and 2 rows dropped (paper)",
        partial(PaSST, patchout=replace(_S, time=20, frequency=2), stride=(16, 16)),
    ),
    ("passt_small", "width 384, depth 12", partial(PaSST, width=384, heads=6)),
    ("passt_tiny", "width 192, depth 12", partial(PaSST, width=192, heads=3)),
    (
        "passt_micro",
        "width 64, depth 2, for quick studies",
        partial(PaSST, width=64, depth=2, heads=4),
    ),
    ("panns_micro", "PANNs-style CNN, 3 blocks from 8 channels", partial(_panns, width=8, depth=3)),
    ("ast", "AST, stride 10 (Gong et al. 2021)", AST),
    ("ast_n", "AST-N, stride 16 (paper)", partial(AST, stride=(16, 16))),
    ("cnn14", "PANNs CNN14 (Kong et al. 2020)", Cnn14),
    ("cnn10", "PANNs CNN10 (Kong et al. 2020)", Cnn10),
    ("cnn6", "PANNs CNN6 (Kong et al. 2020)", Cnn6),
    ("cp_resnet", "CP-ResNet, small receptive field (Koutini et al. 2021)", CpResNet),
    ("mobilenetv3", "MobileNetV3-Large (Howard et al. 2019)", MobileNetV3),
)
_AST, _PANNS = ast_frontend(), panns_frontend()
_FRONTENDS: dict[str, FrontendSpec] = {  # PaSST's for all others
    **{"ast": _AST, "ast_n": _AST},
    **{"cnn14": _PANNS, "cnn10": _PANNS, "cnn6": _PANNS},
}
for _name, _summary, _build in _TABLE:
    _frontend = _FRONTENDS.get(_name)
    MODELS.register(_name, version=1, summary=_summary, frontend=_frontend)(_build)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


def build_model(
    name: str,
    num_classes: int,
    *,
    stride: int | Pair | None = None,
    patch: int | Pair | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    multiplier: float | None = None,
    rho: int | None = None,
    overlong: str | None = None,
    mels: int | None = None,
    frames: int | None = None,
    patchout: Patchout | None = None,
) -> nn.Module:
    """Builds a registered model without filling its weights; also on the meta device.

    Args:
        name: see ``passt-bench list models``.
        num_classes: logits.
        stride: patch stride, one number or (frequency, time); None is the model's default, as for
            ``patch``, ``width``, ``depth``, ``heads`` and ``patchout``.
        patch: patch size.
        width: embedding width or first channels.
        depth: blocks.
        heads: attention heads.
        multiplier: of all channels, where a model has one.
        rho: size of the receptive field, where a model has one.
        overlong: what happens to input longer than the time encodings, see `spec.recipe.ModelSpec`.
        mels: rows of the input; None is what the model's own front end gives.
        frames: columns of the input; None is 998, of AST the 1024 that its front end pads to.
        patchout: what a plain ``net(x)`` drops in training.

    Returns:
        A module: log-mel (B, 1, mels, frames) → logits (B, num_classes); a second argument holds
        the kept patch indices, see `models.patchout.draw_batch`.

    Raises:
        InputError: an unknown name, a model whose packages are not installed, a field that the
            model does not take, or a size below one.
    """
    component = MODELS.get(name)
    if component.missing():
        raise InputError(
            f"needs what is not installed: {', '.join(component.missing())}",
            field="model",
            value=name,
            remedy="Install it; `passt-bench doctor` lists what is missing.",
        )
    build: Builder = component.build
    own = frontend_of(name)
    size = {"mels": mels, "frames": frames}
    size = {"mels": own.mels, "frames": own.frames or _FRAMES} | _given(size)
    options: dict[str, Any] = {"width": width, "depth": depth, "heads": heads}
    options |= {"stride": _pair(stride) if stride is not None else None}
    options |= {"patch": _pair(patch) if patch is not None else None}
    _check_positive({"num_classes": num_classes, **size}, "")
    _check_positive(_given(options), "model.")
    options |= {"multiplier": multiplier, "rho": rho, "overlong": overlong, "patchout": patchout}
    return build(num_classes, **size, **_accepted(name, build, _given(options)))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _check_positive(sizes: dict[str, Any], prefix: str) -> None:
    for name, value in sizes.items():
        if min(value if isinstance(value, tuple) else (value,)) < 1:
            raise InputError(
                "must be positive", field=f"{prefix}{name}", value=value, remedy="Give 1 or more."
            )


def _accepted(name: str, build: Builder, given: dict[str, Any]) -> dict[str, Any]:
    """The options that a builder takes; a model whose builder takes no patchout has no patches."""
    parameters = signature(build).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return given  # it checks them itself
    setting: Patchout = given.get("patchout", Patchout())
    if "patchout" not in parameters and setting.kind != "none":
        raise InputError(
            f"model {name!r} has no patches to drop",
            field="patchout.kind",
            value=setting.kind,
            remedy="Use 'none' with this model.",
        )
    taken = {key: value for key, value in given.items() if key in parameters}
    for key in given.keys() - taken.keys() - {"patchout"}:
        options = sorted(parameters.keys() - {"num_classes", "mels", "frames", "patchout"})
        raise InputError(
            f"model {name!r} does not take it",
            field=f"model.{key}",
            value=given[key],
            remedy=f"It takes: {', '.join(options) or 'nothing'}.",
        )
    return taken


def create_model(name: str, num_classes: int, *, seed: int = 0, **options: Any) -> nn.Module:
    """Builds a registered model with initial weights drawn from the seed.

    Takes the options of `build_model`; the same seed gives the same weights to every parameter
    that two models have in common.
    """
    net = build_model(name, num_classes, **options)
    initialise(net, seed)
    return net


def from_recipe(recipe: Recipe, num_classes: int, frames: int) -> nn.Module:
    """The model of a recipe, without initial weights and without patchout of its own.

    The recipe's patchout is drawn outside and handed to the forward pass.
    """
    options = asdict(recipe.model)
    options["frames"] = options["frames"] or frames
    if options["overlong"] == "cut":
        del options["overlong"]
    options |= {"mels": recipe.frontend.mels, "patchout": Patchout()}
    return build_model(num_classes=num_classes, **options)
