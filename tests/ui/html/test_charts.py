"""Charts: thinned series with a description, and histograms."""

import math

from modelforge.runs.progress.downsample import MOST_POINTS, decimate, smooth
from ui.html.charts import Line, chart, histogram, smoothed
from ui.html.components import placeholder

RAMP = [(step, 2 - step / 100) for step in range(1, 101)]


def test_a_chart_has_a_description_with_units():
    made = chart("Speed", [Line("training", RAMP)], unit="tokens/s")
    assert made.description == "Speed: training from 1.99 to 1 tokens/s at step 100."


def test_a_faint_curve_is_not_described():
    made = chart("Loss", smoothed(Line("training", RAMP)))
    assert [series.is_faint for series in made.series] == [True, False]
    assert made.description.count("training") == 1


def test_short_and_dashed_curves_are_not_smoothed():
    assert len(smoothed(Line("training", RAMP[:10]))) == 1
    assert len(smoothed(Line("evaluation", RAMP, dashed=True))) == 1


def test_a_curve_without_points_is_left_out():
    assert chart("Loss", [Line("training", [])]).series == []
    assert "first step" in placeholder("loss")
    assert 'data-chart="loss"' in placeholder("loss")


def test_many_points_are_thinned_and_peaks_stay():
    points = [(x, math.sin(x / 50)) for x in range(20_000)]
    points[7777] = (7777, 9.0)
    kept = decimate(points)
    assert len(kept) <= MOST_POINTS
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert (7777, 9.0) in kept
    assert kept == sorted(kept)


def test_a_series_has_a_limited_number_of_points():
    points = [(x, math.sin(x / 50)) for x in range(5_000)]
    (series,) = chart("Loss", [Line("training", points)]).series
    assert len(series.x) == len(series.y) <= MOST_POINTS


def test_infinite_values_are_left_out():
    points = [(1, 2.0), (2, math.inf), (3, math.nan), (4, 1.0)]
    (series,) = chart("Loss", [Line("training", points)]).series
    assert (series.x, series.y) == ([1, 4], [2.0, 1.0])


def test_smoothing_keeps_a_straight_line_straight():
    kept = smooth(RAMP)
    assert all(math.isclose(a[1], b[1], abs_tol=1e-9) for a, b in zip(kept, RAMP, strict=True))


def test_bars_beyond_the_limit_have_another_color():
    page = histogram("Tokens per row", [(64, 10), (128, 4), (192, 1)], limit=128)
    assert page.count('class="in"') == 2
    assert page.count('class="over"') == 1
    assert "15 rows, most of them up to 64, the longest up to 192" in page


def test_a_histogram_without_rows_is_a_sentence():
    assert "no rows to measure" in histogram("Tokens per row", [])
