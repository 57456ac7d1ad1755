from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest

from passt_bench.errors import InputError
from passt_bench.spec import (
    InitSpec,
    Recipe,
    Study,
    Variant,
    effects,
    factorial,
    one_at_a_time,
    override,
    pairwise,
    parse_assignments,
    slope,
)
from passt_bench.spec.codec import from_json, meanings, to_plain
from passt_bench.spec.key import arm_key, component_versions, digest, key_fields, quality_key

VERSIONS = {"model": 1, "data": 1, "patchout": 1}


def _key(recipe: Recipe, seed: int = 0, fold: int | None = None, data: str = "d") -> str:
    return quality_key(recipe, seed, fold, data, VERSIONS)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"training.epoch": 3}, "Did you mean 'training.epochs'"),
        ({"training.epochs": "many"}, "passes over"),
        ({"salt.x": 1}, "Set salt itself"),
        ({"patchout.rate": 1.0}, "fraction of the patch grid"),
        ({"model": 3}, "Set one of its fields"),
    ],
)
def test_bad_overrides_name_field_value_and_remedy(changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        override(Recipe(), changes, source="--set")
    ((field, value),) = changes.items()
    assert (caught.value.source, caught.value.field, caught.value.value) == ("--set", field, value)
    assert remedy in str(caught.value.remedy)


def test_assignments() -> None:
    items = ["a.b=3", "c=[6,6]", "d=text", "e=null", "f=1e-3", "patchout.kind=none"]
    assert parse_assignments(items) == {
        "a.b": 3, "c": [6, 6], "d": "text", "e": None, "f": 1e-3, "patchout.kind": "none",
    }  # fmt: skip
    for pair, names in (("6", "mAP,AUC"), ("6,6", '["mAP", "AUC"]'), ("[6,6]", "mAP,AUC")):
        changes = parse_assignments([f"model.stride={pair}", f"metrics={names}"])
        recipe = override(Recipe(), changes)
        assert (recipe.model.stride, recipe.metrics) == ((6, 6), ("mAP", "AUC"))


def _paths(node: Any, prefix: str = "") -> list[str]:
    names = []
    for item in fields(node):
        value = getattr(node, item.name)
        name = f"{prefix}{item.name}"
        names += _paths(value, f"{name}.") if is_dataclass(value) else [name]
    return names


OTHERS = ("bfloat16", "validation", "stretch", "rising", "checkpoint", "random", "ramp", "weighted",
          "swa", "streamed", "materialised", "compute", "blocks", "device", "head")  # fmt: skip
FREE = ("data.storage", "engine.num_workers", "engine.frontend")


def _other(recipe: Recipe, path: str) -> Recipe:
    """The recipe with another value in one field, whatever its type."""
    for value in (0.31, 7, "other", (3, 5), ("mAP", "accuracy"), "sample", "ce", "cuda"):
        for candidate in (value, True, 3, *OTHERS):
            try:
                changed = override(recipe, {path: candidate})
            except InputError:
                continue
            if changed != recipe:
                return changed
    raise AssertionError(f"no other value for {path}")


@pytest.mark.parametrize("path", _paths(Recipe()))
def test_each_field_is_described_and_makes_another_key_if_it_decides(path: str) -> None:
    changed = _other(Recipe(), path)
    free = path.startswith("measurement.") or path in FREE
    assert (_key(changed) == _key(Recipe())) is free
    owner: Any = Recipe
    for part in path.split("."):
        hint = get_type_hints(owner, include_extras=True)[part]
        owner = getattr(hint, "__origin__", hint)
    assert any(getattr(mark, "description", None) for mark in hint.__metadata__)


RENAMED = {  # name and value in Python → the same in records
    ("model.overlong", "stretch"): ("model.longer", "stretch"),
    ("model.width_mult", 0.5): ("model.multiplier", 0.5),
    ("frontend.std", 2.0): ("frontend.deviation", 2.0),
    ("training.min_lr_ratio", 0.5): ("training.last_rate", 0.5),
    ("training.eval_weights", "swa"): ("training.tested", "swa"),
    ("training.checkpoint_selection", "validation"): ("training.select", "inner"),
    ("training.checkpoint_selection", "best_on_validation"): ("training.select", "best_on_inner"),
    ("training.validation_share", 0.3): ("training.inner_share", 0.3),
    ("engine.compile", "default"): ("engine.compiled", True),
    ("engine.num_workers", 2): ("engine.loaders", 2),
}


@pytest.mark.parametrize(("new", "old"), RENAMED.items(), ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_a_renamed_field_is_written_as_before_and_read_in_both_spellings(
    new: tuple[str, Any], old: tuple[str, Any]
) -> None:
    recipe = override(Recipe(), dict([new]))
    (part, name), (_, written) = new[0].split("."), old[0].split(".")
    assert override(Recipe(), dict([old])) == recipe
    assert override(Recipe(), {new[0]: old[1]}) == recipe
    plain = to_plain(recipe)
    assert plain[part][written] == old[1]
    assert name not in plain[part]
    for spelled in ({part: {name: new[1]}}, {part: {written: old[1]}}, plain):
        assert from_json(Recipe, json.dumps(spelled).encode()) == recipe
    if new[0] not in FREE:
        assert key_fields(recipe)[part][written] == old[1]
        assert key_fields(recipe, as_written=False)[part][name] == new[1]
    for wrong in (new[0], old[0]):
        with pytest.raises(InputError) as caught:
            override(Recipe(), {wrong: "wrong"})
        assert caught.value.field == new[0]


def test_content_seed_fold_data_and_versions_make_other_keys() -> None:
    starts = [
        _key(override(Recipe(), {"init": InitSpec("checkpoint", place, content)}))
        for place, content in (("a/x.pt", "1"), ("b/y.pt", "1"), ("a/x.pt", "2"))
    ]
    raised = quality_key(Recipe(), 0, None, "d", {**VERSIONS, "model": 2})
    others = [_key(Recipe(), seed=1), _key(Recipe(), fold=1), _key(Recipe(), data="e"), raised]
    assert len({_key(Recipe()), *starts, *others}) == 1 + 2 + 4
    assert "init" not in key_fields(Recipe())  # a later field
    # A change here makes every record in the world anew: it must be meant.
    assert digest(key_fields(Recipe())) == "0ab9c53b50a224b2"
    versions = component_versions(override(Recipe(), {"data.crop": "random"}))
    assert versions == component_versions(Recipe()) | {"crop": 2}
    best = override(Recipe(), {"training.checkpoint_selection": "best_on_validation"})
    assert component_versions(best) == component_versions(Recipe()) | {"epoch": 2}


@pytest.mark.parametrize(
    ("field", "value", "shared"),
    [
        ("training.learning_rate", 1.0, True), ("salt", 3, True),
        ("training.batch_size", 3, False), ("patchout.kind", "time", False),
    ],
)  # fmt: skip
def test_arms_share_what_does_not_cost(field: str, value: object, shared: bool) -> None:
    changed = arm_key(override(Recipe(), {field: value}), VERSIONS)
    assert (changed == arm_key(Recipe(), VERSIONS)) is shared


def _study(**changes: Any) -> Study:
    values: dict[str, Any] = {
        "name": "s", "question": "q", "base": Recipe(), "baseline": "a",
        "variants": (Variant("a"), Variant("b", {"salt": 1})),
    }  # fmt: skip
    return Study(**(values | changes))


def test_a_study_gives_validated_recipes() -> None:
    bad = _study(variants=(Variant("a"), Variant("b", {"salty": 1})))
    with pytest.raises(InputError) as caught:
        bad.recipe(bad.variants[1])
    assert (caught.value.source, caught.value.field) == ("study s, variant 'b'", "salty")


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        ("baseline", "c", "c"),
        ("variants", (), []),
        ("variants", (Variant("a"), Variant("a")), "a"),
        ("seeds", (1, 1), (1, 1)),
        ("margin", -1.0, -1.0),
        ("looks", (5, 3), (5, 3)),
        ("looks", (2, 5), (2, 5)),
        ("looks", (3, 6), (3, 6)),  # the study has five seeds
        ("looks", (3, 4, 5, 6, 7, 8), (3, 4, 5, 6, 7, 8)),
    ],
)
def test_bad_studies_are_refused(field: str, given: object, value: object) -> None:
    with pytest.raises(InputError) as caught:
        _study(**{field: given})
    assert (caught.value.field, caught.value.value) == (field, value)


@pytest.mark.parametrize("weights", [{"a": 1, "b": -2}, {"a": 0, "b": 0}, {}])
def test_the_weights_of_a_contrast_add_up_to_zero(weights: dict[str, float]) -> None:
    with pytest.raises(InputError) as caught:
        _study(contrasts={"family": {"one": weights}})
    assert (caught.value.field, caught.value.value) == ("contrasts.family.one", weights)
    with pytest.raises(InputError) as caught:
        _study(contrasts={"family": {"one": {"a": 1, "c": -1}}})
    assert caught.value.value == "c"


def test_a_contrast_is_in_one_family() -> None:
    pair = {"a": 1.0, "b": -1.0}
    _study(contrasts={"first": {"one": pair, "again": pair}})
    for other in (pair, {"b": 1.0, "a": -1.0}, {"a": 0.1, "b": -0.1}):
        with pytest.raises(InputError) as caught:
            _study(contrasts={"first": {"one": pair}, "second": {"two": other}})
        assert (caught.value.field, caught.value.value) == ("contrasts.second.two", "first")


def test_contrasts_by_hand() -> None:
    assert pairwise("a", "b", "c") == {
        "a − b": {"a": 1, "b": -1}, "a − c": {"a": 1, "c": -1}, "b − c": {"b": 1, "c": -1}
    }  # fmt: skip
    # A line of slope 3 per unit gives 0.3 per step of a tenth, whatever its height.
    weights = slope({"none": 0.0, "half": 0.5, "most": 0.75}, step=0.1)
    values = {"none": 7.0, "half": 8.5, "most": 9.25}
    assert sum(w * values[name] for name, w in weights.items()) == pytest.approx(0.3)
    assert sum(weights.values()) == pytest.approx(0)
    found = effects(("x1", "x2"), ("y1", "y2", "y3"))
    main, both = found["main effects"], found["interactions"]
    assert list(main) == ["x2 − x1", "y2 − y1", "y3 − y1"]
    assert main["x2 − x1"]["x2, y1"] == pytest.approx(1 / 3)
    assert main["y2 − y1"] == {"x1, y2": 0.5, "x2, y2": 0.5, "x1, y1": -0.5, "x2, y1": -0.5}
    assert both["x2 − x1, with y2 instead of y1"] == {
        "x2, y2": 1, "x1, y2": -1, "x2, y1": -1, "x1, y1": 1
    }  # fmt: skip


def test_designs() -> None:
    factors = {"x": {"x1": {"salt": 1}, "x2": {"salt": 2}}, "y": {"y1": {"training.epochs": 3}}}
    alone = one_at_a_time("base", factors)
    assert [variant.name for variant in alone] == ["base", "x1", "x2", "y1"]
    crossed = factorial(factors)
    assert [variant.name for variant in crossed] == ["x1, y1", "x2, y1"]
    assert crossed[1].changes == {"salt": 2, "training.epochs": 3}


def test_every_field_that_is_listed_can_be_set_to_its_listed_value() -> None:
    listed = dict(meanings(Recipe()))
    assert listed["training.epochs"] == "Passes over the training clips. [10]"
    for name, text in listed.items():
        meaning, _, value = text.removesuffix("]").rpartition(" [")
        assert meaning
        if name not in ("init.checkpoint", "init.sha256"):
            assert override(Recipe(), parse_assignments([f"{name}={value}"])) == Recipe(), name
