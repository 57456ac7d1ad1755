"""The authors' own code, made to run beside any build of PyTorch, with our weights in it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch
from computing import compute
from golden_store import Outputs
from passt_bench_peers.loading import load
from passt_cases import MELS, PasstCase
from torch import nn

VERSIONS = ("hear21passt", "panns_inference", "transformers", "torchvision", "timm", "torch")


def versions() -> dict[str, str]:
    """The installed versions of the peers and of what they run on."""
    return {name: importlib.metadata.version(name) for name in (*VERSIONS, "torchlibrosa")}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the peers print and warn of is theirs."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def hand_over(weights: dict[str, torch.Tensor], peer: nn.Module) -> None:
    """Gives the peer our weights under its names; each parameter and saved buffer must get one."""
    peer.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, strict=True)
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            plain = ((tensor == 0) | (tensor == 1)).float().mean()
            assert plain < 0.01, f"{name} stands at its default"


def passt(case: PasstCase, net: nn.Module) -> nn.Module:
    """The official model of a case, with the weights of ours.

    ``get_model`` builds the released sizes, the class itself the small ones. A time offset is
    given by turning the encodings: this release of the package takes their first columns always.
    """
    module = load("hear21passt.models.passt")
    module.first_RUN = False  # it prints every shape of its first run
    dropped = {name: getattr(case, name) for name in ("u_patchout", "s_patchout_t", "s_patchout_f")}
    with quiet():
        if case.width == 768:
            peer = module.get_model(
                "passt_l_kd_p16_128_ap47" if case.depth == 7 else "passt_s_swa_p16_128_ap476",
                pretrained=False,
                n_classes=case.classes,
                fstride=case.stride,
                tstride=case.stride,
                input_tdim=case.frames,
                **dropped,
            )
        else:
            peer = module.PaSST(
                img_size=(MELS, case.frames),
                stride=case.stride,
                num_classes=case.classes,
                embed_dim=case.width,
                depth=case.depth,
                num_heads=case.heads,
                distilled=True,
                **dropped,
            )
    hand_over(net.state_dict(), peer)
    if case.offset:
        peer.time_new_pos_embed.data = peer.time_new_pos_embed.data.roll(-case.offset, 3)
    return peer


def passt_outputs(case: PasstCase, net: nn.Module) -> Outputs:
    """What the official code computes of a case."""
    peer = passt(case, net)
    draws = [torch.from_numpy(draw) for draw in case.permutations()]

    def randperm(count: int) -> torch.Tensor:
        draw = draws.pop(0)
        assert len(draw) == count, f"{count} asked for where {len(draw)} were foreseen"
        return draw

    with quiet(), mock.patch.object(torch, "randperm", randperm):
        found = compute(
            peer, peer.head, (case.input(),), case.targets(), public=lambda result: result[0]
        )
    assert not draws, "fewer draws than foreseen"
    if case.offset:
        name = "gradient/time_new_pos_embed"
        found[name] = np.roll(found[name], case.offset, 3)
    return found
