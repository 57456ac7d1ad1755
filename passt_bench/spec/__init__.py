"""The classes that describe a study; imports no torch."""

from passt_bench.spec.codec import validate
from passt_bench.spec.engine import EngineSpec, MeasurementSpec
from passt_bench.spec.frontends import ast_frontend, panns_frontend, passt_frontend
from passt_bench.spec.recipe import (
    DataSpec,
    FrontendSpec,
    InitSpec,
    ModelSpec,
    Patchout,
    Recipe,
    TrainingSpec,
)
from passt_bench.spec.search import Range, Search
from passt_bench.spec.study import (
    Study,
    Tune,
    Variant,
    effects,
    factorial,
    one_at_a_time,
    override,
    pairwise,
    parse_assignments,
    slope,
)

__all__ = [
    "DataSpec",
    "EngineSpec",
    "FrontendSpec",
    "InitSpec",
    "MeasurementSpec",
    "ModelSpec",
    "Patchout",
    "Range",
    "Recipe",
    "Search",
    "Study",
    "TrainingSpec",
    "Tune",
    "Variant",
    "ast_frontend",
    "effects",
    "factorial",
    "one_at_a_time",
    "override",
    "pairwise",
    "panns_frontend",
    "parse_assignments",
    "passt_frontend",
    "slope",
    "validate",
]
