"""Every option of the documents is a setting with a tested effect, or there is a reason."""

from __future__ import annotations

import pytest

from modelforge.config.coverage import (
    BEYOND,
    DOCUMENTED,
    IMPOSSIBLE,
    LATER,
    OTHERWISE,
    STATES,
    coverage_markdown,
    coverage_rows,
)
from modelforge.config.schema.contract import Contract
from tests.settings_effects import shown_effects

ROWS = coverage_rows()
SHOWN = shown_effects()


def row_of(system, option):
    return next(row for row in ROWS if (row.system, row.option) == (system, option))


def test_every_option_has_one_row_with_a_setting_or_a_reason():
    named = [(row.system, row.option) for row in ROWS]
    assert len(named) == len(set(named))
    assert {option for system, option in named if system == "modelforge"} == set(
        Contract.model_fields
    )
    for system in DOCUMENTED:
        assert set(system.options) <= {option for name, option in named if name == system.name}
    for row in ROWS:
        assert row.state in STATES
        assert bool(row.settings) == (row.state == "setting"), row
        assert row.settings or row.why.endswith("."), row


def test_no_option_is_without_effect():
    is_open = [f"{row.system}: {row.option}" for row in ROWS if row.state == "open"]
    assert not is_open, (
        f"{', '.join(is_open)}: nothing of it is there. Make it a setting with an effect, or say "
        "why that cannot be in modelforge/config/coverage.py."
    )


def test_a_test_shows_the_effect_of_every_row():
    hidden = [
        f"{row.system}: {row.option} ({name})"
        for row in ROWS
        for name in row.shown_by
        if not SHOWN.get(name)
    ]
    assert not hidden, f"{', '.join(hidden)}: list the test in tests/settings_effects.py."


def test_what_comes_later_names_its_feature():
    later = [row for row in ROWS if row.state == "later"]
    assert later
    assert all(any(feature in row.why for feature in LATER) for row in later)


@pytest.mark.parametrize("reasons", [OTHERWISE, IMPOSSIBLE, BEYOND])
def test_a_reason_is_given_for_known_options_alone(reasons):
    known = {system.name: set(system.options) for system in DOCUMENTED}
    for system, names in reasons.items():
        assert names <= known[system], system


@pytest.mark.parametrize(
    ("system", "option", "state", "settings"),
    [
        ("surogate", "lora_rank", "setting", ("lora_r",)),
        ("surogate", "gpus", "setting", ("hardware.gpus",)),
        ("surogate", "offload_master", "setting", ("hardware.engine_options",)),
        ("surogate", "zero_level", "setting", ("hardware.sharding",)),
        ("surogate", "ep_size", "impossible", ()),
        ("surogate", "output_dir", "otherwise", ()),
        ("surogate", "datasets.samples", "setting", ("data.sources.samples",)),
        ("nanochat", "warmdown-ratio", "setting", ("schedule.decay_ratio",)),
        ("safe-synthesizer", "quantization_scheme", "setting", ("quantization.scheme",)),
        ("surogate", "from_scratch", "setting", ("pretraining.enabled",)),
        ("stack-wise", "model.d_model", "setting", ("pretraining.d_model",)),
        ("stack-wise", "training.progressive.enabled", "setting", ("progressive.enabled",)),
        ("stack-wise", "model.attention_type", "later", ()),
    ],
)
def test_states(system, option, state, settings):
    row = row_of(system, option)
    assert row.state == state
    assert row.settings[: len(settings)] == settings


def test_the_page_names_the_test_beside_the_setting():
    page = coverage_markdown(SHOWN)
    (line,) = [line for line in page.splitlines() if line.startswith("| `lora_rank` |")]
    assert line.split(" | ")[1:3] == ["setting", "`lora_r`"]
    assert "test_arguments.py::" in line or "test_lora.py::" in line
    assert "- **setting** (" in page


def test_nothing_is_said_to_wait_for_training_from_nothing():
    assert "training from nothing" not in " ".join(row.why for row in ROWS)
    assert "growing" not in " ".join(row.why for row in ROWS if row.state == "later")
