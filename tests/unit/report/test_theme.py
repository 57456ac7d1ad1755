import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from passt_bench.report.theme import VERDICTS, figure_style, inline, kind_styles, to_svg

# Machado, Oliveira, Fernandes 2009: full deficiency, on linear RGB.
DEFICIENCY = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
}  # fmt: skip


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def perceived(color: str, deficiency: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return lab(DEFICIENCY[deficiency] @ linear)


@pytest.mark.parametrize("deficiency", DEFICIENCY)
def test_colors_stay_apart_for_color_blind_readers(deficiency: str) -> None:
    kinds = {name: style.color for name, style in kind_styles(()).items()}
    verdicts = {name: VERDICTS[name].color for name in ("better", "worse", "same", "undecided")}
    for palette in (kinds, verdicts):
        for (one, a), (two, b) in combinations(palette.items(), 2):
            distance = np.linalg.norm(perceived(a, deficiency) - perceived(b, deficiency))
            assert distance > 10, f"{one} and {two}: {distance:.1f}"


def test_marks_differ_where_colors_do() -> None:
    assert len({style.marker for style in kind_styles(()).values()}) == len(kind_styles(()))
    assert len({style.sign for style in VERDICTS.values()}) == len(VERDICTS)


def test_kinds_of_plug_ins_get_further_colors() -> None:
    styles = kind_styles(["none", "spiral", "checkerboard"])
    assert styles["none"] == kind_styles(())["none"]
    assert len({style.color for style in styles.values()}) == len(styles)
    assert styles["spiral"] == kind_styles(["spiral", "checkerboard"])["spiral"]


def picture(name: str) -> str:
    with figure_style():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], marker="o")
        axes.imshow(np.eye(4))
        axes.set_title("a $title$ & more")
        return to_svg(figure, name)


def test_svg_depends_only_on_the_figure() -> None:
    assert picture("one") == picture("one")


def test_svg_has_no_date_and_no_tool() -> None:
    svg = picture("one")
    assert not any(word in svg for word in ("<dc:date>", "<dc:creator>", "Matplotlib"))


def test_ids_of_two_figures_on_one_page_differ() -> None:
    ids = [set(re.findall(r'id="([^"]+)"', picture(name))) for name in ("one", "two")]
    assert ids[0] and not ids[0] & ids[1]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', picture("one")))
    assert used and used <= ids[0]


def test_inline_svg_is_named_for_screen_readers() -> None:
    svg = inline(picture("one"), 'speed & "quality"')
    assert svg.startswith('<svg role="img" aria-label="speed &amp; &quot;quality&quot;"')
    assert svg.endswith("</svg>")
