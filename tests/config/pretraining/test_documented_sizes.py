"""The sizes in docs/pretraining.md are those of the defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.pretraining import with_defaults

PAGE = Path(__file__).parents[3] / "docs" / "pretraining.md"
ROW = re.compile(
    r"^\| (\d+) \| (\d+) \| ([\d.]+) million \| (\d+) million \| (.*) \|$", re.MULTILINE
)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", ROWS, ids=[f"depth {row[0]}" for row in ROWS])
def test_a_depth_has_the_sizes_of_the_page(row):
    depth, width, weights, tokens, rest = row
    batch, steps, flops = rest.split(" | ")
    values = {"dataset": "text.txt", "compute_specs": "low_end"}
    config = with_defaults(values | {"pretraining": {"enabled": True, "depth": int(depth)}})
    planned = make_plan(TrainingConfig(**config), PlanContext("cpu", "d6")).pretraining
    assert planned.shape.width == int(width)
    assert planned.shape.parameters == pytest.approx(1e6 * float(weights), rel=0.03)
    assert round(planned.tokens / 1e6) == int(tokens)
    assert (f"{planned.batch_tokens:,}", f"{planned.steps:,}") == (batch, steps)
    assert f"{planned.flops:.1e}".replace("e+", "e") == flops


def test_the_page_has_rows():
    assert [row[0] for row in ROWS] == ["2", "4", "6", "8", "12"]
