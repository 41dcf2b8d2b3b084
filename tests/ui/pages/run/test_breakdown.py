"""The page of a run shows measured time and memory by part."""

from __future__ import annotations

from modelforge.runs.progress.breakdown import Breakdown as Measured
from modelforge.runs.progress.breakdown import PartMemory, TimePart
from ui.pages.run.breakdown import cards

TIME = [TimePart("data", "Data", 3.0, 0.75), TimePart("forward", "Forward pass", 1.0, 0.25)]


def test_a_bar_and_a_table_show_the_time():
    shown = str(cards(Measured(time=TIME, time_step=4)))
    assert "up to step 4" in shown
    assert "width:75.00%" in shown
    assert 'aria-label="Time: Data 75 %, Forward pass 25 %"' in shown
    assert "Estimated" not in shown


def test_memory_stands_beside_its_estimate():
    memory = [PartMemory("weights", "Weights", 1.5, 1.0, 1.4)]
    shown = str(cards(Measured(memory=memory, peak_gib=2.0)))
    assert '<th scope="col">Estimated</th>' in shown
    assert "1.5" in shown
    assert "1.4" in shown
    assert "2.0 GiB at most" in shown


def test_a_run_that_was_not_measured_shows_nothing():
    assert str(cards(Measured())) == ""
