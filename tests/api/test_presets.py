"""Presets over REST and at the terminal."""

import json

from modelforge.cli.main import main


def test_presets_are_stored_listed_renamed_and_deleted(client):
    stored = client.put("/api/presets/careful", json={"lora_r": 8, "data.padding_free": True})
    assert stored.json()["settings"] == {"lora_r": 8, "data": {"padding_free": True}}
    own = [one for one in client.get("/api/presets").json() if not one["is_shipped"]]
    assert own == [stored.json()]
    assert (
        client.post("/api/presets/careful/rename", json={"name": "bold"}).json()["name"] == "bold"
    )
    assert client.get("/api/presets/careful").status_code == 404
    assert client.get("/api/presets/bold").json()["settings"]["lora_r"] == 8
    for path in ("..%2F..%2Fx", "a%2Fb", "con", "%00"):
        assert client.put(f"/api/presets/{path}", json={"lora_r": 8}).status_code in (404, 405, 422)
    wrong = client.put("/api/presets/bold", json={"lora_r": 0, "dataset": "x"})
    assert {one["where"] for one in wrong.json()["problems"]} == {"lora_r", "dataset"}
    assert client.delete("/api/presets/bold").status_code == 204
    assert client.delete("/api/presets/bold").status_code == 404
    assert client.delete("/api/presets/nanochat").status_code == 422


def test_a_shipped_preset_is_compared_with_settings(client):
    shipped = [one for one in client.get("/api/presets").json() if one["is_shipped"]]
    assert shipped[0]["name"] == "Surogate-style"
    assert shipped[0]["settings"]["weight_decay"] == 0.1
    body = {"lora_r": 64, "weight_decay": 0.1, "dataset": "sample:captain"}
    found = client.post("/api/presets/Surogate-style/changes", json=body).json()
    changed = {one["setting"]: (one["now"], one["then"]) for one in found["changed"]}
    assert changed["lora_r"] == (64, 16)
    assert "weight_decay" not in changed
    assert "dataset" not in changed
    assert found["same"] > 50
    assert client.post("/api/presets/Surogate-style/changes").status_code == 200
    assert client.post("/api/presets/none/changes").status_code == 404


def test_a_preset_is_a_recipe_at_the_terminal(tmp_path, model, capsys):
    home = ["--home", str(tmp_path / "home")]
    folder = tmp_path / "home" / "presets"
    folder.mkdir(parents=True)
    (folder / "my way.yaml").write_text("lora_r: 24\nlora_alpha: 48\n", "utf-8")
    assert main(["presets", *home]) == 0
    assert "lora_r=24" in capsys.readouterr().out
    data = [f"model_name={model}", "dataset=sample:captain", "task=text-generation", "lora_alpha=7"]
    options = [part for pair in data for part in ("--set", pair)]
    main(["check", "preset:my way", *options, "--json", *home])
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["lora_alpha"] == 7
    assert main(["check", "preset:none", *options, *home]) == 2
    assert "There is no preset “none”. There are: my way, Surogate-style" in capsys.readouterr().err


def test_the_terminal_shows_what_a_preset_would_change(tmp_path, capsys):
    home = ["--home", str(tmp_path / "home")]
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("lora_r: 64\nweight_decay: 0.1\n", "utf-8")
    assert main(["presets", *home]) == 0
    assert "Safe-Synthesizer-style" in capsys.readouterr().out
    assert main(["presets", "Surogate-style", str(recipe), *home]) == 0
    output = capsys.readouterr().out
    assert output.startswith("LoRA of rank 16 on packed rows")
    assert ["lora_r", "64", "16"] in [line.split() for line in output.splitlines()]
    assert "weight_decay" not in output
    options = ["--set", "lora_r=16", "--json"]
    assert main(["presets", "Surogate-style", str(recipe), *options, *home]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["preset"]["is_shipped"]
    assert "lora_r" not in {one["setting"] for one in found["changed"]}
