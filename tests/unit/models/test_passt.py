"""PaSST's published sizes, and input of any length."""

from __future__ import annotations

import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import PaSST, Patchout, build_model, create_model, resolve
from passt_bench.models.passt import interpolate
from passt_bench.models.weights.adapt import published_blocks

SMALL = {"patch": (8, 8), "mels": 32, "frames": 64, "width": 16, "depth": 1, "heads": 2}


def small(stride: int = 8, **options: object) -> PaSST:
    net = create_model("passt_micro", 3, **{**SMALL, "stride": stride, **options})
    assert isinstance(net, PaSST)
    return net


def parameters_of(num_classes: int = 527, **options: object) -> int:
    with torch.device("meta"):
        net = build_model("passt_b", num_classes, **options)  # type: ignore[arg-type]
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 86_153_758),
        ({"stride": (12, 12)}, 86_139_934),
        ({"stride": (14, 14)}, 86_129_950),
        ({"stride": (16, 16)}, 86_122_270),
        ({"frames": 2000}, 86_231_326),
        ({"frames": 3000}, 86_308_126),
        ({"frames": 3200}, 86_323_486),
        ({"num_classes": 10}, 85_358_612),
        ({"num_classes": 20}, 85_373_992),
        ({"num_classes": 50}, 85_420_132),
        ({"num_classes": 200}, 85_650_832),
        ({"depth": 7}, 50_714_398),
    ],
)
def test_published_parameters(options: dict[str, object], parameters: int) -> None:
    assert parameters_of(**options) == parameters


@pytest.mark.parametrize(
    ("name", "parameters", "tokens", "full"),
    [
        ("passt_b", 86_153_758, 1190, 1190),
        ("passt_u", 86_153_758, 790, 1190),
        ("passt_s", 86_153_758, 474, 1190),
        ("passt_s_l", 50_714_398, 474, 1190),
        ("passt_s_n", 86_122_270, 254, 498),
    ],
)
def test_published_variants(name: str, parameters: int, tokens: int, full: int) -> None:
    with torch.device("meta"):
        net = build_model(name, 527)
    grid = net.grid(998)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert grid[0] * grid[1] + net.special_tokens == full
    assert resolve(net.patchout, grid).kept + net.special_tokens == tokens


@pytest.mark.parametrize(
    ("stride", "frames", "encoded", "grid"),
    [
        ((10, 10), 998, (12, 99), (12, 99)),
        ((12, 12), 998, (10, 83), (10, 82)),
        ((14, 14), 998, (9, 71), (9, 71)),
        ((16, 16), 998, (8, 62), (8, 62)),
        ((10, 10), 2000, (12, 200), (12, 199)),
        ((10, 10), 3000, (12, 300), (12, 299)),
        ((10, 10), 3200, (12, 320), (12, 319)),
        ((10, 16), 998, (12, 62), (12, 62)),
        ((16, 10), 998, (8, 99), (8, 99)),
        ((20, 17), 998, (6, 58), (6, 58)),
        ((7, 3), 998, (18, 332), (17, 328)),
    ],
)
def test_encodings_have_the_published_sizes(
    stride: tuple[int, int], frames: int, encoded: tuple[int, int], grid: tuple[int, int]
) -> None:
    with torch.device("meta"):
        net = build_model("passt_b", 527, stride=stride, frames=frames)
    found = (net.freq_new_pos_embed.shape[2], net.time_new_pos_embed.shape[3])
    assert found == encoded
    assert net.grid(frames) == grid
    assert net.patch_embed(torch.empty(1, 1, 128, frames, device="meta")).shape[2:] == grid


@pytest.mark.parametrize(
    ("patch", "stride", "mels", "frames", "size"),
    [
        ((8, 8), (8, 8), 64, 64, (8, 8)),  # the embedded scenes
        ((8, 8), (6, 6), 64, 64, (10, 10)),
        ((16, 16), (16, 16), 64, 288, (4, 18)),  # ESC-50
        ((4, 4), (10, 10), 64, 64, (7, 7)),  # 64 // 10 would be one too few
        ((16, 16), (10, 10), 100, 104, (10, 10)),  # patches leave 9 x 9 of them unused
        ((8, 64), (8, 64), 64, 64, (8, 1)),
        ((64, 64), (1, 1), 64, 64, (64, 64)),
    ],
)
def test_any_patches_fit_their_encodings(
    patch: tuple[int, int], stride: tuple[int, int], mels: int, frames: int, size: tuple[int, int]
) -> None:
    net = create_model(
        "passt_micro", 3, patch=patch, stride=stride, mels=mels, frames=frames, width=16, depth=1
    )
    assert isinstance(net, PaSST)
    assert (net.freq_new_pos_embed.shape[2], net.time_new_pos_embed.shape[3]) == size
    for training in (True, False):
        assert net.train(training)(torch.randn(2, 1, mels, frames)).shape == (2, 3)


@pytest.mark.parametrize("overlong", ["cut", "stretch"])
@pytest.mark.parametrize("frames", [8, 9, 40, 63, 64, 65, 72, 200])
@pytest.mark.parametrize(
    "setting",
    [
        Patchout(),
        Patchout("time", rate=0.5),
        Patchout("structured", rate=0.5),
        Patchout("unstructured", rate=0.5),
    ],
)
def test_any_length_with_any_patchout(overlong: str, frames: int, setting: Patchout) -> None:
    if setting.kind == "time" and frames < 16:
        setting = Patchout("time", rate=0.2)  # half of one column leaves none
    net = small(patchout=setting, overlong=overlong).train()
    x = torch.randn(2, 1, 32, frames)
    assert net(x).shape == (2, 3)
    rows, columns = net.grid(frames)
    assert net.embed(x).shape[2:] == (rows, columns)
    assert columns == (min(8, frames // 8) if overlong == "cut" else frames // 8)
    assert net.eval()(x).shape == (2, 3)


@torch.no_grad()
def test_longer_input_is_cut_to_the_encodings() -> None:
    net = small().eval()
    x = torch.randn(2, 1, 32, 150)
    assert torch.equal(net(x), net(x[..., :64]))


@torch.no_grad()
def test_longer_input_is_seen_whole_where_the_encodings_stretch() -> None:
    net, cut = small(overlong="stretch").eval(), small().eval()
    x = torch.randn(2, 1, 32, 128)
    y = x.clone()
    y[..., 120:] = 0
    assert not torch.equal(net(x), net(y))
    assert torch.equal(net(x[..., :64]), cut(x[..., :64]))
    assert torch.equal(net(x[..., :40]), cut(x[..., :40]))


def test_stretching_is_linear() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 2, 1, 4)
    assert torch.equal(interpolate(ramp, 4), ramp)
    longer = interpolate(ramp, 8)
    assert longer.shape == (1, 2, 1, 8)
    # Centres of eight columns on the scale of four, at the ends the outermost encoding.
    assert longer[0, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]


@torch.no_grad()
def test_shorter_input_takes_the_first_columns_in_evaluation() -> None:
    net, short = small().eval(), small(frames=40).eval()
    short.load_state_dict(
        {
            name: value[..., :5] if name == "time_new_pos_embed" else value
            for name, value in net.state_dict().items()
        }
    )
    x = torch.randn(2, 1, 32, 40)
    assert torch.equal(net(x), short(x))
    assert torch.equal(net(x), net(x, offset=0))


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_an_offset_says_which_columns(training: bool) -> None:
    net, x = small().train(training), torch.randn(2, 1, 32, 40)
    assert net.num_offsets(40) == 4
    assert net.num_offsets(64) == net.num_offsets(90) == 1
    outputs = [net(x, offset=torch.tensor(offset)) for offset in range(4)]
    assert all(torch.equal(net(x, offset=i), output) for i, output in enumerate(outputs))
    before = net.time_new_pos_embed.clone()
    for offset, output in enumerate(outputs):
        net.time_new_pos_embed.copy_(before.roll(-offset, dims=3))
        assert torch.equal(net(x, offset=0), output)
    with pytest.raises(IndexError):
        net(x, offset=4)


@torch.no_grad()
def test_training_draws_one_offset_a_batch() -> None:
    net, x = small().train(), torch.randn(1, 1, 32, 40)
    torch.manual_seed(0)
    known = {float(net(x, offset=offset)[0, 0]) for offset in range(4)}
    seen = [net(x.expand(3, -1, -1, -1)) for _ in range(40)]
    assert all(torch.allclose(logits[0], logits[1]) for logits in seen)
    found = sorted({round(float(logits[0, 0]), 5) for logits in seen})
    assert found == pytest.approx(sorted(known), abs=2e-5)


def test_gradients_reach_the_encodings_that_were_used() -> None:
    net = small().train()
    net(torch.randn(2, 1, 32, 40), offset=2).square().sum().backward()
    used = net.time_new_pos_embed.grad.abs().sum(dim=(0, 1, 2)) > 0
    assert used.tolist() == [False, False, True, True, True, True, True, False]


def test_other_mels_than_the_model_was_made_for_are_refused() -> None:
    with pytest.raises(InputError, match=r"mels = 40: the position encodings are for 32"):
        small()(torch.randn(1, 1, 40, 64))
    with pytest.raises(InputError, match="frames = 7: shorter than a patch of 8"):
        small().grid(7)


@pytest.mark.parametrize(
    ("have", "want", "blocks"),
    [
        (12, 7, (0, 1, 3, 5, 7, 9, 11)),
        (12, 12, tuple(range(12))),
        (12, 3, (0, 1, 11)),
        (12, 6, (0, 1, 4, 7, 10, 11)),
        (2, 2, (0, 1)),
        (1, 1, (0,)),
        (3, 3, (0, 1, 2)),
    ],
)
def test_the_published_cut_of_blocks(have: int, want: int, blocks: tuple[int, ...]) -> None:
    assert published_blocks(have, want) == blocks


@pytest.mark.parametrize(("have", "want"), [(12, 9), (12, 13), (12, 1), (12, 0), (1, 2)])
def test_other_depths_are_refused(have: int, want: int) -> None:
    with pytest.raises(InputError, match=r"model\.depth"):
        published_blocks(have, want)
