import json

from modelforge.config.fields import field_specs
from modelforge.config.json_schema import json_schema, settings_markdown


def test_the_page_names_every_setting_once():
    page = settings_markdown()
    for spec in field_specs():
        assert page.count(f"### `{spec.name}`\n") == 1
        assert spec.help in page


def test_the_json_schema_says_what_the_form_says():
    schema = json_schema()
    rank = schema["properties"]["lora_r"]
    assert (rank["title"], rank["minimum"], rank["maximum"]) == ("LoRA rank", 1, 256)
    assert rank["default"] == 16
    assert schema["properties"]["learning_rate"]["exclusiveMinimum"] == 0
    assert schema["$defs"]["Hardware"]["properties"]["device"]["x-group"] == "Hardware"
    assert schema["required"] == ["task", "model_name", "dataset", "compute_specs"]
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_a_schema_may_be_changed_by_its_owner():
    json_schema()["properties"].clear()
    assert json_schema()["properties"]


def test_the_page_shows_which_provider_trains_what():
    rows = [line for line in settings_markdown().splitlines() if line.startswith("| `")]
    cells = [cell for row in rows for cell in row.split("|")[2:-1]]
    assert (len(rows), len(cells)) == (3, 12)
    assert sum(len(cell.strip().split(", ")) for cell in cells if "–" not in cell) == 11
