"""What a model is usually given: its own front end, as published."""

from __future__ import annotations

from passt_bench.spec.frontends import ast_frontend, panns_frontend, passt_frontend
from passt_bench.spec.recipe import FrontendSpec

_AST = ("ast", "ast_n", "transformers_ast")
_PANNS = ("cnn14", "cnn10", "cnn6", "panns_inference")


def frontend_of(model: str) -> FrontendSpec:
    """The front end that a registered model was published with; PaSST's for all others.

    Without jitter of its filters, which costs nothing in the network.
    """
    if model in _AST:
        return ast_frontend()
    return panns_frontend() if model in _PANNS else passt_frontend(jitter=False)
