"""Loading weights: what is taken, adapted, re-initialized and dropped, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import small_weights
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models import build_model, create_model, load_weights, read_model
from passt_bench.models.weights.adapt import infer
from passt_bench.published_weights import PUBLISHED

X = torch.randn(2, 1, 128, 998, generator=torch.Generator().manual_seed(1))


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_the_full_model_has_exactly_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        net = build_model("passt_s", 527)
    published = [line.split("\t") for line in small_weights.KEYS.read_text().splitlines()]
    assert {n: str(tuple(t.shape)) for n, t in net.state_dict().items()} == dict(published)


@pytest.mark.parametrize("prefix", ["", "net.", "module.", "net._orig_mod.", "net_swa.module."])
def test_official_files_are_taken_whole(tmp_path: Path, prefix: str) -> None:
    source = small_weights.passt()
    path = small_weights.save(tmp_path / "w.pt", source, prefix)
    net = create_model("passt_s", 527, width=64, depth=1, heads=1)
    loaded = load_weights(net, path)
    assert _same(net, source)
    assert len(loaded.taken) == len(source.state_dict())
    assert not (loaded.adapted or loaded.reinitialized or loaded.dropped)


def test_of_plain_and_averaged_weights_the_averaged_are_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, averaged = small_weights.passt(), small_weights.randomised(small_weights.passt(), 9)
    state = {f"net.{n}": t for n, t in plain.state_dict().items()}
    state |= {f"net_swa.{n}": t for n, t in averaged.state_dict().items()}
    state["net_swa.n_averaged"] = torch.tensor(3)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "lightning.ckpt")
    net = create_model("passt_s", 527, width=64, depth=1, heads=1)
    with caplog.at_level(logging.INFO, logger="passt_bench.weights"):
        loaded = load_weights(net, tmp_path / "lightning.ckpt")
    assert _same(net, averaged)
    assert loaded.dropped["net_swa.n_averaged"] == "a counter of the averaging"
    assert "the averaged weights (net_swa.*) were chosen" in caplog.text


def test_another_number_of_classes_remakes_the_classifier_and_keeps_its_norm(
    tmp_path: Path,
) -> None:
    source = small_weights.passt()
    path = small_weights.save(tmp_path / "w.pt", source)
    net = create_model("passt_s", 10, width=64, depth=1, heads=1, seed=4)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    loaded = load_weights(net, path)
    heads = {"head.1.weight", "head.1.bias", "head_dist.weight", "head_dist.bias"}
    assert set(loaded.reinitialized) == heads
    assert set(loaded.reinitialized.values()) == {"527 classes in the file, 10 in the model"}
    after = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in heads)
    assert torch.equal(after["head.0.weight"], source.state_dict()["head.0.weight"])


def test_known_other_classes_of_the_same_number_remake_the_classifier(tmp_path: Path) -> None:
    source = small_weights.passt(20)
    path = small_weights.save(tmp_path / PUBLISHED["openmic"].file, source)
    names = PUBLISHED["openmic"].class_names()
    for classes, reinitialized in ((names, 0), (names[::-1], 4), (None, 0)):
        net = create_model("passt_s", 20, width=64, depth=1, heads=1)
        assert len(load_weights(net, path, classes=classes).reinitialized) == reinitialized


def test_a_shorter_model_takes_the_first_columns(tmp_path: Path) -> None:
    source = small_weights.passt()
    path = small_weights.save(tmp_path / "w.pt", source)
    net = create_model("passt_s", 527, width=64, depth=1, heads=1, frames=500).eval()
    loaded = load_weights(net, path)
    assert loaded.adapted == {"time_new_pos_embed": "the first 50 of 99 columns"}
    # What the file's own model makes of input that is shorter than its encodings.
    assert torch.equal(net(X[..., :500]), source(X[..., :500]))


def test_a_longer_model_stretches_the_columns(tmp_path: Path) -> None:
    source = small_weights.passt()
    path = small_weights.save(tmp_path / "w.pt", source)
    net = create_model("passt_s", 527, width=64, depth=1, heads=1, frames=2000)
    loaded = load_weights(net, path)
    how = "resampled from 99 to 200 columns (bicubic)"
    assert loaded.adapted == {"time_new_pos_embed": how}
    old, new = source.time_new_pos_embed, net.time_new_pos_embed
    wanted = F.interpolate(old, size=(1, 200), mode="bicubic", align_corners=False)
    assert torch.equal(new, wanted)


@pytest.mark.parametrize(("frames", "columns"), [(998, 62), (500, 31)])
def test_another_stride_keeps_the_time_of_the_columns(
    tmp_path: Path, frames: int, columns: int
) -> None:
    source = small_weights.passt()
    with torch.no_grad():  # encodings that tell their place: seconds, and kHz
        source.time_new_pos_embed.copy_(torch.arange(99.0).expand(1, 64, 1, 99) * 10)
        source.freq_new_pos_embed.copy_(torch.arange(12.0).reshape(12, 1).expand(1, 64, 12, 1))
    path = small_weights.save(tmp_path / "w.pt", source)
    net = create_model("passt_s", 527, width=64, depth=1, heads=1, stride=16, frames=frames)
    loaded = load_weights(net, path)
    assert loaded.adapted["freq_new_pos_embed"] == "resampled from 12 to 8 rows (bicubic)"
    assert "from 99 to 62 columns" in loaded.adapted["time_new_pos_embed"]
    time = net.time_new_pos_embed[0, 0, 0]
    assert len(time) == columns
    inner = slice(3, columns - 3)
    # Column n of stride 16 stands at 16 n frames, give or take half a stride.
    assert (time - 16 * torch.arange(columns))[inner].abs().max() < 10
    rows = net.freq_new_pos_embed[0, 0, :, 0]
    assert bool((rows.diff() > 0).all())


@pytest.mark.parametrize("frames", [998, 500])
def test_another_stride_along_time_alone(tmp_path: Path, frames: int) -> None:
    source = small_weights.passt()
    path = small_weights.save(tmp_path / "w.pt", source)
    size = {"width": 64, "depth": 1, "heads": 1}
    both = create_model("passt_s", 527, stride=16, frames=frames, **size)
    time = create_model("passt_s", 527, stride=(10, 16), frames=frames, **size)
    load_weights(both, path)
    loaded = load_weights(time, path)
    assert loaded.adapted.keys() == {"time_new_pos_embed"}
    assert torch.equal(time.time_new_pos_embed, both.time_new_pos_embed)
    again = create_model("passt_s", 527, stride=(10, 16), frames=500, **size)
    load_weights(again, small_weights.save(tmp_path / "t.pt", time))
    assert torch.equal(again.time_new_pos_embed, time.time_new_pos_embed[..., :31])


def test_depth_is_cut_as_published(tmp_path: Path) -> None:
    source = small_weights.passt(depth=12)
    path = small_weights.save(tmp_path / "w.pt", source)
    net = create_model("passt_s_l", 527, width=64, heads=1)
    loaded = load_weights(net, path)
    for new, old in enumerate((0, 1, 3, 5, 7, 9, 11)):
        name = "mlp.fc1.weight"
        taken = net.state_dict()[f"blocks.{new}.{name}"]
        assert torch.equal(taken, source.state_dict()[f"blocks.{old}.{name}"])
    assert {name.split(".")[1] for name in loaded.dropped} == {"2", "4", "6", "8", "10"}
    assert any("blocks 0, 1, 3, 5, 7, 9, 11 (depth cut" in line for line in loaded.lines())


def test_deit_is_summed_to_mono_and_its_grid_split(tmp_path: Path) -> None:
    image = small_weights.deit()
    torch.save({"model": image}, tmp_path / "deit.pth")
    net = create_model("passt_s", 50, width=64, depth=1, heads=1)
    loaded = load_weights(net, tmp_path / "deit.pth")
    state = net.state_dict()
    rgb = image["patch_embed.proj.weight"]
    assert torch.equal(state["patch_embed.proj.weight"], rgb.sum(1, keepdim=True))
    assert torch.equal(state["new_pos_embed"], image["pos_embed"][:, :2])
    grid = image["pos_embed"][:, 2:].reshape(1, 6, 6, 64).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(12, 99), mode="bicubic", align_corners=False)
    assert torch.equal(state["freq_new_pos_embed"], resized.mean(3, keepdim=True))
    assert torch.equal(state["time_new_pos_embed"], resized.mean(2, keepdim=True))
    assert torch.equal(state["dist_token"], image["dist_token"])
    assert set(loaded.reinitialized) == {n for n in state if n.startswith("head")}
    assert set(loaded.dropped) == {n for n in image if n.startswith("head")}


def test_a_vit_without_distillation_token_gets_one_of_its_own(tmp_path: Path) -> None:
    image = small_weights.deit(distilled=False)
    save_file(image, tmp_path / "vit.safetensors")
    net = create_model("passt_s", 50, width=64, depth=1, heads=1)
    loaded = load_weights(net, tmp_path / "vit.safetensors")
    state = net.state_dict()
    assert torch.equal(state["cls_token"], image["cls_token"])
    assert not torch.equal(state["dist_token"], state["cls_token"])
    assert state["dist_token"].std() == pytest.approx(0.02)
    assert torch.equal(state["new_pos_embed"], image["pos_embed"][:, :1].repeat(1, 2, 1))
    assert "not a distilled DeiT" in " ".join(loaded.lines())


def test_ast_under_both_names(tmp_path: Path) -> None:
    source = small_weights.randomised(
        create_model("ast", 527, width=64, depth=1, heads=1, frames=1024)
    )
    official = {f"module.{n}": t for n, t in source.state_dict().items()}
    official["module.v.head.weight"] = torch.zeros(1000, 64)  # of images; never used
    torch.save(official, tmp_path / "ast.pth")
    net = create_model("ast", 527, width=64, depth=1, heads=1, frames=1024)
    loaded = load_weights(net, tmp_path / "ast.pth")
    assert _same(net, source)
    assert list(loaded.dropped) == ["v.head.weight"]
    other = create_model("ast", 10, width=64, depth=1, heads=1, frames=512)
    told = load_weights(other, tmp_path / "ast.pth")
    assert "12 x 101 to 12 x 50" in told.adapted["v.pos_embed"]
    assert set(told.reinitialized) == {"mlp_head.1.weight", "mlp_head.1.bias"}


def test_ast_under_the_names_of_transformers_files(tmp_path: Path) -> None:
    source = small_weights.randomised(
        create_model("ast", 527, width=64, depth=2, heads=1, frames=1024)
    )
    renamed = small_weights.hugging_face(source, old=True)
    state = {name: tensor.contiguous() for name, tensor in renamed.items()}
    save_file(state, tmp_path / "model.safetensors")
    net = create_model("ast", 10, width=64, depth=2, heads=1, frames=1024)
    loaded = load_weights(net, tmp_path / "model.safetensors")
    assert set(loaded.reinitialized) == {"mlp_head.1.weight", "mlp_head.1.bias"}
    again, _, classes = read_model(tmp_path / "model.safetensors")
    assert _same(again, source)
    assert classes[0] == "Speech"


def test_panns_leave_the_buffers_of_their_front_end(tmp_path: Path) -> None:
    source = small_weights.randomised(create_model("cnn10", 527, width=4, mels=64))
    state = dict(source.state_dict())
    state["spectrogram_extractor.stft.conv_real.weight"] = torch.ones(3, 1, 4)
    state["logmel_extractor.melW"] = torch.ones(3, 64)
    torch.save({"model": state, "iteration": 600000}, tmp_path / "cnn.pth")
    net = create_model("cnn10", 5, width=4, mels=64)
    loaded = load_weights(net, tmp_path / "cnn.pth")
    assert len(loaded.dropped) == 2
    assert set(loaded.reinitialized) == {"fc_audioset.weight", "fc_audioset.bias"}
    running = net.state_dict()["bn0.running_mean"]
    assert torch.equal(running, source.state_dict()["bn0.running_mean"])


def test_own_small_models_load_too(tmp_path: Path) -> None:
    source = small_weights.randomised(create_model("panns_micro", 6, mels=64))
    path = small_weights.save(tmp_path / "w.pt", source)
    net = create_model("panns_micro", 6, mels=64)
    load_weights(net, path)
    assert _same(net, source)
    other = create_model("panns_micro", 7, mels=64)
    assert set(load_weights(other, path).reinitialized) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", ["cp_resnet", "mobilenetv3"])
def test_the_other_cnns_load_for_other_classes_too(tmp_path: Path, name: str) -> None:
    options = {"width": 8} if name == "cp_resnet" else {"width_mult": 0.1}
    source = small_weights.randomised(create_model(name, 6, mels=64, frames=64, **options))
    path = small_weights.save(tmp_path / "w.pt", source)
    net = create_model(name, 6, mels=64, frames=64, **options)
    load_weights(net, path)
    assert _same(net, source)
    loaded = load_weights(create_model(name, 9, mels=64, frames=64, **options), path)
    assert loaded.reinitialized
    assert all(name.startswith(("feed_forward.", "classifier.3.")) for name in loaded.reinitialized)


def _spoil(path: Path, **changes: torch.Tensor | None) -> Path:
    state = dict(small_weights.passt().state_dict())
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"norm__weight": None}, "norm.weight", "is missing"),
        ({"norm__weight": torch.ones(32)}, "norm.weight", "does not fit the model's (64,)"),
        ({"extra": torch.ones(1)}, "extra", "unknown"),
        ({"norm__bias": torch.full((64,), torch.nan)}, "norm.bias", "NaN or infinity"),
        ({"norm__bias": torch.ones(64, dtype=torch.int64)}, "norm.bias", "of torch.float32"),
        ({"time_new_pos_embed": torch.ones(1, 32, 1, 99)}, "time_new_pos_embed", "does not fit"),
        ({"freq_new_pos_embed": torch.ones(1, 64, 12)}, "freq_new_pos_embed", "does not fit"),
        ({"head__1__weight": torch.ones(527, 32)}, "head.1.weight", "does not fit"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_the_model_alone(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], field: str, message: str
) -> None:
    path = _spoil(tmp_path / "w.pt", **changes)
    net = create_model("passt_s", 527, width=64, depth=1, heads=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(InputError, match="w.pt") as caught:
        load_weights(net, path)
    assert caught.value.field == field
    assert message in caught.value.problem
    assert caught.value.remedy
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_the_wrong_model_width_and_depth_are_refused(tmp_path: Path) -> None:
    path = small_weights.save(tmp_path / "w.pt", small_weights.passt())
    with pytest.raises(InputError, match="PaSST names, but the model has AST ones"):
        load_weights(create_model("ast", 527, width=64, depth=1, heads=1), path)
    with pytest.raises(InputError, match="1 blocks in the file, but 2 in the model"):
        load_weights(create_model("passt_s", 527, width=64, depth=2, heads=1), path)
    with pytest.raises(InputError, match="cls_token"):
        load_weights(create_model("passt_s", 527, width=128, depth=1, heads=2), path)
    image = small_weights.deit()
    image["pos_embed"] = image["pos_embed"][:, :-1]
    torch.save(image, tmp_path / "v.pt")
    with pytest.raises(InputError, match="not a square grid behind 2"):
        load_weights(create_model("passt_s", 527, width=64, depth=1, heads=1), tmp_path / "v.pt")


@pytest.mark.parametrize(
    ("stride", "frames"),
    [((s, s), n) for s in (10, 12, 14, 16) for n in (998, 2000, 3000, 3200)] + [((10, 16), 998)],
)
def test_geometry_follows_from_the_encodings(stride: tuple[int, int], frames: int) -> None:
    assert infer(128 // stride[0], frames // stride[1], 128) == (stride, frames)


def test_geometry_of_unpublished_sizes() -> None:
    assert infer(8, 8, 64) == ((8, 8), 64)
    assert infer(129, 99, 128) is None
