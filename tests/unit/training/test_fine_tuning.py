import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import build_model, create_model
from passt_bench.registry import MODELS
from passt_bench.spec import ModelSpec, Recipe, override
from passt_bench.training.engine import ModelStep, rate_groups
from passt_bench.training.loop import check_settings

MICRO = Recipe(ModelSpec("passt_micro", depth=3))


def scales(**changes: object) -> dict[str, float]:
    """The multiple of the learning rate of each trained parameter."""
    recipe = override(MICRO, {f"training.{name}": value for name, value in changes.items()})
    net = build_model("passt_micro", 4, depth=3)
    groups = rate_groups(net, recipe.training)
    by_id = {id(p): scale for scale, group in groups for p in group}
    return {name: by_id[id(p)] for name, p in net.named_parameters() if id(p) in by_id}


def test_by_default_all_are_trained_alike() -> None:
    assert set(scales().values()) == {1.0}


def test_layer_wise_decay_falls_from_the_last_block_to_the_embeddings() -> None:
    found = scales(layer_decay=0.5, head_rate=10.0)
    wanted = {"cls_token": 1 / 8, "patch_embed.": 1 / 8, "blocks.0.": 1 / 4, "blocks.1.": 1 / 2,
              "blocks.2.": 1.0, "norm.": 1.0, "head.": 10.0}  # fmt: skip
    for start, scale in wanted.items():
        assert {s for name, s in found.items() if name.startswith(start)} == {scale}, start


def test_a_step_of_the_classifier_alone_changes_nothing_else() -> None:
    recipe = override(MICRO, {"training.trained": "head", "training.head_rate": 3.0})
    net = create_model("passt_micro", num_classes=4, depth=3, seed=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    step = ModelStep(net, recipe)
    step.set_learning_rate(0.01)
    assert [group["lr"] for group in step.optimizer.param_groups] == [0.03]
    assert step.learning_rate == pytest.approx(0.01)
    inputs = {"x": torch.randn(2, 1, 128, 100), "targets": torch.rand(2, 4).round()}
    step.backward(step.forward(inputs))
    step.update()
    changed = {n for n, value in net.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all(name.startswith("head.") for name in changed)


@pytest.mark.parametrize("name", [item.name for item in MODELS.all()])
def test_every_model_names_its_classifier(name: str) -> None:
    with torch.device("meta"):
        few, more = (build_model(name, classes) for classes in (4, 5))
    sizes = zip(few.named_parameters(), more.named_parameters(), strict=True)
    differ = [own for (own, a), (_, b) in sizes if a.shape != b.shape]
    assert differ
    assert all(own.startswith(few.classifiers) for own in differ)


@pytest.mark.parametrize("name", ["passt_micro", "ast", "panns_micro", "cp_resnet", "mobilenetv3"])
@torch.no_grad()
def test_the_classifier_makes_the_logits_of_the_embedding(name: str) -> None:
    options = {"depth": 1, "width": 64, "heads": 2} if name == "ast" else {}
    net = create_model(name, num_classes=5, seed=0, **options).eval()
    x = torch.randn(2, 1, net.mels, 64)
    found = net.embedding(x)
    assert found.ndim == 2
    inputs = found[..., None, None] if name == "cp_resnet" else found  # that of a map of one place
    logits = net.get_submodule(net.classifiers[0].rstrip("."))(inputs).flatten(1)
    assert torch.allclose(logits, net(x), atol=1e-5)
    assert not net._forward_pre_hooks


def test_layer_wise_decay_needs_blocks() -> None:
    recipe = override(Recipe(ModelSpec("cnn6")), {"training.layer_decay": 0.75})
    with pytest.raises(InputError) as error:
        check_settings(recipe, 100)
    assert error.value.field == "training.layer_decay"
