"""Contract tests for figures, to be subclassed by plug-ins.

A figure is registered in `registry.FIGURES` under a function of a `view.StudyView` that returns a
`theme.Drawing`: first the data, one row per mark, then the picture of them.

In the tests of a plug-in, for pytest::

    class TestMyFigure(FigureContract):
        figure = "my_figure"

Nothing here needs pytest: each check is a method ``test_…`` that raises `ContractError`.
"""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl

from passt_bench.analysis.results import analyze
from passt_bench.errors import require
from passt_bench.records.run import (
    CellRecord,
    Fingerprint,
    Picture,
    RunRecord,
    StudyRecord,
    VariantRecord,
)
from passt_bench.records.session import ArmRecord, Interval, SessionRecord
from passt_bench.registry import FIGURES
from passt_bench.report.theme import Drawing, figure_style, freeze_layout, overlaps, to_svg
from passt_bench.report.view import StudyView, study_view
from passt_bench.spec import Patchout, Recipe
from passt_bench.spec.key import digest

_RATES, _CLASSES = (0.0, 0.25, 0.5), ("low", "high")


def example_view(*, begun: bool = True) -> StudyView:
    """A study of three variants and two seeds, run and measured or not begun."""
    data = Fingerprint("synthetic", "0123456789abcdef", 8, 8, _CLASSES, multi_label=True)
    variants, records = [], {}
    for rate in _RATES:
        patchout = Patchout("time", rate=rate) if rate else Patchout()
        recipe = replace(Recipe(), patchout=patchout)
        cells = tuple(CellRecord(digest([rate, seed]), seed, None) for seed in (0, 1))
        kept = round(16 * (1 - rate))
        variant = VariantRecord(f"time {rate}", recipe, digest([rate]), cells, kept + 2, 18, (4, 4))
        variants.append(variant)
        for cell in cells:
            score = 0.8 - 0.1 * rate + 0.01 * cell.seed
            records[cell.key] = RunRecord(
                *(cell.key, "ok", recipe, cell.seed, None, data),
                metrics={"mAP": score},
                curves={"train_loss": (0.7, 0.4 + 0.1 * rate, 0.3 + 0.1 * rate)},
                per_class={"mAP": dict.fromkeys(_CLASSES, score)},
                tokens=kept + 2,
                tokens_full=18,
                grid=(4, 4),
                picture=Picture(((0, 90) * 4,) * 8, tuple(range(kept)), (4, 4), (2, 2), (2, 2)),
            )
    study = StudyRecord(
        "example", "?", "mAP", "time 0.0", tuple(variants), (0, 1), None, data, better="greater"
    )
    arms = tuple(_arm(variant) for variant in variants)
    session = SessionRecord(digest(["session"]), arms[0].key, arms, rounds=6, steps=3)
    return study_view(analyze(study, records if begun else {}, [session] if begun else []))


def _arm(variant: VariantRecord) -> ArmRecord:
    seconds = 1e-3 * variant.tokens
    relative = variant.tokens / variant.tokens_full
    return ArmRecord(
        *(variant.arm, "ok", variant.recipe, variant.tokens, variant.tokens_full),
        batch_size=8,
        phases={"train_step": Interval(seconds, 0.98 * seconds, 1.02 * seconds, 18)},
        ratios={"train_step": Interval(relative, 0.98 * relative, 1.02 * relative, 6)},
        memory={"saved_for_backward": 1e6 * variant.tokens, "train_rise": 2e6 * variant.tokens},
    )


class FigureContract:
    """What every figure must do; ``figure`` is the registered name."""

    figure: str

    def _draw(self, *, begun: bool = True) -> Drawing:
        with figure_style():
            drawing: Drawing = FIGURES.get(self.figure).build(example_view(begun=begun))
            if drawing.figure is not None:
                freeze_layout(drawing.figure)
        return drawing

    def test_drawing(self) -> None:
        """The drawing has the registered name, a title, a caption, and data if it has a picture."""
        drawing = self._draw()
        require(drawing.name == self.figure, f"the drawing is called {drawing.name!r}")
        require(bool(drawing.title), "the drawing has a title")
        require(drawing.caption.endswith("."), "the caption is a sentence")
        require((drawing.figure is None) == drawing.data.empty, "data if and only if a picture")

    def test_nothing_run(self) -> None:
        """If nothing was run, the drawing is a sentence (see `theme.placeholder`)."""
        drawing = self._draw(begun=False)
        require(drawing.figure is None and drawing.data.empty, "nothing was run, nothing is drawn")
        require(drawing.caption.startswith("Left out: "), "the caption says that it is left out")

    def test_same_bytes(self) -> None:
        """The same study gives the same picture, and matplotlib's settings stay as they were."""
        before = dict(mpl.rcParams)
        figures = [self._draw().figure for _ in range(2)]
        require(dict(mpl.rcParams) == before, "matplotlib's settings are as before")
        with figure_style():
            pictures = {to_svg(figure, self.figure) for figure in figures if figure is not None}
        require(len(pictures) <= 1, "the same study gives the same picture")

    def test_text(self) -> None:
        """No text leaves the canvas or covers other text."""
        drawing = self._draw()
        if drawing.figure is not None:
            with figure_style():
                problems = overlaps(drawing.figure)
            require(not problems, "; ".join(problems))
