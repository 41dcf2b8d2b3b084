"""The bounds of the self-test are those that were measured."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from modelforge.export.gguf.architectures import ARCHITECTURES
from modelforge.export.gguf.quantize import FILE_TYPES
from modelforge.export.self_test import KL_BOUNDS

pytestmark = pytest.mark.torch

# Processors round differently; what the sabotages change is far larger.
LEAST = 1e-3
FIGURES = Path(__file__).resolve().parents[2] / "bench" / "results" / "export_kl.csv"


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_a_bound_is_twice_the_largest_divergence(file_type):
    if not FIGURES.is_file():
        pytest.skip("not measured yet: python bench/export_kl.py")
    with FIGURES.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["type"] == file_type]
    largest = max(float(row["kl"]) for row in rows)
    assert len(rows) >= len(ARCHITECTURES)
    assert max(2 * largest, LEAST) == pytest.approx(KL_BOUNDS[file_type], rel=0.1)
