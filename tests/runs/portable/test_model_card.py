"""The model card says what was trained on what, and shows nothing of this computer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

from modelforge.runs.portable.base_model import BaseModel
from modelforge.runs.portable.model_card import (
    CURVE_ROWS,
    Form,
    code,
    curve_rows,
    escape,
    file_name,
    model_card,
)
from tests.runs.homes import put_run

BASE = BaseModel("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "a" * 40, "https://huggingface.co/x", {})
LOCAL = BaseModel("starter", where="the starter model", weights={"model.safetensors": "0" * 64})
ADAPTER = Form("adapter")
PACKAGES = {"modelforge": "0.2.0", "python": "3.11.9", "packages": {"peft": "0.21.2", "trl": None}}


@pytest.fixture
def run(tmp_path):
    return put_run(
        tmp_path,
        losses=[3.0 - place / 20 for place in range(40)],
        held=(2.5, 2.0, 1.5),
        environment=PACKAGES,
        name="support desk",
    )


def card_of(run, base=BASE, form=ADAPTER):
    """Return the card as the Hub reads it from its text."""
    return ModelCard(str(model_card(run, base, form)))


def test_a_model_from_nothing_names_no_base_model(run):
    card = card_of(run, BaseModel(""), Form("model"))
    assert "A language model, trained from nothing with ModelForge in 40 steps." in card.text
    assert "base" not in card.text.split("## Settings")[0].lower()
    assert {"Base model", "Licence"} & set(sections(card)) == set()
    assert {"base_model", "base_model_relation"} & set(card.data.to_dict()) == set()
    assert "| Evaluation loss | 1.5000 |" in sections(card)["Results"]


def sections(card):
    parts = re.split(r"\n## (.*)\n", card.text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_metadata_is_that_of_run_and_base_model(run):
    data = card_of(run).data
    assert (data.base_model, data.base_model_relation) == ("Qwen/Qwen3-0.6B", "adapter")
    assert (data.library_name, data.pipeline_tag) == ("peft", "text-generation")
    assert data.tags == ["modelforge", "lora", "sft"]
    assert data.model_name == "support desk"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("loss", 1.5)


def test_the_page_has_data_settings_results_curves_and_versions(run):
    parts = sections(card_of(run))
    sha256 = "1f25a0209c24"
    assert f"| `captain.jsonl` | training | 234 | `{sha256}` |" in parts["Data"]
    assert "| LoRA rank | `lora_r` | `16` |" in parts["Settings"]
    assert "| Learning rate | `learning_rate` | `0.0005` |" in parts["Settings"]
    assert "| Evaluation loss |  | 1.5000 |" in parts["Results"]
    assert parts["Training"].count("\n|") == 2 + 3
    assert parts["Training"].strip().endswith("| 1.5000 |")
    assert "| `ModelForge` | `0.2.0` |" in parts["Versions"]
    assert "trl" not in parts["Versions"]
    assert f"| Revision | `{'a' * 40}` |" in parts["Base model"]


def test_scores_before_and_after_are_results(run):
    event = {"after": {"rouge_l": 0.5, "f1": None}, "before": {"rouge_l": 0.25}, "rows": 5}
    with run.events.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"n": 99, "t": 1.0, "kind": "scores", "data": event}) + "\n")
    card = card_of(run)
    assert "| Rouge l | 0.2500 | 0.5000 |" in sections(card)["Results"]
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values == {"loss": 1.5, "rouge_l": 0.5}


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (LOCAL, "is not known"),
        (BaseModel("x", licence="other", licence_name="Llama 3"), "`other` (`Llama 3`)"),
    ],
)
def test_the_licence_is_that_of_the_base_model_or_is_said_to_be_unknown(run, base, words):
    card = card_of(run, base)
    assert words in sections(card)["Licence"]
    assert card.data.license == base.licence


@pytest.mark.parametrize(
    ("form", "base", "words"),
    [
        (ADAPTER, BASE, "AutoPeftModelForCausalLM"),
        (ADAPTER, LOCAL, 'AutoModelForCausalLM.from_pretrained("path/to/the/base/model")'),
        (Form("merged"), BASE, "vllm serve"),
        (Form("gguf", file="desk-Q4_K_M.gguf"), BASE, "llama-server -m desk-Q4_K_M.gguf"),
        (Form("ollama", model="desk"), BASE, "ollama create desk -f Modelfile"),
        (Form("mlx"), BASE, "from mlx_lm import generate, load"),
    ],
)
def test_each_form_says_how_it_is_loaded(run, form, base, words):
    assert words in sections(card_of(run, base, form))["Use"]


@pytest.mark.parametrize("kind", ["merged", "gguf", "ollama", "mlx", "model"])
def test_whole_models_are_not_adapters(run, kind):
    data = card_of(run, form=Form(kind)).data
    assert data.base_model_relation == "finetune"
    assert "lora" not in data.tags


def test_a_combination_lists_its_adapters_with_their_weights(run):
    form = Form("merged", adapters=(("one", 0.7), ("t|wo", 1.0)), combination="ties")
    text = card_of(run, form=form).text
    assert "combined (ties)" in text
    assert "| `one` | 0.7 |" in text
    assert r"| `t\|wo` | 1 |" in text


HOSTILE = "x\n---\nlicense: evil\n---\n# Big <script>alert(1)</script> [a](http://b) |`c`| \u202e"


def test_foreign_names_have_no_effect(run, tmp_path):
    record = json.loads(run.config.read_text("utf-8"))
    record["name"] = HOSTILE
    record["dataset"]["path"] = f"/data/{HOSTILE}"
    run.config.write_text(json.dumps(record), "utf-8")
    card = card_of(run)
    assert card.data.license is None
    title = card.text.strip().splitlines()[0]
    assert title.startswith("# x \\-\\-\\- license\\: evil")
    assert "<script>" not in title.replace("\\<", "")
    assert "](http" not in card.text.replace("](https://huggingface.co/", "")
    assert "\u202e" not in str(card)
    rows = sections(card)["Data"].strip().splitlines()
    assert len(rows) == 3


def test_no_path_of_this_computer_is_shown(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/alice")
    record = json.loads(run.config.read_text("utf-8"))
    record["config"] |= {
        "model_name": "/home/alice/models/starter",
        "dataset": "/home/alice/rows.jsonl",
        "model": {
            "chat_template": "/home/alice/my.jinja",
            "system_prompt": "Read /home/alice/notes first.",
        },
        "logging": {"project": "for alice"},
    }
    run.config.write_text(json.dumps(record), "utf-8")
    text = str(model_card(run, LOCAL, ADAPTER))
    assert "alice" not in text
    assert "my.jinja" in text
    assert "Read ~/notes first." in text


def test_code_is_one_span_whatever_it_holds():
    assert code("a`b") == "`` a`b ``"
    assert code("a``b|c\nd") == r"``` a``b\|c d ```"
    assert code("") == "` `"
    assert len(code("x" * 5000)) < 400


def test_escaped_text_reads_the_same_on_one_line():
    assert escape("a_b *c* <d>\n# e") == r"a\_b \*c\* \<d\> \# e"
    assert escape("captain · zażółć") == "captain · zażółć"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/x.jinja", "x.jinja"),
        ("C:\\Users\\me\\x.jinja", "x.jinja"),
        ("~/x", "x"),
        ("a/b/c", "c"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("chatml", "chatml"),
        ("sample:captain", "sample:captain"),
    ],
)
def test_a_path_is_shown_as_its_file(path, name):
    assert file_name(path) == name


def test_a_long_curve_has_few_rows_with_the_first_and_the_last(run):
    stage = SimpleNamespace(
        train={"loss": [(step, 1.0 / step) for step in range(1, 1001)]},
        eval={"loss": [(step, 2.0 / step) for step in range(10, 1000, 10)]},
    )
    rows = list(curve_rows(stage))
    assert len(rows) == CURVE_ROWS + 1
    assert (rows[0][0], rows[-1][0]) == (10, 1000)
    assert rows[0][1] == pytest.approx(sum(1 / step for step in range(1, 11)) / 10)
    assert rows[-1][2] is None


def test_the_same_run_gives_the_same_card(run):
    assert str(model_card(run, BASE, ADAPTER)) == str(model_card(run, BASE, ADAPTER))
    assert Path(run.path).name not in str(model_card(run, BASE, ADAPTER))


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("kind", "longest"), [("yarn", 4096), ("linear", 4096), ("dynamic", 1024)])
def test_an_adapter_with_rope_scaling_says_how_its_base_model_is_scaled(run, kind, longest):
    from transformers import LlamaConfig

    record = json.loads(run.config.read_text("utf-8"))
    scaling = {"rope_type": kind, "rope_factor": 4.0, "max_model_len": 4096}
    record["plan"] |= scaling
    run.config.write_text(json.dumps(record), "utf-8")
    text = sections(card_of(run))["Use"]
    lines = [line for line in text.splitlines() if line.startswith("config.")]
    config = LlamaConfig(max_position_embeddings=1024)
    exec("\n".join(lines), {"config": config})
    assert config.rope_parameters["rope_type"] == kind
    assert config.rope_parameters["factor"] == 4.0
    assert config.rope_parameters.get("original_max_position_embeddings") in (None, 1024)
    assert config.max_position_embeddings == longest
