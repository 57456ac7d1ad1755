"""The command that lists what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from passt_bench.cli.options import app, console
from passt_bench.errors import InputError


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="studies, models, frontends, datasets, patchout or metrics.")
    ] = "studies",
) -> None:
    """What there is."""
    from passt_bench import registry
    from passt_bench.runner.studies import study_names, summary

    tables = {
        "models": registry.MODELS,
        "frontends": registry.FRONTENDS,
        "datasets": registry.DATASETS,
        "patchout": registry.PATCHOUTS,
        "metrics": registry.METRICS,
    }
    if what == "studies":
        rows = [(name, summary(name)) for name in study_names()]
    elif what in tables:
        rows = [(item.name, item.summary) for item in tables[what].all()]
    else:
        raise InputError(
            "nothing of that kind",
            field="list",
            value=what,
            remedy=f"Known: studies, {', '.join(tables)}.",
        )
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.print(f"{name:<{width}}  {text}", markup=False)
