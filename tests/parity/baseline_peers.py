"""The baselines' peers: transformers' AST, panns_inference's CNN14, torchvision's MobileNetV3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from baseline_cases import BaselineCase
from computing import compute
from golden_store import Outputs
from peers import hand_over, load, quiet
from torch import nn

from passt_bench.models.ast import from_hugging_face

_AST = "audio_spectrogram_transformer."
_AST_NAMES = (
    ("v.blocks.", f"{_AST}layers."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".attn.proj.", ".attention.o_proj."),
    ("v.norm.", f"{_AST}layernorm."),
    ("v.cls_token", f"{_AST}embeddings.cls_token"),
    ("v.dist_token", f"{_AST}embeddings.distillation_token"),
    ("v.pos_embed", f"{_AST}embeddings.position_embeddings"),
    ("v.patch_embed.proj.", f"{_AST}embeddings.patch_embeddings.projection."),
    ("mlp_head.0.", "classifier.layernorm."),
    ("mlp_head.1.", "classifier.dense."),
)


def _ast_weights(net: nn.Module) -> dict[str, torch.Tensor]:
    found = {}
    for old, tensor in net.state_dict().items():
        name = old
        for ours, theirs in _AST_NAMES:
            name = name.replace(ours, theirs)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace(".attn.qkv.", f".attention.{letter}_proj.")] = part
        else:
            found[name] = tensor
    return found


def _ast(case: BaselineCase, net: nn.Module) -> Outputs:
    """transformers' AST, with the epsilons of the authors' code instead of 1e-12."""
    module = load("transformers")
    options = case.options
    stride = options.get("stride", 10)
    width = options.get("width", 768)
    with quiet():
        config = module.ASTConfig(
            hidden_size=width,
            num_hidden_layers=options.get("depth", 12),
            num_attention_heads=options.get("heads", 12),
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
    hand_over(_ast_weights(net), peer)
    with quiet():
        found = compute(
            peer,
            peer.classifier,
            (case.input()[:, 0].transpose(1, 2),),
            case.targets(),
            public=lambda result: result.logits,
        )
    gradients = {
        name.removeprefix("gradient/"): torch.from_numpy(found.pop(name))
        for name in list(found)
        if name.startswith("gradient/")
    }
    renamed = from_hugging_face(gradients)
    return found | {f"gradient/{name}": tensor.numpy() for name, tensor in renamed.items()}


def _cnn14(case: BaselineCase, net: nn.Module) -> Outputs:
    """panns_inference's Cnn14 behind its front end; in training without its SpecAugment."""
    peer = load("panns_inference.models").Cnn14(
        sample_rate=32000,
        window_size=1024,
        hop_size=320,
        mel_bins=case.mels,
        fmin=50,
        fmax=14000,
        classes_num=case.classes,
    )
    for name in ("spectrogram_extractor", "logmel_extractor", "spec_augmenter"):
        setattr(peer, name, nn.Identity())
    peer.to(case.precision)
    hand_over(net.state_dict(), peer)
    return compute(
        peer,
        peer.fc_audioset,
        (case.input().transpose(2, 3),),
        case.targets(),
        public=lambda result: result["clipwise_output"],
        link=torch.sigmoid,
    )


def _mobilenetv3(case: BaselineCase, net: nn.Module) -> Outputs:
    """torchvision's MobileNetV3-Large; its first convolution made anew for one channel."""
    load("torchvision")
    module = load("torchvision.models.mobilenetv3")
    rows, last = module._mobilenet_v3_conf(
        "mobilenet_v3_large", width_mult=case.options.get("width_mult", 1.0)
    )
    peer = module.MobileNetV3(rows, last, num_classes=case.classes)
    first = peer.features[0][0]
    peer.features[0][0] = nn.Conv2d(
        1, first.out_channels, first.kernel_size, first.stride, first.padding, bias=False
    )
    peer.to(case.precision)
    hand_over(net.state_dict(), peer)
    return compute(peer, peer.classifier[3], (case.input(),), case.targets())


_PEERS: dict[str, Callable[[BaselineCase, nn.Module], Outputs]] = {
    "ast": _ast,
    "cnn14": _cnn14,
    "mobilenetv3": _mobilenetv3,
}


def baseline_outputs(case: BaselineCase, net: nn.Module) -> dict[str, Any]:
    """What the peer of a case computes, gradients under our names."""
    return _PEERS[case.model](case, net)
