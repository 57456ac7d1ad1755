"""The golden files: outputs of the peers, a safetensors file a family, and how they are compared.

A file holds the arrays of its cases as ``case/part``, and as metadata the versions of what computed
them and the hash of each case's weights.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

HERE = Path(__file__).parent
Outputs = dict[str, np.ndarray]


def difference(found: np.ndarray, wanted: np.ndarray, least: float = 0.0) -> float:
    """The largest difference, as a share of the largest magnitude that is wanted, or ``least``."""
    assert found.shape == wanted.shape, f"{found.shape} instead of {wanted.shape}"
    assert np.isfinite(wanted).all() and np.isfinite(found).all(), "not finite"
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), least))


def differences(found: Outputs, wanted: Outputs) -> dict[str, float]:
    """The largest difference of each part.

    A gradient that is nothing but rounding, as that of a shift before a batch norm, is measured
    against a millionth of the largest gradient of all.
    """
    assert sorted(found) == sorted(wanted)
    gradients = [np.abs(value).max() for part, value in wanted.items() if "gradient/" in part]
    least = 1e-6 * float(max(gradients, default=0.0))
    return {
        part: difference(found[part], value, least if "gradient/" in part else 0.0)
        for part, value in wanted.items()
    }


def worst(found: Outputs, wanted: Outputs) -> tuple[float, str]:
    return max((value, part) for part, value in differences(found, wanted).items())


def path(family: str) -> Path:
    return HERE / f"{family}.safetensors"


def write(family: str, cases: dict[str, Outputs], metadata: dict[str, str]) -> None:
    arrays = {
        f"{case}/{part}": np.ascontiguousarray(value)
        for case, outputs in sorted(cases.items())
        for part, value in sorted(outputs.items())
    }
    path(family).write_bytes(save(arrays, metadata=dict(sorted(metadata.items()))))


def read(family: str, case: str) -> Outputs:
    with safe_open(path(family), "np") as file:
        names = [name for name in file.keys() if name.startswith(f"{case}/")]  # noqa: SIM118
        assert names, f"no {case} in {path(family).name}: run `nox -s parity -- --write-golden`"
        return {name.removeprefix(f"{case}/"): file.get_tensor(name) for name in names}


def weights(family: str) -> dict[str, str]:
    """Hashes by case; the rest of the metadata are the versions of the peers."""
    with safe_open(path(family), "np") as file:
        return json.loads(file.metadata()["weights"])
