"""Loading weights: what is taken, adapted, re-initialized and dropped, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import small_weights
import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models import AudioModel, create_model, load_weights, read_model
from passt_bench.models.weights.adapt import infer, published_blocks
from passt_bench.published_weights import PUBLISHED
from passt_bench.spec import ast_frontend

X = torch.randn(2, 1, 128, 998, generator=torch.Generator().manual_seed(1))


def small(classes: int = 527, model: str = "passt_s", **options: Any) -> AudioModel:
    return create_model(model, classes, **{"width": 64, "depth": 1, "heads": 1, **options})


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def copied(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.fixture
def source() -> Any:
    return small_weights.passt()


@pytest.fixture
def path(source: Any, tmp_path: Path) -> Path:
    return small_weights.save(tmp_path / "w.pt", source)


@pytest.mark.parametrize("prefix", ["", "net.", "module.", "net._orig_mod.", "net_swa.module."])
def test_official_files_are_taken_whole(source: Any, tmp_path: Path, prefix: str) -> None:
    net = small()
    loaded = load_weights(net, small_weights.save(tmp_path / "w.pt", source, prefix))
    assert same(net, source)
    assert len(loaded.taken) == len(source.state_dict())
    assert not (loaded.adapted or loaded.reinitialized or loaded.dropped)


def test_of_plain_and_averaged_weights_the_averaged_are_chosen(
    source: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    averaged = small_weights.randomised(small_weights.passt(), 9)
    state = {f"net.{n}": t for n, t in source.state_dict().items()}
    state |= {f"net_swa.{n}": t for n, t in averaged.state_dict().items()}
    state["net_swa.n_averaged"] = torch.tensor(3)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "lightning.ckpt")
    net = small()
    with caplog.at_level(logging.INFO, logger="passt_bench.weights"):
        loaded = load_weights(net, tmp_path / "lightning.ckpt")
    assert same(net, averaged)
    assert "net_swa.n_averaged" in loaded.dropped
    assert "the averaged weights (net_swa.*) were chosen" in caplog.text


@pytest.mark.parametrize("form", ["entries", "nested", "shadow", "prefixes"])
@pytest.mark.parametrize(
    "name",
    [
        *("state_dict_ema", "ema", "ema_weights", "net_ema", "model_swa", "average_model"),
        *("averaged", "EMA", "modelEma", "model-ema", "EMACallback"),
    ],
)
def test_of_several_sets_the_averaged_is_taken_and_the_other_named(
    source: Any, name: str, form: str, tmp_path: Path
) -> None:
    averaged = small_weights.randomised(small_weights.passt(), 9)
    plain, other = source.state_dict(), averaged.state_dict()
    content: Any = {"model": plain, name: other}
    if form in ("nested", "shadow"):
        inner = {"state_dict": other} if form == "nested" else {"shadow": other, "decay": 0.99}
        content[name] = inner
    if form == "prefixes":
        content = {f"model.{n}": t for n, t in plain.items()}
        content |= {f"{name}.module.{n}": t for n, t in other.items()}
    torch.save(content, tmp_path / "w.pt")
    net = small()
    loaded = load_weights(net, tmp_path / "w.pt")
    assert same(net, averaged)
    (note,) = loaded.notes
    assert "the averaged weights (" in note and "model" in note.partition("chosen")[2]


def test_averaged_weights_without_names_are_said_to_be_left_out(
    source: Any, tmp_path: Path
) -> None:
    state = source.state_dict()
    ema = {"shadow_params": list(state.values()), "decay": torch.tensor(0.9)}
    torch.save({"model": state, "ema": ema, "swa_start": 5}, tmp_path / "w.pt")
    net = small()
    assert load_weights(net, tmp_path / "w.pt").notes == [
        "['ema'] cannot be read as weights and were left out"
    ]
    assert same(net, source)


def test_what_has_a_name_of_averaged_weights_is_judged_by_what_it_holds(
    source: Any, tmp_path: Path
) -> None:
    """As Lightning's WeightAveraging, YOLO, ema-pytorch and metrics come."""
    averaged = small_weights.randomised(small_weights.passt(), 9)
    plain, other, one = source.state_dict(), averaged.state_dict(), torch.ones(())
    norms = dict.fromkeys(plain, one)  # an optimizer's, by the names of the parameters
    lightning = {"current_model_state": plain, "averaging_state": {"n_averaged": one}}
    both = {f"ema.online_model.{n}": t for n, t in plain.items()}
    both |= {f"ema.ema_model.{n}": t for n, t in other.items()}
    for content, chosen, left in (
        ({"state_dict": other, **lightning}, averaged, "['current_model_state'] left out"),
        ({"state_dict": plain, "callbacks": {"EMA": {"ema_state_dict": other}}}, averaged, "state"),
        ({"model": plain, "ema": {"module": other, "updates": 3}}, averaged, "['model'] left out"),
        ({"model": plain, "avg_metrics": {"acc": one}}, source, "['avg_metrics'] cannot"),
        ({"model": plain, "ema_loss": {"train": one}}, source, "['ema_loss'] cannot"),
        ({"model": plain, "ema_norms": norms}, source, "['ema_norms'] cannot"),
        ({"model": plain, "exp_avg": dict(other)}, source, "['exp_avg'] left out"),
        (both | {"ema.initted": one, "ema.step": one}, averaged, "online_model.* left out"),
        ({f"net.{n}": t for n, t in plain.items()} | {"ema.decay_": one}, source, "ema.* left out"),
    ):
        torch.save(content, tmp_path / "w.pt")
        net = small()
        assert left in " ".join(load_weights(net, tmp_path / "w.pt").notes)
        assert same(net, chosen), left
    own: Any = {"model": {"counted": one}}  # a file that holds itself
    own["model"]["model"] = own["model"]
    for content in ({"averaging_state": {"n_averaged": one}}, {"n_averaged": one}, own):
        torch.save(content, tmp_path / "w.pt")
        for read in (read_model, lambda path: load_weights(small(), path)):
            with pytest.raises(InputError):
                read(tmp_path / "w.pt")


@pytest.mark.parametrize("form", ["entries", "prefixes"])
def test_sets_of_an_unusual_name_are_named_as_left_out(
    source: Any, form: str, tmp_path: Path
) -> None:
    state = source.state_dict()
    content: Any = {"model_state_dict": state, "teacher": state, "optimizer": {"state": {}}}
    if form == "prefixes":
        content = {f"{owner}.{n}": t for owner in ("model", "teacher") for n, t in state.items()}
    torch.save(content, tmp_path / "w.pt")
    (note,) = load_weights(small(), tmp_path / "w.pt").notes
    assert "the plain weights (model" in note
    assert "teacher" in note.partition("chosen")[2] and "optimizer" not in note


def test_a_prefix_of_all_names_is_removed_and_named(source: Any, tmp_path: Path) -> None:
    net = small()
    path = small_weights.save(tmp_path / "w.pt", source, "backbone.encoder.")
    assert load_weights(net, path).notes == [
        "the prefix of all names, backbone.encoder., was removed"
    ]
    assert same(net, source)


def test_another_number_of_classes_remakes_the_classifier_and_keeps_its_norm(
    source: Any, path: Path
) -> None:
    net = small(10, seed=4)
    before = copied(net)
    loaded = load_weights(net, path)
    heads = {"head.1.weight", "head.1.bias", "head_dist.weight", "head_dist.bias"}
    assert set(loaded.reinitialized) == heads
    after = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in heads)
    assert torch.equal(after["head.0.weight"], source.state_dict()["head.0.weight"])


def test_known_other_classes_of_the_same_number_remake_the_classifier(tmp_path: Path) -> None:
    path = small_weights.save(tmp_path / PUBLISHED["openmic"].file, small_weights.passt(20))
    names = PUBLISHED["openmic"].class_names()
    for classes, reinitialized in ((names, 0), (names[::-1], 4), (None, 0)):
        assert len(load_weights(small(20), path, classes=classes).reinitialized) == reinitialized


def test_a_shorter_model_takes_the_first_columns_and_a_longer_one_stretches_them(
    source: Any, path: Path
) -> None:
    short, long = small(frames=500).eval(), small(frames=2000)
    assert list(load_weights(short, path).adapted) == ["time_new_pos_embed"]
    # What the file's own model makes of input that is shorter than its encodings.
    assert torch.equal(short(X[..., :500]), source(X[..., :500]))
    assert list(load_weights(long, path).adapted) == ["time_new_pos_embed"]
    old = source.time_new_pos_embed
    wanted = F.interpolate(old, size=(1, 200), mode="bicubic", align_corners=False)
    assert torch.equal(long.time_new_pos_embed, wanted)


@pytest.mark.parametrize(("frames", "columns"), [(998, 62), (500, 31)])
def test_another_stride_keeps_the_time_of_the_columns(
    source: Any, tmp_path: Path, frames: int, columns: int
) -> None:
    with torch.no_grad():  # encodings that say where they are: frames, and rows
        source.time_new_pos_embed.copy_(torch.arange(99.0).expand(1, 64, 1, 99) * 10)
        source.freq_new_pos_embed.copy_(torch.arange(12.0).reshape(12, 1).expand(1, 64, 12, 1))
    net = small(stride=16, frames=frames)
    loaded = load_weights(net, small_weights.save(tmp_path / "w.pt", source))
    assert set(loaded.adapted) == {"freq_new_pos_embed", "time_new_pos_embed"}
    time = net.time_new_pos_embed[0, 0, 0]
    assert len(time) == columns
    inner = slice(3, columns - 3)
    # Column n of stride 16 is at frame 16 n, give or take half a stride.
    assert (time - 16 * torch.arange(columns))[inner].abs().max() < 10
    assert bool((net.freq_new_pos_embed[0, 0, :, 0].diff() > 0).all())


def test_depth_is_cut_as_published(tmp_path: Path) -> None:
    source = small_weights.passt(depth=12)
    net = create_model("passt_s_l", 527, width=64, heads=1)
    loaded = load_weights(net, small_weights.save(tmp_path / "w.pt", source))
    for new, old in enumerate((0, 1, 3, 5, 7, 9, 11)):
        assert same(net.blocks[new], source.blocks[old])
    assert {name.split(".")[1] for name in loaded.dropped} == {"2", "4", "6", "8", "10"}
    assert any("blocks 0, 1, 3, 5, 7, 9, 11 (depth cut" in line for line in loaded.lines())


@pytest.mark.parametrize(
    ("have", "want", "blocks"),
    [
        (12, 7, (0, 1, 3, 5, 7, 9, 11)),
        (12, 12, tuple(range(12))),
        (12, 3, (0, 1, 11)),
        (12, 6, (0, 1, 4, 7, 10, 11)),
        (1, 1, (0,)),
        *((have, want, None) for have, want in ((12, 9), (12, 13), (12, 1), (12, 0), (1, 2))),
    ],
)
def test_the_published_cut_of_blocks(have: int, want: int, blocks: tuple[int, ...] | None) -> None:
    if blocks is not None:
        assert published_blocks(have, want) == blocks
        return
    with pytest.raises(InputError) as refused:
        published_blocks(have, want)
    assert (refused.value.field, refused.value.value) == ("model.depth", want)


@pytest.mark.parametrize("distilled", [True, False])
def test_deit_is_summed_to_mono_and_its_grid_split(tmp_path: Path, distilled: bool) -> None:
    image = small_weights.deit(distilled=distilled)
    torch.save({"model": image}, tmp_path / "deit.pth")
    net = small(50)
    loaded = load_weights(net, tmp_path / "deit.pth")
    state = net.state_dict()
    rgb = image["patch_embed.proj.weight"]
    assert torch.equal(state["patch_embed.proj.weight"], rgb.sum(1, keepdim=True))
    assert torch.equal(state["cls_token"], image["cls_token"])
    tokens = image["pos_embed"][:, :2] if distilled else image["pos_embed"][:, :1].repeat(1, 2, 1)
    assert torch.equal(state["new_pos_embed"], tokens)
    grid = image["pos_embed"][:, -36:].reshape(1, 6, 6, 64).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(12, 99), mode="bicubic", align_corners=False)
    assert torch.equal(state["freq_new_pos_embed"], resized.mean(3, keepdim=True))
    assert torch.equal(state["time_new_pos_embed"], resized.mean(2, keepdim=True))
    if distilled:
        assert torch.equal(state["dist_token"], image["dist_token"])
    else:  # one of its own
        assert state["dist_token"].std() == pytest.approx(0.02)
    assert {"head.0.weight", "head_dist.weight"} <= set(loaded.reinitialized)
    assert set(loaded.dropped) == {n for n in image if n.startswith("head")}


def test_an_ast_begins_with_a_distilled_deit(tmp_path: Path) -> None:
    image = small_weights.deit(24)
    torch.save({"model": image}, tmp_path / "deit.pth")
    net = small(50, "ast", frames=998)
    loaded = load_weights(net, tmp_path / "deit.pth")
    state = net.state_dict()
    for name in ("cls_token", "dist_token", "norm.weight", "blocks.0.attn.qkv.weight"):
        assert torch.equal(state[f"v.{name}"], image[name])
    rgb = image["patch_embed.proj.weight"]
    assert torch.equal(state["v.patch_embed.proj.weight"], rgb.sum(1, keepdim=True))
    # src/models/ast_models.py: time interpolated to 24 rows, then 12 rows from the middle.
    grid = image["pos_embed"][:, 2:].transpose(1, 2).reshape(1, 64, 24, 24)
    wide = F.interpolate(grid, size=(24, 99), mode="bilinear")[:, :, 6:18]
    assert torch.equal(state["v.pos_embed"][:, :2], image["pos_embed"][:, :2])
    assert torch.equal(state["v.pos_embed"][:, 2:], wide.flatten(2).transpose(1, 2))
    assert set(loaded.reinitialized) == {name for name in state if name.startswith("mlp_head")}
    assert set(loaded.dropped) == {name for name in image if name.startswith("head")}


@pytest.mark.parametrize("names", ["authors", "transformers 4", "transformers 5"])
def test_ast_under_its_three_names(tmp_path: Path, names: str) -> None:
    source = small_weights.randomised(small(model="ast", depth=2, frames=1024))
    if names == "authors":
        state = {f"module.{n}": t for n, t in source.state_dict().items()}
        state["module.v.head.weight"] = torch.zeros(1000, 64)  # of images; never used
    else:
        state = small_weights.hugging_face(source, old=names == "transformers 4")
    torch.save(state, tmp_path / "ast.pth")
    net = small(model="ast", depth=2, frames=1024)
    loaded = load_weights(net, tmp_path / "ast.pth")
    assert same(net, source)
    assert list(loaded.dropped) == (["v.head.weight"] if names == "authors" else [])
    shorter = load_weights(small(10, "ast", depth=2, frames=512), tmp_path / "ast.pth")
    assert "12 x 101 to 12 x 50" in shorter.adapted["v.pos_embed"]
    assert set(shorter.reinitialized) == {"mlp_head.1.weight", "mlp_head.1.bias"}
    again, recipe, classes = read_model(tmp_path / "ast.pth")
    assert same(again, source)
    assert (recipe.model.name, recipe.frontend) == ("ast", ast_frontend())
    assert classes[0] == "Speech"


@pytest.mark.parametrize(
    ("model", "options", "heads"),
    [
        ("cnn10", {"width": 4}, "fc_audioset."),
        ("panns_micro", {}, "head."),
        ("cp_resnet", {"width": 8}, "feed_forward."),
        ("mobilenetv3", {"width_mult": 0.1}, "classifier.3."),
    ],
)
def test_cnns_load_for_their_own_and_for_other_classes(
    tmp_path: Path, model: str, options: dict[str, Any], heads: str
) -> None:
    source, net, other = (
        create_model(model, classes, mels=64, frames=64, **options) for classes in (6, 6, 9)
    )
    state = dict(small_weights.randomised(source).state_dict())
    unused = small_weights.panns_buffers(32000, 1024, 14000.0)
    if model == "cnn10":  # buffers of the official front end
        state |= unused
    torch.save({"model": state, "iteration": 600000}, tmp_path / "cnn.pth")
    loaded = load_weights(net, tmp_path / "cnn.pth")
    assert same(net, source)
    assert list(loaded.dropped) == (list(unused) if model == "cnn10" else [])
    reinitialized = load_weights(other, tmp_path / "cnn.pth").reinitialized
    assert reinitialized and all(name.startswith(heads) for name in reinitialized)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("norm.weight", None),
        ("norm.weight", torch.ones(32)),
        ("extra", torch.ones(1)),
        ("norm.bias", torch.full((64,), torch.nan)),
        ("norm.bias", torch.ones(64, dtype=torch.int64)),
        ("time_new_pos_embed", torch.ones(1, 32, 1, 99)),
        ("freq_new_pos_embed", torch.ones(1, 64, 12)),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_the_model_alone(
    source: Any, path: Path, name: str, tensor: torch.Tensor | None
) -> None:
    state = {**source.state_dict(), name: tensor}
    torch.save({n: t for n, t in state.items() if t is not None}, path)
    refused(small(), path, name)


@pytest.mark.parametrize(
    ("options", "change", "field"),
    [
        ({"model": "ast"}, None, "blocks.0.attn.proj.bias"),
        ({"depth": 2}, None, "model.depth"),
        ({"width": 128, "heads": 2}, None, "cls_token"),
        ({}, "no square", "pos_embed"),
        ({"model": "ast"}, "no square", "pos_embed"),
        ({"model": "ast"}, "no token", "pos_embed"),
    ],
)
def test_another_model_is_refused(
    path: Path, options: dict[str, Any], change: str | None, field: str
) -> None:
    if change:  # an image model in place of the PaSST
        image = small_weights.deit(distilled=change != "no token")
        if change == "no square":
            image["pos_embed"] = image["pos_embed"][:, :-1]
        torch.save(image, path)
    refused(small(**options), path, field)


def refused(net: nn.Module, path: Path, field: str) -> None:
    before = copied(net)
    with pytest.raises(InputError) as caught:
        load_weights(net, path)
    assert (caught.value.source or path, caught.value.field) == (path, field)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    ("stride", "frames"),
    [((s, s), n) for s in (10, 12, 14, 16) for n in (998, 2000, 3000, 3200)] + [((10, 16), 998)],
)
def test_geometry_follows_from_the_encodings(stride: tuple[int, int], frames: int) -> None:
    assert infer(128 // stride[0], frames // stride[1], 128) == (stride, frames)
    assert infer(129, 99, 128) is None
