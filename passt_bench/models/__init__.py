"""Models: log-mel (B, 1, mels, frames) → logits (B, classes), one calling convention for all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from passt_bench.errors import InputError
from passt_bench.models.ast import AST
from passt_bench.models.base import AudioModel, initialize
from passt_bench.models.cp_resnet import CpResNet
from passt_bench.models.mobilenet import MobileNetV3
from passt_bench.models.panns import Cnn6, Cnn10, Cnn14, Panns
from passt_bench.models.passt import PaSST, PatchTransformer
from passt_bench.models.patchout import draw_batch, draw_kept, resolve
from passt_bench.models.weights.load import load_weights
from passt_bench.models.weights.model_file import read_model, save_model
from passt_bench.registry import MODELS
from passt_bench.spec.recipe import Patchout, Recipe
from passt_bench.spec.study import parse_patchout

__all__ = [
    "AudioModel",
    "PaSST",
    "Panns",
    "Patchout",
    "build_model",
    "create_model",
    "draw_batch",
    "draw_kept",
    "from_recipe",
    "initialize",
    "load_weights",
    "read_model",
    "resolve",
    "save_model",
]

_FRAMES = 998  # columns that the published encodings of 10 s cover
_S = {"patchout": Patchout("structured", time=40, frequency=4)}
_S_N = {"patchout": Patchout("structured", time=20, frequency=2), "stride": (16, 16)}
_TABLE: tuple[tuple[str, str, type[AudioModel], dict[str, Any]], ...] = (
    ("passt_b", "PaSST-B, stride 10, no patchout (paper)", PaSST, {}),
    (
        "passt_u",
        "PaSST-U, stride 10, 400 patches dropped (paper)",
        PaSST,
        {"patchout": Patchout("unstructured", patches=400)},
    ),
    ("passt_s", "PaSST-S, stride 10, 40 columns and 4 rows dropped (paper)", PaSST, _S),
    ("passt_s_l", "PaSST-S-L, as S with 7 blocks (paper)", PaSST, {**_S, "depth": 7}),
    ("passt_s_n", "PaSST-S-N, stride 16, 20 columns and 2 rows dropped (paper)", PaSST, _S_N),
    ("passt_small", "width 384, depth 12", PaSST, {"width": 384, "heads": 6}),
    ("passt_tiny", "width 192, depth 12", PaSST, {"width": 192, "heads": 3}),
    (
        "passt_micro",
        "width 64, depth 2, for quick studies",
        PaSST,
        {"width": 64, "depth": 2, "heads": 4},
    ),
    ("panns_micro", "PANNs-style CNN, 3 blocks from 8 channels", Panns, {}),
    ("ast", "AST, stride 10 (Gong et al. 2021)", AST, {}),
    ("ast_n", "AST-N, stride 16 (paper)", AST, {"stride": (16, 16)}),
    ("cnn14", "PANNs CNN14 (Kong et al. 2020)", Cnn14, {}),
    ("cnn10", "PANNs CNN10 (Kong et al. 2020)", Cnn10, {}),
    ("cnn6", "PANNs CNN6 (Kong et al. 2020)", Cnn6, {}),
    ("cp_resnet", "CP-ResNet, small receptive field (Koutini et al. 2021)", CpResNet, {}),
    ("mobilenetv3", "MobileNetV3-Large (Howard et al. 2019)", MobileNetV3, {}),
)
for _name, _summary, _class, _preset in _TABLE:
    # Since version 2 patch transformers embed the kept patches alone, by a matrix product; since
    # version 3 their last block computes no outputs that the head does not read.
    _version = 3 if issubclass(_class, PatchTransformer) else 1
    MODELS.register(_name, version=_version, summary=_summary, preset=_preset)(_class)


def build_model(
    name: str,
    num_classes: int,
    *,
    mels: int | None = None,
    frames: int | None = None,
    patchout: Patchout | str | None = None,
    **options: Any,
) -> AudioModel:
    """Builds a registered model without initial weights; also on the meta device.

    Args:
        name: see ``passt-bench list models``.
        num_classes: number of classes.
        mels: rows of the input; None is what the model's own front end gives.
        frames: columns of the input; None is 998, of AST the 1024 that its front end pads to.
        patchout: what a plain ``net(x)`` drops in training, also as text (``"unstructured:.5"``);
            None is what the model was published with.
        options: options of the model (``stride``, ``width``, ``depth``, …), see the ``Options`` of
            its class; None is the model's default. A pair may be one number.

    Raises:
        InputError: an unknown name, a model whose packages are not installed, an option that the
            model does not take, a size below one, or patchout that the model cannot do.
    """
    component = MODELS.get(name)
    if component.missing():
        raise InputError(
            f"needs packages that are not installed: {', '.join(component.missing())}",
            field="model",
            value=name,
            remedy="Install it; `passt-bench doctor` lists what is missing.",
        )
    model: type[AudioModel] = component.build
    mels = model.frontend.mels if mels is None else mels
    frames = model.frontend.frames or _FRAMES if frames is None else frames
    for field, value in (("num_classes", num_classes), ("mels", mels), ("frames", frames)):
        if value < 1:
            raise InputError("must be positive", field=field, value=value, remedy="Give 1 or more.")
    preset = {key: value for key, value in component.preset.items() if key != "patchout"}
    given = {key: value for key, value in options.items() if value is not None}
    net = model(num_classes, model.parse_options({**preset, **given}), mels=mels, frames=frames)
    if isinstance(patchout, str):
        patchout = parse_patchout(patchout, "patchout")
    if patchout is not None and patchout.kind != "none":
        net.step_inputs(patchout, frames, 0, 0, 1)  # refuses what the model cannot do
    net.patchout = patchout or component.preset.get("patchout", Patchout())
    return net


def create_model(name: str, num_classes: int, *, seed: int = 0, **options: Any) -> AudioModel:
    """Builds a registered model with initial weights drawn from the seed.

    The same seed gives the same weights to every parameter that two models have in common. The
    other arguments are those of `build_model`, which says what it refuses: ``mels``, ``frames``,
    ``patchout`` and the options of the model, such as ``stride``, ``patch``, ``width``, ``depth``
    and ``heads`` of a PaSST or ``width`` of a CNN.
    """
    net = build_model(name, num_classes, **options)
    initialize(net, seed)
    return net


def from_recipe(recipe: Recipe, num_classes: int, frames: int) -> AudioModel:
    """Builds the model of a recipe, without initial weights and without a default patchout.

    The recipe's patchout is drawn by the caller and passed to ``forward``.
    """
    options = asdict(recipe.model)
    options["frames"] = options["frames"] or frames
    if options["overlong"] == "cut":
        del options["overlong"]
    options |= {"mels": recipe.frontend.mels, "patchout": Patchout()}
    return build_model(num_classes=num_classes, **options)
