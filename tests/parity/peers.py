"""The authors' own code, made to run beside any build of PyTorch, with our weights in it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from frontend_cases import FrontendCase
from golden_store import Outputs
from known_weights import compute
from model_cases import MELS, BaselineCase, PasstCase
from passt_bench_peers.loading import load
from small_weights import hugging_face
from torch import nn

from passt_bench.models.ast import from_hugging_face

VERSIONS = ("hear21passt", "panns_inference", "transformers", "torchvision", "timm", "torch")


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in (*VERSIONS, "torchlibrosa")}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what the peers print and warn of."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def hand_over(weights: dict[str, torch.Tensor], peer: nn.Module) -> None:
    """Gives the peer our weights under its names; each parameter and saved buffer must get one."""
    peer.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, strict=True)
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            plain = ((tensor == 0) | (tensor == 1)).float().mean()
            assert plain < 0.01, f"{name} has its default value"


def official_passt(
    classes: int,
    *,
    stride: int = 10,
    frames: int = 998,
    width: int = 64,
    depth: int = 1,
    heads: int = 1,
    **dropped: int,
) -> Any:
    """The official model, in evaluation; ``get_model`` builds the released sizes."""
    module = load("hear21passt.models.passt")
    module.first_RUN = False  # it prints every shape of its first run
    with quiet():
        if width == 768:
            return module.get_model(
                "passt_l_kd_p16_128_ap47" if depth == 7 else "passt_s_swa_p16_128_ap476",
                pretrained=False,
                n_classes=classes,
                fstride=stride,
                tstride=stride,
                input_tdim=frames,
                **dropped,
            ).eval()
        return module.PaSST(
            img_size=(MELS, frames),
            stride=(stride, stride),
            num_classes=classes,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            distilled=True,
            **dropped,
        ).eval()


def _passt(case: PasstCase, net: nn.Module) -> Outputs:
    """A time offset is given by turning the encodings, of which this release takes the first."""
    names = ("stride", "frames", "width", "depth", "heads")
    names += ("u_patchout", "s_patchout_t", "s_patchout_f")
    peer = official_passt(case.classes, **{name: getattr(case, name) for name in names})
    hand_over(net.state_dict(), peer)
    if case.offset:
        peer.time_new_pos_embed.data = peer.time_new_pos_embed.data.roll(-case.offset, 3)
    draws = [torch.from_numpy(draw) for draw in case.permutations()]

    def randperm(count: int) -> torch.Tensor:
        draw = draws.pop(0)
        assert len(draw) == count, f"{count} asked for where {len(draw)} were planned"
        return draw

    given = (case.input(),)
    with quiet(), mock.patch.object(torch, "randperm", randperm):
        found = compute(peer, peer.head, given, case.targets(), public=lambda result: result[0])
    assert not draws, "fewer draws than planned"
    if case.offset:
        name = "gradient/time_new_pos_embed"
        found[name] = np.roll(found[name], case.offset, 3)
    return found


def _ast(case: BaselineCase, net: nn.Module) -> Outputs:
    """transformers' AST, with the epsilons of the authors' code instead of 1e-12."""
    module = load("transformers")
    stride, width = case.options.get("stride", 10), case.options.get("width", 768)
    with quiet():
        config = module.ASTConfig(
            hidden_size=width,
            num_hidden_layers=case.options.get("depth", 12),
            num_attention_heads=case.options.get("heads", 12),
            intermediate_size=4 * width,
            frequency_stride=stride,
            time_stride=stride,
            max_length=case.frames,
            num_mel_bins=case.mels,
            num_labels=case.classes,
            layer_norm_eps=1e-6,
            attn_implementation="eager",
        )
        peer = module.ASTForAudioClassification(config)
        peer.classifier.layernorm.eps = 1e-5
        hand_over(hugging_face(net), peer)
        given = (case.input()[:, 0].transpose(1, 2),)
        head, public = peer.classifier, lambda result: result.logits
        found = compute(peer, head, given, case.targets(), public=public)
    gradients = {n: found.pop(n) for n in list(found) if n.startswith("gradient/")}
    renamed = from_hugging_face(
        {name.removeprefix("gradient/"): torch.from_numpy(x) for name, x in gradients.items()}
    )
    return found | {f"gradient/{name}": tensor.numpy() for name, tensor in renamed.items()}


def official_cnn14(mels: int, classes: int) -> Any:
    bands = {"mel_bins": mels, "fmin": 50, "fmax": 14000}
    return load("panns_inference.models").Cnn14(
        sample_rate=32000, window_size=1024, hop_size=320, classes_num=classes, **bands
    )


def _cnn14(case: BaselineCase, net: nn.Module) -> Outputs:
    """Behind its front end; in training without its SpecAugment."""
    peer = official_cnn14(case.mels, case.classes)
    for name in ("spectrogram_extractor", "logmel_extractor", "spec_augmenter"):
        setattr(peer, name, nn.Identity())
    peer.to(case.precision)
    hand_over(net.state_dict(), peer)
    given, head = (case.input().transpose(2, 3),), peer.fc_audioset
    return compute(
        peer,
        head,
        given,
        case.targets(),
        public=lambda result: result["clipwise_output"],
        link=torch.sigmoid,
    )


def _mobilenetv3(case: BaselineCase, net: nn.Module) -> Outputs:
    """torchvision's MobileNetV3-Large; its first convolution made anew for one channel."""
    load("torchvision")
    module = load("torchvision.models.mobilenetv3")
    width = case.options.get("width_mult", 1.0)
    rows, last = module._mobilenet_v3_conf("mobilenet_v3_large", width_mult=width)
    peer = module.MobileNetV3(rows, last, num_classes=case.classes)
    first = peer.features[0][0]
    peer.features[0][0] = nn.Conv2d(
        1, first.out_channels, first.kernel_size, first.stride, first.padding, bias=False
    )
    peer.to(case.precision)
    hand_over(net.state_dict(), peer)
    return compute(peer, peer.classifier[3], (case.input(),), case.targets())


_MODELS: dict[str, Callable[[Any, nn.Module], Outputs]] = {
    "passt": _passt,
    "ast": _ast,
    "cnn14": _cnn14,
    "mobilenetv3": _mobilenetv3,
}


def model_outputs(case: PasstCase | BaselineCase, net: nn.Module) -> Outputs:
    return _MODELS[case.family](case, net)


def official_frontend(case: FrontendCase, masks: tuple[int, int] = (0, 0)) -> Any:
    """PaSST's front end with the settings of the authors' experiments."""
    spec = case.spec
    with quiet():
        return load("hear21passt.models.preprocess").AugmentMelSTFT(
            n_mels=spec.mels,
            sr=spec.sampling_rate,
            win_length=spec.window,
            hopsize=spec.hop,
            n_fft=spec.n_fft,
            freqm=masks[0],
            timem=masks[1],
            fmin=0.0,
            fmax=None,
            fmin_aug_range=10,
            fmax_aug_range=2000,
        )


def _passt_frontend(case: FrontendCase, wave: np.ndarray) -> torch.Tensor:
    peer = official_frontend(case).train(case.jitter is not None)
    draws = list(case.jitter or (0, 0))
    with quiet(), mock.patch.object(torch, "randint", lambda *_: torch.tensor([draws.pop(0)])):
        found = peer(torch.from_numpy(wave)[None])
    assert not draws
    return found[0]


def _ast_frontend(case: FrontendCase, wave: np.ndarray) -> torch.Tensor:
    with quiet():
        extractor = load("transformers").ASTFeatureExtractor()
        found = extractor(wave, sampling_rate=case.spec.sampling_rate, return_tensors="pt")
    return found["input_values"][0].T


def _panns_frontend(case: FrontendCase, wave: np.ndarray) -> torch.Tensor:
    """In double precision, for its Fourier transform by convolution rounds more than ours."""
    torch.set_default_dtype(torch.float64)
    try:
        with quiet():
            peer = official_cnn14(case.spec.mels, 1)
            power = peer.spectrogram_extractor(torch.from_numpy(wave).double()[None])
            return peer.logmel_extractor(power)[0, 0].T
    finally:
        torch.set_default_dtype(torch.float32)


_FRONTENDS: dict[str, Callable[[FrontendCase, np.ndarray], torch.Tensor]] = {
    "passt": _passt_frontend,
    "ast": _ast_frontend,
    "panns": _panns_frontend,
}


def frontend_outputs(case: FrontendCase, wave: np.ndarray | None = None) -> Outputs:
    """Log-mel (mels, frames) as the peer computes it."""
    wave = case.waveform() if wave is None else wave
    found = _FRONTENDS[case.frontend.split(",")[0]](case, wave)
    return {"log-mel": found.detach().numpy()}
