import numpy as np
import pytest
from matplotlib.figure import Figure

from passt_bench.report.theme import Label, drawn_text, figure_style, overlaps, place_labels


def canvas(width: float = 4.0, height: float = 3.0) -> Figure:
    return Figure(figsize=(width, height))


def test_text_without_collisions_has_no_problems() -> None:
    with figure_style():
        figure = canvas()
        figure.text(0.2, 0.5, "left")
        figure.text(0.6, 0.5, "right")
        assert overlaps(figure) == []
        assert overlaps(canvas()) == []


def test_text_over_text_is_found() -> None:
    with figure_style():
        figure = canvas()
        figure.text(0.2, 0.5, "here")
        figure.text(0.21, 0.51, "there")
        assert overlaps(figure) == ["'here' covers 'there'"]


def test_text_over_each_edge_is_found() -> None:
    with figure_style():
        figure = canvas()
        figure.text(-0.01, 0.5, "a")
        figure.text(0.99, 0.5, "bbb")
        figure.text(0.4, 0.99, "ccc")
        figure.text(0.6, -0.02, "dgd")
        assert len([line for line in overlaps(figure) if "leaves the canvas" in line]) == 4


def test_rotated_text_is_measured_as_drawn() -> None:
    with figure_style():
        figure = canvas()
        figure.text(0.5, 0.3, "a long vertical label", rotation=90)
        ((_, box),) = drawn_text(figure)
        assert box.y1 - box.y0 > 5 * (box.x1 - box.x0)
        figure.text(0.58, 0.5, "beside")
        assert overlaps(figure) == []


def test_every_line_of_a_text_counts() -> None:
    with figure_style():
        figure = canvas()
        figure.text(0.3, 0.5, "two\nlines")
        assert [text for text, _ in drawn_text(figure)] == ["two", "lines"]
        figure.text(0.3, 0.5, "x")
        assert overlaps(figure) == ["'lines' covers 'x'"]


def test_what_is_not_drawn_is_not_measured() -> None:
    with figure_style():
        figure = canvas()
        axes = figure.add_axes((0.2, 0.2, 0.6, 0.6))
        axes.set_xticks([0, 1, 50], ["zero", "one", "far outside"])
        axes.set_xlim(0, 1)
        figure.text(0.1, 0.1, "hidden", visible=False)
        shown = [text for text, _ in drawn_text(figure)]
        assert "zero" in shown
        assert not {"far outside", "hidden"} & set(shown)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_of_crowded_points_never_touch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with figure_style():
        figure = canvas(9, 5)
        axes = figure.subplots()
        points = np.concatenate([rng.normal(0.3, 0.02, (10, 2)), rng.random((10, 2))])
        axes.plot(points[:, 0], points[:, 1], "o")
        labels = [Label(f"setting {i}", float(x), float(y)) for i, (x, y) in enumerate(points)]
        assert place_labels(axes, labels)
        assert {f"setting {i}" for i in range(20)} <= {text for text, _ in drawn_text(figure)}
        assert overlaps(figure) == []


def test_a_single_point_has_its_label_beside_it() -> None:
    with figure_style():
        figure = canvas()
        axes = figure.subplots()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        assert place_labels(axes, [Label("here", 0.4, 0.5)])
        box = dict(drawn_text(figure))["here"]
        x, y = axes.transData.transform((0.4, 0.5))
        assert 0 < box.x0 - x < 10
        assert box.y0 < y < box.y1


def test_labels_that_cannot_fit_are_not_written() -> None:
    with figure_style():
        figure = canvas(2, 2)
        axes = figure.subplots()
        before = [text for text, _ in drawn_text(figure)]
        assert not place_labels(axes, [Label("wider than all of the axes " * 3, 0.5, 0.5)])
        assert [text for text, _ in drawn_text(figure)] == before
        assert place_labels(axes, [])
