"""Computes keys, hashes of everything that decides a result; checks names and keys in paths."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from passt_bench.errors import InputError
from passt_bench.registry import DATASETS, FRONTENDS, METRICS, MODELS, PATCHOUTS
from passt_bench.spec.codec import FREE, LATER, spellings
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import flatten

KEY_LENGTH = 16


def key_fields(node: Any, *, as_written: bool = True) -> Any:
    """The fields of a recipe or a part of it that decide a result, as plain JSON values.

    With ``as_written`` names and values are those of records, as in every key.
    """
    if not is_dataclass(node) or isinstance(node, type):
        return list(node) if isinstance(node, tuple) else node
    out = {}
    for item, later in _marked(type(node)):
        value, spelling = getattr(node, item.name), spellings(type(node))[item.name]
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if later and value == default:
            continue
        plain = key_fields(value, as_written=as_written)
        if plain != {}:
            name = spelling.name if as_written else item.name
            out[name] = spelling.write(plain) if as_written else plain
    return out


@lru_cache
def _marked(kind: Any) -> tuple[tuple[Field[Any], bool], ...]:
    """The fields of a dataclass that are not free, each with whether it is marked as later."""
    hints = get_type_hints(kind, include_extras=True)
    marks = {item.name: getattr(hints[item.name], "__metadata__", ()) for item in fields(kind)}
    return tuple(
        (item, LATER in marks[item.name]) for item in fields(kind) if FREE not in marks[item.name]
    )


_cached_fields = lru_cache(maxsize=512)(key_fields)  # one recipe has many cells


def digest(value: object) -> str:
    """The hash of a JSON value, independent of the order of mappings."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def recipe_difference(recipe: Recipe, other: Recipe) -> str | None:
    """The first field that decides a result and differs, as ``training.epochs = 1``."""
    own, old = (flatten(key_fields(one, as_written=False)) for one in (recipe, other))
    differ = [name for name in {**own, **old} if own.get(name) != old.get(name)]
    return f"{differ[0]} = {own.get(differ[0])}" if differ else None


def component_versions(recipe: Recipe) -> dict[str, int]:
    """The versions of the registered components that a recipe uses.

    Front ends were registered after records had been written: version 1 of a front end stays out,
    so that older records keep their keys. Version 2 of the crop reads random parts near the end of
    an Ogg file where they are; that of the epoch breaks ties of the metric by the loss.
    """
    frontend = FRONTENDS.get(recipe.frontend.name).version
    return {
        "model": MODELS.get(recipe.model.name).version,
        "data": DATASETS.get(recipe.data.name).version,
        "patchout": PATCHOUTS.get(recipe.patchout.kind).version,
        **({"frontend": frontend} if frontend > 1 else {}),
        **({"crop": 2} if recipe.data.crop == "random" else {}),
        **({"epoch": 2} if recipe.training.checkpoint_selection == "best_on_validation" else {}),
        **{f"metric {name}": METRICS.get(name).version for name in recipe.metrics},
    }


def quality_key(
    recipe: Recipe, seed: int, fold: int | None, data_digest: str, versions: Mapping[str, int]
) -> str:
    """The key of a quality cell; ``data_digest`` is that of the fingerprint of the data."""
    return digest(
        {
            "recipe": _cached_fields(recipe),
            "seed": seed,
            "fold": fold,
            "fingerprint": data_digest,
            "versions": dict(versions),
        }
    )


def arm_key(recipe: Recipe, versions: Mapping[str, int]) -> str:
    """The key of what a cost session measures: model, patchout, input shape, batch, engine."""
    batch = recipe.measurement.batch_size or recipe.training.batch_size
    return digest(
        {
            "model": key_fields(recipe.model),
            "patchout": key_fields(recipe.patchout),
            "frontend": key_fields(recipe.frontend),
            "seconds": recipe.data.seconds,
            "data": recipe.data.name,
            "loss": recipe.training.loss,
            "batch": batch,
            "engine": key_fields(recipe.engine),
            "versions": {
                name: versions[name]
                for name in ("model", "patchout", "frontend")
                if name in versions
            },
        }
    )


def session_key(arms: list[str], machine: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """The key of a cost session: its arms, the machine and the library versions."""
    return digest({"arms": sorted(arms), "machine": dict(machine), "versions": dict(versions)})


RESERVED = ("paper", "evaluations")  # folders of the reports that are of no study
_RULE = "may contain only letters, digits, - and _, in at most 200 bytes, and not be "
_RULE += " or ".join(RESERVED)


def _is_plain(text: str) -> bool:
    plain = text.replace("-", "").replace("_", "").isalnum()
    return plain and len(text.encode()) <= 200 and text not in RESERVED


def _is_moment(text: str) -> bool:
    with suppress(ValueError, OverflowError):
        return not text or datetime.fromisoformat(text).timestamp() >= 0
    return False


def is_key(text: str) -> bool:
    """Whether a text is a key, like the names of the folders of records."""
    return re.fullmatch(f"[0-9a-f]{{{KEY_LENGTH}}}", text) is not None


def _require(valid: Callable[[str], bool], problem: str) -> AfterValidator:
    def check(text: str) -> str:
        if not valid(text):
            raise PydanticCustomError("name", problem)
        return text

    return AfterValidator(check)


Name = Annotated[str, _require(_is_plain, _RULE)]  # of a file and of a folder
Moment = Annotated[str, _require(_is_moment, "not a moment in ISO 8601")]  # or empty
# Of a record, its folder, and of what points to it.
Key = Annotated[str, _require(is_key, "not a key (16 hexadecimal digits in lower case)")]


def plain_name(text: str, *, field: str) -> str:
    """Checks and returns a name or key that becomes part of a path.

    Raises:
        InputError: the text is too long, has other characters than letters, digits, - and _, or is
            the name of a folder of all reports.
    """
    if not _is_plain(text):
        raise InputError(_RULE, field=field, value=text, remedy="Choose another name.")
    return text
