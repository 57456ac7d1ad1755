"""Shows the patches that training kept, on a log-mel of each distinct choice of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from passt_bench.records.run import Picture
from passt_bench.registry import FIGURES
from passt_bench.report import theme
from passt_bench.report.text import wrapped
from passt_bench.report.view import StudyView

NAME, TITLE = "kept_patches", "Patches kept in training"
_PALE = 0.86  # share of white over dropped patches


def pictures(view: StudyView) -> dict[str, Picture]:
    """Variant → picture of its first run that has one."""
    first = ((v.name, next(filter(None, (r.picture for r in v.runs)), None)) for v in view.variants)
    return {name: picture for name, picture in first if picture is not None}


def patches_data(view: StudyView) -> pd.DataFrame:
    """One row per panel: its grid and the flat indices (frequency-major) that were kept.

    Variants that kept the same patches of the same grid, e.g. because they differ only in budget,
    share a panel: it is drawn on the picture of the first, ``alike`` names the ``more`` others.
    """
    kinds = {v.name: v.kind for v in view.variants}
    same: dict[tuple[Any, ...], list[str]] = {}
    for name, p in pictures(view).items():
        same.setdefault((kinds[name], p.grid, p.kept, p.patch, p.stride), []).append(name)
    rows = []
    for (kind, grid, kept, *_), (name, *others) in same.items():
        indices, number = " ".join(map(str, kept)), (len(kept), grid[0] * grid[1])
        rows.append((name, kind, *grid, *number, indices, len(others), "; ".join(others)))
    columns = ["variant", "kind", "grid_frequency", "grid_time", "kept", "of", "indices"]
    return pd.DataFrame(rows, columns=[*columns, "more", "alike"])


@FIGURES.register(NAME, version=1, summary=TITLE)
def patches(view: StudyView) -> theme.Drawing:
    """Log-mels, one panel per choice: x is time, y mel frequency, dropped patches are pale."""
    data = patches_data(view)
    if data.empty:
        return theme.placeholder(NAME, TITLE, "no record holds a picture of its input.")
    caption = (
        "The log-mel of one training clip in one step, time to the right and mel frequency upwards."
    )
    if (data["kept"] < data["of"]).any():
        caption += (
            " The model sees what is in color; it does not see the pale parts, whose patches were "
            "dropped. Each step drops others."
        )
    if data["more"].any():
        caption += " Variants that kept the same patches share a panel; the data name all of them."
    by_variant = pictures(view)
    mels, frames = np.shape(next(iter(by_variant.values())).logmel)
    columns = theme.balanced_columns(len(data), 5 if frames <= 2 * mels else 3)
    height = min(max(theme.WIDTH / columns * 0.9 * mels / frames, 0.9), 1.75)
    figure, panels = theme.panel_grid(len(data), columns, height + 0.62, 0.1)
    styles = theme.kind_styles(data["kind"])
    for axes, row in zip(panels, data.to_dict("records"), strict=True):
        _draw_panel(axes, by_variant[row["variant"]], styles[row["kind"]].color)
        more = f"\nand {row['more']} more" if row["more"] else ""
        title = wrapped(row["variant"], 120 // columns - 2, 2 if more else 3)
        axes.set_title(f"{title}{more}\n{row['kept']} of {row['of']} patches", fontsize=8)
    return theme.Drawing(NAME, TITLE, caption, data, figure)


def covered(picture: Picture) -> np.ndarray:
    """Whether each point of the log-mel is covered by a kept patch, bool (mels, frames)."""
    mask = np.zeros(np.shape(picture.logmel), dtype=bool)
    for index in picture.kept:
        row, column = divmod(index, picture.grid[1])
        top, left = row * picture.stride[0], column * picture.stride[1]
        mask[top : top + picture.patch[0], left : left + picture.patch[1]] = True
    return mask


def _draw_panel(axes: Axes, picture: Picture, color: str) -> None:
    # 32 shades look like 256, and take less than half of the bytes.
    shades = np.round(np.asarray(picture.logmel, dtype=float) / 255 * 31) / 31
    image = colormaps["magma"](shades)[..., :3]
    pale = _PALE + (1 - _PALE) * (1 - shades)[..., None] * np.ones(3)
    image = np.where(covered(picture)[..., None], image, pale)
    axes.imshow(image, origin="lower", aspect="auto", interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(theme.PAPER)
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=1.6)
