"""The Compare page and the storage card."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from modelforge.services.compare import ComparisonRow
from tests.runs.homes import put_run
from ui.html import format as fmt
from ui.pages import compare, machine


def test_runs_are_compared_in_charts_and_tables(forge):
    ids = [put_run(forge.home.root, number, name="same", held=[1.5, 2.0 - number]).id
           for number in range(2)]  # fmt: skip
    comparison = forge.history.compare(ids)
    verdicts = [forge.diagnosis.verdict(run_id) for run_id in ids]
    charts = compare.comparison_charts(comparison, "tokens")
    drawn = compare.comparison_parts(comparison, "tokens", charts, verdicts)["compared"]
    regions = re.findall('role="region" aria-label="([^"]+)"', drawn)
    assert len(regions) == len(set(regions)) >= 2, "each table has a name of its own"
    assert "<th></th>" not in drawn
    assert len(charts) == drawn.count("data-chart=") == 3
    assert {chart.x_unit for chart in charts.values()} == {"tokens"}
    assert [series.name for series in charts["loss-evaluation"].series] == [
        run.label for run in comparison.runs
    ]
    assert verdicts[0].text in drawn
    # The lower one of two losses is marked; runs of one name are distinguished.
    assert drawn.count("lowest") == 2
    assert f"same ({ids[0]})" in drawn
    assert "All settings are the same." in drawn


@pytest.mark.parametrize(("part", "name"), [("data", "sha256"), ("effect", "method")])
def test_no_loss_is_lowest_where_losses_are_not_comparable(forge, part, name):
    ids = [put_run(forge.home.root, number, held=[2.0 - number]).id for number in range(2)]
    comparison = forge.history.compare(ids)
    assert comparison.differing_losses == ""
    differing = replace(comparison, **{part: [ComparisonRow(name, "", ["a", "b"])]})
    drawn = compare.comparison_parts(differing, "step", {})["compared"]
    assert "lowest" not in drawn
    assert f"not comparable: the runs have different {differing.differing_losses}" in drawn


def test_storage_shows_what_can_be_freed_and_what_is_lost(forge):
    put_run(forge.home.root, 1, checkpoints=[1])
    put_run(forge.home.root, 2, checkpoints=[1], ending="failed", name="torn")
    drawn = machine.storage_parts(forge.storage.usage())["storage"]
    assert "Checkpoints of finished runs (1 run)" in drawn
    assert "no longer be resumed" in drawn
    # One button for all finished runs, one for the finished run, none for the failed one.
    assert drawn.count('data-kind="checkpoints"') == 2
    assert machine.freed_text(5000) == "4.9 KiB freed."
    assert "nothing" in machine.freed_text(0)


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0, "0 B"), (1500, "1.5 KiB"), (34 * 2**20, "34 MiB"), (3 * 2**30, "3.0 GiB")],
)
def test_sizes_have_a_suitable_unit(count, text):
    assert fmt.size(count) == text
