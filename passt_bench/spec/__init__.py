"""The classes that describe a study; imports no torch."""

from passt_bench.spec.codec import validate as validate
from passt_bench.spec.frontends import ast_frontend as ast_frontend
from passt_bench.spec.frontends import panns_frontend as panns_frontend
from passt_bench.spec.frontends import passt_frontend as passt_frontend
from passt_bench.spec.recipe import DataSpec as DataSpec
from passt_bench.spec.recipe import EngineSpec as EngineSpec
from passt_bench.spec.recipe import FrontendSpec as FrontendSpec
from passt_bench.spec.recipe import InitSpec as InitSpec
from passt_bench.spec.recipe import MeasurementSpec as MeasurementSpec
from passt_bench.spec.recipe import ModelSpec as ModelSpec
from passt_bench.spec.recipe import Patchout as Patchout
from passt_bench.spec.recipe import Recipe as Recipe
from passt_bench.spec.recipe import TrainingSpec as TrainingSpec
from passt_bench.spec.search import Range as Range
from passt_bench.spec.search import Search as Search
from passt_bench.spec.study import Study as Study
from passt_bench.spec.study import Tune as Tune
from passt_bench.spec.study import Variant as Variant
from passt_bench.spec.study import effects as effects
from passt_bench.spec.study import factorial as factorial
from passt_bench.spec.study import one_at_a_time as one_at_a_time
from passt_bench.spec.study import override as override
from passt_bench.spec.study import pairwise as pairwise
from passt_bench.spec.study import parse_assignments as parse_assignments
from passt_bench.spec.study import slope as slope
