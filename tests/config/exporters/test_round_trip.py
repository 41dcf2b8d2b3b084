"""Recipe → export → import changes nothing that the other system can say."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.write import SYSTEMS, export_settings
from modelforge.config.importers.read import import_settings
from modelforge.config.resolve import Layer, resolve
from tests.config.exporters.recipes import BASE, PREFERENCE, SUPERVISED, config_of

# What each system calls by one name: the same training.
SAME = {"strategy": {"sft": "qlora"}, "data.loss_on": {"completion": "assistant"}}
# Systems that train models further.
FURTHER = [system for system in SYSTEMS if not system.is_from_nothing]
CASES = [
    (system.name, name, recipe)
    for system in FURTHER
    for name, recipe in (SUPERVISED | PREFERENCE).items()
    # Surogate has DPO alone.
    if system.name != "surogate" or name in (*SUPERVISED, "dpo")
]


def imported_again(text: str, system: str) -> Any:
    """Return the config of an exported file, read as a file of that system."""
    recipe = import_settings(text, "the file", system).imported.recipe
    # What no file of another system has: which of our profiles fills the form.
    return resolve(Layer("import", {**recipe, "compute_specs": "low_end"})).config


def shown(setting: str, value: Any) -> Any:
    return SAME.get(setting, {}).get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize(("system", "_name", "recipe"), CASES, ids=lambda value: str(value)[:20])
def test_what_is_written_is_read_again(system, _name, recipe):
    facts = Facts(config_of(recipe))
    exported = export_settings(facts, system)
    again = Facts(imported_again(exported.text, system))
    differ = {
        line.setting: (facts.values[line.setting], again.values[line.setting])
        for line in exported.report
        if line.result == "written"
        and line.setting in facts.values
        and not line.setting.endswith("sources")
        and shown(line.setting, facts.values[line.setting])
        != shown(line.setting, again.values[line.setting])
    }
    assert differ == {}


@pytest.mark.parametrize(("system", "_name", "recipe"), CASES, ids=lambda value: str(value)[:20])
def test_the_second_export_is_the_first(system, _name, recipe):
    exported = export_settings(Facts(config_of(recipe)), system)
    again = Facts(imported_again(exported.text, system))
    assert yaml.safe_load(export_settings(again, system).text) == yaml.safe_load(exported.text)


@pytest.mark.parametrize("system", [system.name for system in FURTHER])
def test_the_data_is_read_again(system):
    again = imported_again(export_settings(Facts(config_of()), system).text, system)
    assert [source.path for source in again.sources()] == [BASE["dataset"]]
    sources = [{"path": "rows.jsonl"}, {"path": "owner/chats"}, {"path": "more.parquet"}]
    several = config_of({"data.sources": sources})
    again = imported_again(export_settings(Facts(several), system).text, system)
    assert [source.path for source in again.sources()] == [source["path"] for source in sources]
