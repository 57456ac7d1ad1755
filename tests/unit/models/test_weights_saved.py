"""Own model files and official files as models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import small_weights
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from passt_bench import __version__
from passt_bench.errors import InputError
from passt_bench.models import create_model, read_model, save_model
from passt_bench.published_weights import PUBLISHED
from passt_bench.spec import DataSpec, FrontendSpec, InitSpec, ModelSpec, Recipe, TrainingSpec
from passt_bench.spec.frontends import panns_frontend

RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
    frontend=FrontendSpec(hop=250),
    data=DataSpec(seconds=1.0),
    training=TrainingSpec(loss="ce"),
    init=InitSpec("checkpoint", "/home/somebody/secret/start.pt", "0" * 64),
)
CNN = replace(RECIPE, model=ModelSpec("panns_micro"))
CLASSES = ("dog", "Hund, groß", "cat")
X = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def _net() -> torch.nn.Module:
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=64, frames=64)
    return small_weights.randomised(net).eval()


def test_a_saved_model_comes_back_whole(tmp_path: Path) -> None:
    net, saved = _net(), {"metrics": {"mAP": 0.5}, "key": "abc"}
    path = save_model(tmp_path / "m.safetensors", net, RECIPE, CLASSES, **saved)
    again, recipe, classes = read_model(path)
    assert torch.equal(again(X), net(X))
    assert not again.training
    assert recipe == replace(RECIPE, init=replace(RECIPE.init, checkpoint="start.pt"))
    assert classes == CLASSES
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["passt_bench"])
    assert {"version": __version__, **saved}.items() <= facts.items()
    assert b"somebody" not in path.read_bytes()
    same = save_model(tmp_path / "same", _net(), RECIPE, CLASSES, **saved)
    assert same.read_bytes() == path.read_bytes()


def test_a_compiled_or_channels_last_model_is_saved_under_plain_names(tmp_path: Path) -> None:
    net = create_model("panns_micro", 3, mels=64, frames=64)
    compiled = torch.compile(net, backend="eager")
    again = read_model(save_model(tmp_path / "m.safetensors", compiled, CNN, CLASSES)).net
    assert again.state_dict().keys() == net.state_dict().keys()
    assert torch.equal(again(X), net.eval()(X))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipe": None}, "Recipe"),
        ({"recipe": {"model": {"name": 3}}}, "model.name"),
        ({"classes": [1]}, "0"),
        ({"classes": None}, "tuple"),
        ({"schema": 2}, "schema"),
        (None, "schema"),
    ],
)
def test_wrong_facts_inside_a_file_are_named(
    tmp_path: Path, change: dict[str, object] | None, field: str | None
) -> None:
    path = save_model(tmp_path / "m.safetensors", _net(), RECIPE, CLASSES)
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["passt_bench"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"passt_bench": "{" if change is None else json.dumps(facts | change)})
    with pytest.raises(InputError) as caught:
        read_model(path)
    assert (caught.value.source, caught.value.field) == (path, field)


@pytest.mark.parametrize(
    ("stride", "frames", "hop"),
    [(10, 998, 320), (16, 998, 320), (10, 3200, 100), (14, 3000, 320)],
)
def test_the_model_of_an_official_file(tmp_path: Path, stride: int, frames: int, hop: int) -> None:
    source = small_weights.passt(stride=stride, frames=frames)
    net, recipe, classes = read_model(small_weights.save(tmp_path / "unknown.pt", source))
    assert recipe.model.stride == (stride, stride)
    assert (recipe.model.frames, recipe.frontend.hop) == (frames, hop)
    assert recipe.training.loss == "bce"
    assert (classes[0], classes[526], len(classes)) == ("Speech", "Field recording", 527)
    x = torch.randn(1, 1, 128, frames)
    assert torch.equal(net(x), source(x))


@pytest.mark.parametrize(
    ("name", "hop", "seconds", "loss", "last"),
    [
        ("stfthop160", 160, 10.0, "bce", "Field recording"),
        ("passt_20sec", 320, 10.0, "bce", "Field recording"),
        ("esc50_fold1", 320, 5.0, "ce", "hand_saw"),
        ("openmic", 320, 10.0, "bce", "voice"),
    ],
)
def test_what_the_name_of_a_published_file_adds(
    tmp_path: Path, name: str, hop: int, seconds: float, loss: str, last: str
) -> None:
    entry = PUBLISHED[name]
    net = small_weights.passt(entry.classes, frames=entry.frames)
    _, recipe, classes = read_model(small_weights.save(tmp_path / entry.file, net))
    assert (recipe.frontend.hop, recipe.data.seconds, recipe.training.loss) == (hop, seconds, loss)
    assert classes[-1] == last


@pytest.mark.parametrize("name", ["cnn14", "cnn6"])
def test_the_model_of_an_official_file_of_panns(tmp_path: Path, name: str) -> None:
    net = small_weights.randomised(create_model(name, 527, width=4, mels=64))
    again, recipe, classes = read_model(small_weights.save(tmp_path / f"{name}.pth", net))
    assert (recipe.model.name, recipe.frontend) == (name, panns_frontend())
    assert len(classes) == 527
    assert all(map(torch.equal, again.parameters(), net.parameters()))


def test_files_whose_model_cannot_be_recognized_are_refused(tmp_path: Path) -> None:
    state = dict(small_weights.passt().state_dict())
    headless = {n: t for n, t in state.items() if "head" not in n}
    rows = {"freq_new_pos_embed": torch.ones(1, 64, 200, 1)}
    for name, content, field in (
        ("image.pt", small_weights.deit(), "blocks.0.attn.proj.bias"),
        ("headless.pt", headless, "head.1.weight"),
        ("other.pt", {"a": torch.ones(1)}, "a"),
        ("rows.pt", state | rows, "freq_new_pos_embed"),
        ("passt_s_p16_128_ap47", None, None),
    ):
        if content:
            torch.save(content, tmp_path / name)
        with pytest.raises(InputError) as caught:
            read_model(tmp_path / name)
        assert (caught.value.source, caught.value.field) == (tmp_path / name, field)


def test_a_cnn14_is_used_with_the_front_end_in_its_own_buffers(tmp_path: Path) -> None:
    """n_fft 512, hop 160, 16 kHz; filters of none of the released models are refused."""
    state = dict(small_weights.randomised(create_model("cnn14", 9, width=4, mels=64)).state_dict())
    for rate, n_fft, fmax in ((16000, 512, 8000.0), (32000, 1024, 14000.0)):
        torch.save(state | small_weights.panns_buffers(rate, n_fft, fmax), tmp_path / "cnn14.pth")
        found = read_model(tmp_path / "cnn14.pth").recipe.frontend
        assert (found.sampling_rate, found.n_fft, found.hop) == (rate, n_fft, rate // 100)
    torch.save(state | small_weights.panns_buffers(32000, 1024, 11000.0), tmp_path / "cnn14.pth")
    with pytest.raises(InputError) as caught:
        read_model(tmp_path / "cnn14.pth")
    assert caught.value.field == "logmel_extractor.melW"
    buffers = small_weights.panns_buffers(16000, 512, 8000.0)
    real, imag = (f"spectrogram_extractor.stft.conv_{part}.weight" for part in ("real", "imag"))
    hamming = {**buffers, real: buffers[real] * 0.92 + 0.08}  # at frequency zero, its window
    for content, field in (
        ({real: buffers[real]}, real),  # a transform of 16 kHz without filters
        (hamming, real),
        ({**buffers, imag: -buffers[imag]}, imag),
    ):
        torch.save(state | content, tmp_path / "cnn14.pth")
        with pytest.raises(InputError) as caught:
            read_model(tmp_path / "cnn14.pth")
        assert caught.value.field == field


def test_a_short_ast_has_short_clips_and_the_normalisation_and_classes_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = small_weights.randomised(
        create_model("ast", 3, depth=1, width=64, heads=1, frames=128, mels=128)
    )
    torch.save(small_weights.hugging_face(net), tmp_path / "pytorch_model.bin")
    model = read_model(tmp_path / "pytorch_model.bin")
    assert model.recipe.data.seconds == pytest.approx(1.28, abs=0.1)
    assert "16000 Hz, a hop of 160 samples, mean -4.26774" in caplog.text
    beside, labels = tmp_path / "preprocessor_config.json", tmp_path / "config.json"
    beside.write_text('{"mean": -6.8, "std": 5.5, "max_length": 128, "sampling_rate": 16000}')
    labels.write_text('{"id2label": {"0": "yes", "1": "no", "2": "up"}}')
    model = read_model(tmp_path / "pytorch_model.bin")
    found = model.recipe.frontend
    assert (found.mean, found.std, found.frames) == (-6.8, 11.0, 128)
    assert (model.classes, model.recipe.data.seconds) == (("yes", "no", "up"), 1.28)
    beside.write_text('{"do_normalize": false}')
    found = read_model(tmp_path / "pytorch_model.bin").recipe.frontend
    assert (found.mean, found.std) == (0, 1)
    for file, field, text in (
        *((beside, "max_length", text) for text in ("1024", "128.5")),
        *((beside, "sampling_rate", text) for text in ("8000", "true", '"x"')),
        *((beside, "std", text) for text in ('"x"', "[2.5]", "0")),
        (beside, "num_mel_bins", "64"),
        (labels, "time_stride", "16"),
        (labels, "num_attention_heads", "4"),
        (labels, "max_length", "1024"),
    ):
        beside.unlink(missing_ok=True)
        file.write_text(f'{{"{field}": {text}}}')
        with pytest.raises(InputError) as caught:
            read_model(tmp_path / "pytorch_model.bin")
        assert (caught.value.source, caught.value.field) == (file, field)


@pytest.mark.parametrize("place", ["config.json", "preprocessor_config.json", "", "hparams"])
def test_what_is_stated_beside_any_weights_is_used_or_refused(tmp_path: Path, place: str) -> None:
    names = ["yes", "no", "up"]
    cnn = dict(create_model("cnn14", 3, width=4, mels=64).state_dict())
    passt = dict(small_weights.passt(3).state_dict())
    for tensors, field in ((cnn, "sampling_rate"), (passt, "sample_rate")):
        for rate in (32000, 16000):
            stated: dict[str, object] = {field: rate, "classes": names}
            path, content = tmp_path / "w.pth", {"state_dict": tensors}
            if place.endswith("json"):
                (tmp_path / place).write_text(json.dumps(stated))
            else:
                content |= {place: stated} if place else stated
            torch.save(content, path)
            if rate == 32000:
                assert read_model(path).classes == tuple(names)
                continue
            with pytest.raises(InputError) as caught:
                read_model(path)
            assert (caught.value.field, caught.value.value) == (field, rate)


def test_527_classes_with_names_beside_them_are_not_called_those_of_audioset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_weights.save(tmp_path / "w.pth", small_weights.passt())
    labels = {str(number): f"n{number}" for number in range(527)}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    model = read_model(path)
    assert (model.classes[526], model.recipe.data.name) == ("n526", "unknown")
    assert "clips of 10 s" in caplog.text and "audioset" not in caplog.text
    del labels["7"]
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    with pytest.raises(InputError, match="526 names of classes beside weights of 527"):
        read_model(path)
