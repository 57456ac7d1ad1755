"""Rendering templates and writing what was rendered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from passt_bench.record import write_atomically


def render_template(name: str, context: Mapping[str, Any]) -> str:
    """A page from ``templates/NAME``; everything is escaped but what is marked as safe."""
    environment = Environment(
        loader=PackageLoader("passt_bench.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loader = environment.loader
    assert loader is not None  # given above
    style = loader.get_source(environment, "style.css")[0]
    return environment.get_template(name).render(style=Markup(style), **context)


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text whole or not at all."""
    write_atomically(path, text.encode())
    return path
