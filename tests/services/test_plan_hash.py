"""A start that names the plan it was shown, and a plan that has changed since."""

from __future__ import annotations

import json

import pytest

from modelforge.runs.atomic_files import read_json
from modelforge.services.start import StalePlanError
from tests.services.test_runs import asked, opened


@pytest.fixture
def forge(tmp_path):
    forge = opened(tmp_path / "home", "finishes")
    yield forge
    forge.close()


def test_two_checks_of_the_same_settings_have_one_hash(forge, model, data):
    first = forge.preflight.check(asked(model, data)).plan_hash
    assert len(first) == 32
    assert forge.preflight.check(asked(model, data), idle=True).plan_hash == first
    assert forge.preflight.check(asked(model, data)).as_preflight().plan_hash == first


def test_settings_data_and_model_change_the_hash(forge, model, data):
    hashes = {forge.preflight.check(asked(model, data)).plan_hash}
    hashes.add(forge.preflight.check(asked(model, data, lora_r=8)).plan_hash)
    with data.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"input": "one more", "output": "row"}))
    hashes.add(forge.preflight.check(asked(model, data)).plan_hash)
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 500.0}), "utf-8")
    hashes.add(forge.preflight.check(asked(model, data)).plan_hash)
    assert len(hashes) == 4


def test_a_check_with_problems_has_no_hash(forge, model, data):
    assert forge.preflight.check(asked(model, data, epochs=2)).plan_hash == ""


def test_a_stale_plan_starts_nothing_and_the_current_one_starts(forge, model, data):
    seen = forge.preflight.check(asked(model, data)).plan_hash
    with pytest.raises(StalePlanError) as refused:
        forge.runs.start(asked(model, data, lora_r=8), plan_hash=seen)
    with pytest.raises(StalePlanError):
        forge.queue.add(asked(model, data, lora_r=8), plan_hash=seen)
    assert seen in str(refused.value)
    assert forge.runs.views() == []
    run_id = forge.queue.add(asked(model, data), plan_hash=seen, metadata={"team": "a"}, held=True)
    assert read_json(forge.runs.folder(run_id).config)["metadata"] == {"team": "a"}
