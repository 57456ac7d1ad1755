import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from passt_bench.report.theme import (
    BAND,
    INK,
    MUTED,
    VERDICTS,
    Label,
    drawn_text,
    figure_style,
    inline,
    kind_styles,
    log_ticks,
    overlaps,
    place_labels,
    to_pdf,
    to_svg,
)

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
    names = ("better", "worse", "same", "not worse", "undecided")
    verdicts = {name: VERDICTS[name].color for name in names}
    for palette in (kinds, verdicts):
        for (one, a), (two, b) in combinations(palette.items(), 2):
            distance = np.linalg.norm(perceived(a, deficiency) - perceived(b, deficiency))
            assert distance > 10, f"{one} and {two}: {distance:.1f}"


def luminance(rgb: np.ndarray) -> float:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(color: str) -> float:
    """To white paper, as the Web Content Accessibility Guidelines define it."""
    return 1.05 / (luminance(np.array(to_rgb(color))) + 0.05)


def test_marks_stand_out_in_dark_mode() -> None:
    style = files("passt_bench.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    rule = r"canvas svg \{ filter: invert\((.*?)\) hue-rotate\(180deg\) brightness\((.*?)\)"
    ((inverted, brighter),) = [map(float, found) for found in re.findall(rule, style)]
    page = np.array(to_rgb(re.findall(r"--canvas: (#\w+)", style)[-1]))
    shares = np.array([0.213, 0.715, 0.072])  # of the specification of hue-rotate

    def shown(color: str) -> float:
        turned = (1 - inverted) + (2 * inverted - 1) * (1 - np.array(to_rgb(color)))
        turned = np.clip(2 * shares @ turned - turned, 0, 1)
        seen = np.maximum(np.clip(brighter * turned, 0, 1), page)  # blended by "lighten"
        return (luminance(seen) + 0.05) / (luminance(page) + 0.05)

    assert shown("#ffffff") < 1.05  # paper is the page
    assert min(shown(item.color) for item in kind_styles(["spiral", "star"]).values()) >= 4.5
    assert min(shown(item.color) for item in VERDICTS.values()) >= 4.5
    assert shown(MUTED) >= 3  # the ends of the margin
    assert shown(BAND) >= 1.3


def test_marks_and_texts_stand_out_from_paper() -> None:
    assert contrast("#e69f00") == pytest.approx(2.25, abs=0.01)  # a known one, too pale
    kinds = kind_styles(["spiral", "star", "zigzag"])
    assert min(contrast(style.color) for style in kinds.values()) >= 3
    # Those of verdicts are texts as well, beside their intervals.
    assert min(contrast(color) for color in (INK, MUTED)) >= 4.5
    assert min(contrast(style.color) for style in VERDICTS.values()) >= 4.5


def test_every_mark_differs_and_kinds_of_plug_ins_get_further_colors() -> None:
    assert len({style.marker for style in kind_styles(()).values()}) == len(kind_styles(()))
    assert len({style.sign for style in VERDICTS.values()}) == len(VERDICTS)
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


def test_svg_depends_only_on_the_figure_and_its_ids_on_the_name() -> None:
    svg = picture("one")
    assert svg == picture("one")
    assert not any(word in svg for word in ("<dc:date>", "<dc:creator>", "Matplotlib"))
    shown = inline(svg, 'speed & "quality"')
    assert shown.startswith('<svg role="img" aria-label="speed &amp; &quot;quality&quot;"')
    assert shown.endswith("</svg>")
    one, two = (set(re.findall(r'id="([^"]+)"', text)) for text in (svg, picture("two")))
    assert one and not one & two
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    assert used and used <= one


@pytest.mark.parametrize(
    ("texts", "problems"),
    [
        ([(0.2, 0.5, "left"), (0.6, 0.5, "right")], []),
        ([(0.2, 0.5, "here"), (0.21, 0.51, "there")], ["'here' covers 'there'"]),
        ([(0.3, 0.5, "two\nlines"), (0.3, 0.5, "x")], ["'lines' covers 'x'"]),
        ([(-0.01, 0.5, "a"), (0.99, 0.5, "bb"), (0.4, 0.99, "cc"), (0.6, -0.02, "dg")],
         [f"{text!r} leaves the canvas" for text in ("a", "bb", "cc", "dg")]),
    ],
)  # fmt: skip
def test_collisions_of_text_are_found(
    texts: list[tuple[float, float, str]], problems: list[str]
) -> None:
    with figure_style():
        figure = Figure(figsize=(4, 3))
        for x, y, text in texts:
            figure.text(x, y, text)
        assert overlaps(figure) == problems


def test_text_is_measured_as_it_is_drawn() -> None:
    with figure_style():
        figure = Figure(figsize=(4, 3))
        figure.text(0.5, 0.3, "a long vertical label", rotation=90)
        ((_, box),) = drawn_text(figure)
        assert box.height > 5 * box.width
        axes = figure.add_axes((0.2, 0.2, 0.6, 0.6))
        axes.set_xticks([0, 1, 50], ["zero", "one", "far outside"])
        axes.set_xlim(0, 1)
        figure.text(0.1, 0.1, "hidden", visible=False)
        shown = {text for text, _ in drawn_text(figure)}
        assert "zero" in shown and not {"far outside", "hidden"} & shown


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ((0.49, 1.06), ["0.5", "0.6", "0.7", "0.8", "0.9", "1"]),
        ((0.98, 1.04), ["0.98", "1", "1.02", "1.04"]),
        ((3.0, 400.0), ["5", "10", "20", "50", "100", "200"]),
    ],
)
def test_a_logarithmic_axis_has_at_least_three_ticks(
    ends: tuple[float, float], wanted: list[str]
) -> None:
    with figure_style():
        axes = Figure().subplots()
        axes.set_xscale("log")
        axes.set_xlim(ends)
        log_ticks(axes.xaxis)
        assert [label.get_text() for label in axes.get_xticklabels()] == wanted
        assert axes.get_xlim() == ends and not axes.get_xticks(minor=True).size


def test_a_label_is_beside_its_point_or_not_written() -> None:
    with figure_style():
        figure = Figure(figsize=(4, 3))
        axes = figure.subplots()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        assert place_labels(axes, [Label("here", 0.4, 0.5)])
        box = dict(drawn_text(figure))["here"]
        x, y = axes.transData.transform((0.4, 0.5))
        assert 0 < box.x0 - x < 10 and box.y0 < y < box.y1
        before = drawn_text(figure)
        assert not place_labels(axes, [Label("wider than all of the axes " * 3, 0.5, 0.5)])
        assert [text for text, _ in drawn_text(figure)] == [text for text, _ in before]


def test_letters_without_a_font_are_for_the_reader_in_svg_and_told_of_in_pdf(monkeypatch) -> None:
    name = "собака \U0001f4a9 \ue123"  # the last has no meaning, so no font has it
    monkeypatch.setattr("passt_bench.report.theme._FURTHER_FONTS", ("DejaVu Serif",))
    with figure_style():  # pytest turns warnings into errors
        figure = Figure()
        figure.text(0.5, 0.5, name)
        svg = to_svg(figure, "f")
    assert name in svg and "'DejaVu Sans', Verdana" in svg and "Serif" not in svg
    data, lost = to_pdf(figure)
    assert data.startswith(b"%PDF") and "\ue123" in lost and "с" not in lost
