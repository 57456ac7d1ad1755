"""A figure: the tokens that each variant keeps in training."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from passt_bench.registry import FIGURES
from passt_bench.report.theme import WIDTH, Drawing, placeholder
from passt_bench.report.view import StudyView

NAME, TITLE = "ripples", "Tokens kept in training"


@FIGURES.register(NAME, version=1, summary="tokens kept in training")
def ripples(view: StudyView) -> Drawing:
    rows = [(v.name, v.record.tokens) for v in view.variants if v.ok_runs]
    if not rows:
        return placeholder(NAME, TITLE, "no variant has been run yet.")
    data = pd.DataFrame(rows, columns=["variant", "tokens"])
    figure = Figure(figsize=(WIDTH, 0.4 * len(data) + 0.8), layout="constrained")
    axes = figure.subplots()
    axes.barh(data["variant"], data["tokens"])
    axes.set_xlabel("tokens")
    return Drawing(NAME, TITLE, "A bar is a variant.", data, figure)
