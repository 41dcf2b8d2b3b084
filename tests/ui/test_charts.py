"""Charts: curves as SVG, decimated and told in words."""

import math
import re

from modelforge.runs.downsample import MOST_POINTS, decimate, smooth
from ui.html.charts import Line, chart, legend

RAMP = [(step, 2 - step / 100) for step in range(1, 101)]


def test_a_chart_is_told_in_words():
    made = chart("Loss", [Line("training", RAMP)])
    assert 'role="img"' in made
    assert 'aria-label="Loss: training from 1.99 to 1 at update 100."' in made


def test_without_points_there_is_a_sentence_instead():
    assert "first update" in chart("Loss", [Line("training", [])])


def test_many_points_are_thinned_and_peaks_stay():
    points = [(x, math.sin(x / 50)) for x in range(20_000)]
    points[7777] = (7777, 9.0)
    kept = decimate(points)
    assert len(kept) <= MOST_POINTS
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert (7777, 9.0) in kept
    assert kept == sorted(kept)


def test_a_drawn_curve_has_at_most_five_hundred_points():
    points = [(x, math.sin(x / 50)) for x in range(5_000)]
    drawn = re.search(r'class="line c1" d="([^"]+)"', chart("Loss", [Line("training", points)]))
    assert drawn is not None
    assert drawn[1].count("L") < MOST_POINTS


def test_one_reading_is_a_dot():
    assert 'class="dot c1"' in chart("Loss", [Line("training", [(1, 2.0)])])


def test_infinite_values_break_nothing():
    made = chart("Loss", [Line("training", [(1, 2.0), (2, math.inf), (3, math.nan), (4, 1.0)])])
    assert "nan" not in made
    assert "inf" not in made.lower().replace("info", "")


def test_smoothing_keeps_a_straight_line_straight():
    kept = smooth(RAMP)
    assert all(math.isclose(a[1], b[1], abs_tol=1e-9) for a, b in zip(kept, RAMP, strict=True))


def test_a_legend_names_the_curves_that_have_points():
    told = legend([Line("CPU %", RAMP), Line("GPU %", [], "ember")])
    assert "CPU %" in told
    assert "GPU %" not in told


def test_flat_and_tiny_curves_have_an_axis():
    for value in (0.0, 5e-7, 1e6):
        assert "<svg" in chart("Rate", [Line("rate", [(1, value), (2, value)])], from_zero=True)
