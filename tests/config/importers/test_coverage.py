"""The page with every option of the documented systems."""

from __future__ import annotations

import pytest

from modelforge.config.importers.coverage import DOCUMENTED, coverage_markdown
from modelforge.config.schema.contract import Contract

STATES = ("setting", "no effect", "refused")


@pytest.fixture(scope="module")
def sections() -> dict[str, list[list[str]]]:
    found = {}
    for section in coverage_markdown().split("\n## ")[1:]:
        title, *lines = section.splitlines()
        rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
        found[title] = rows
    return found


def test_every_option_has_a_row_with_a_state_and_a_setting_or_a_reason(sections):
    assert {row[0].strip("`") for row in sections["ModelForge"]} == set(Contract.model_fields)
    for system in DOCUMENTED:
        rows = {row[0].strip("`"): row[1:] for row in sections[system.title]}
        assert set(system.options) <= set(rows)
        for name, (state, what) in rows.items():
            assert state in STATES, name
            assert what.startswith("`") if state == "setting" else what.endswith("."), name


@pytest.mark.parametrize(
    ("title", "option", "state", "what"),
    [
        ("Surogate", "lora_rank", "setting", "`lora_r`"),
        ("Surogate", "gpus", "refused", "It comes with training on several GPUs"),
        ("Surogate", "datasets.samples", "setting", "`data.sources.samples`"),
        ("nanochat", "warmdown-ratio", "setting", "`schedule.decay_ratio`"),
        ("NeMo Safe Synthesizer", "quantization_scheme", "setting", "`quantization.scheme`"),
        ("Stack-Wise", "data.num_samples", "setting", "`data.sources`"),
        ("Stack-Wise", "training.progressive.enabled", "refused", "It comes with growing"),
    ],
)
def test_states(sections, title, option, state, what):
    row = next(row for row in sections[title] if row[0] == f"`{option}`")
    assert row[1] == state
    assert row[2].startswith(what)
