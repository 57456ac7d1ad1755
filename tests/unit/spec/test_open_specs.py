"""Options of plug-ins: flat in Python, in records and in keys, though no field knows them."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from typing import Any

import pytest

from passt_bench.errors import InputError
from passt_bench.spec import ModelSpec, Patchout, Recipe, override
from passt_bench.spec.codec import from_json, own_options, to_plain
from passt_bench.spec.key import key_fields, quality_key

OWN: dict[str, Any] = {"petals": 3, "sizes": [2, [3, 4]]}


def test_they_are_fields_like_the_others() -> None:
    spec = ModelSpec("lily", width=8, **OWN)
    assert own_options(spec) == {"petals": 3, "sizes": (2, (3, 4))}
    assert spec == replace(ModelSpec("lily"), width=8, **OWN)
    assert hash(spec) == hash(replace(spec, petals=3))  # type: ignore[call-arg]
    assert spec != replace(spec, petals=4)  # type: ignore[call-arg]
    assert "petals=3" in repr(spec)
    assert asdict(spec)["petals"] == 3


def test_keys_records_and_processes_get_them() -> None:
    recipe = Recipe(model=ModelSpec("lily", **OWN), patchout=Patchout("chess", share=0.5))  # type: ignore[call-arg]
    plain = json.loads(json.dumps(to_plain(recipe)))
    assert plain["model"] | OWN == plain["model"]
    assert plain["patchout"]["share"] == 0.5
    assert from_json(Recipe, json.dumps(plain).encode()) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    specs = [ModelSpec("lily"), ModelSpec("lily", petals=3), ModelSpec("lily", petals=4)]  # type: ignore[call-arg]
    assert len({quality_key(Recipe(model=spec), 0, None, "data", {}) for spec in specs}) == 3
    assert key_fields(specs[1])["petals"] == 3


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"model": ModelSpec("passt_s", depht=3)}, "model.depht", 3),  # type: ignore[call-arg]
        ({"model.rho": 3, "model.petals": 1}, "model.petals", 1),
        ({"patchout.tmie": 3}, "patchout.tmie", 3),
    ],
)
def test_what_the_component_does_not_have_is_refused(
    changes: dict[str, Any], field: str, value: object
) -> None:
    with pytest.raises(InputError) as refused:
        override(Recipe(), changes)
    assert (refused.value.field, refused.value.value) == (field, value)
