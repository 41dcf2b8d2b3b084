"""Memory traces of the real warm worker, stored on disk and reported with the plan."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest
from fastapi import FastAPI

from modelforge.api.router import add_api
from modelforge.cli.main import main
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.paths import Home

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def forge(home):
    made = Forge(home)
    yield made
    made.close()


@pytest.fixture(scope="module")
def asked(tmp_path_factory, tiny_shape):
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    pairs = [{"input": f"q{number}", "output": "answer " * 40} for number in range(20)]
    rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")

    def layer(**changes):
        usual = {
            "task": "text-generation",
            "model_name": str(tiny_shape),
            "dataset": str(rows),
            "compute_specs": "low_end",
            "use_4bit": False,
        }
        return Layer("test", usual | changes)

    return layer


@pytest.fixture(scope="module")
def tiny_shape(tmp_path_factory):
    """A model of whose weights there is only the first: a trace needs its config.json alone."""
    folder = tmp_path_factory.mktemp("shape")
    shape = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 1000,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    only = {"dtype": "BF16", "shape": [1000, 32], "data_offsets": [0, 64_000]}
    head = json.dumps({"model.embed_tokens.weight": only}).encode()
    weights = len(head).to_bytes(8, "little") + head + bytes(64_000)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_run_is_traced_once_and_known_from_then_on(forge, home, asked):
    before = forge.preflight.check(asked()).report
    assert before.memory_basis == "formula"
    traced = forge.preflight.trace_memory(asked()).report
    assert traced.memory_basis == "traced"
    assert traced.memory_total_gib == pytest.approx(sum(part.gib for part in traced.memory))
    began = time.monotonic()
    assert forge.preflight.trace_memory(asked()).report.memory_basis == "traced"
    assert time.monotonic() - began < 0.3
    # What bears on no tensor is no other footprint; another process knows it from the disk.
    again = Forge(home)
    assert (
        again.preflight.check(asked(learning_rate=1e-3, num_train_epochs=3)).report.memory
        == traced.memory
    )
    again.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"per_device_train_batch_size": 8},
        {"lora_r": 64},
        {"gradient_checkpointing": False},
        {"max_seq_length": 64},
        {"adapter": {"enabled": False}},
        {"optim": "sgd"},
        {"eval_split": 0},
    ],
)
def test_settings_that_affect_memory_have_another_trace(forge, asked, changes):
    forge.preflight.trace_memory(asked())
    assert forge.preflight.check(asked(**changes)).report.memory_basis == "formula"


def test_a_broken_file_is_traced_anew(home, forge, asked):
    home.memory_traces.write_text('{"footprints": [{"no": 1}, 3]}', encoding="utf-8")
    other = Forge(home)
    assert other.preflight.check(asked()).report.memory_basis == "formula"
    other.close()


def test_the_terminal_traces_where_it_is_asked_to(home, asked, tmp_path, capsys):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(asked(lora_r=4).values), encoding="utf-8")
    assert main(["check", str(path), "--trace", "--json", "--home", str(home.root)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["memory_basis"] == "traced"
    assert {part["name"] for part in result["memory"]} >= {"weights", "adapter", "overhead"}


def test_rest_returns_the_traced_parts(forge, asked):
    app = FastAPI()
    add_api(app, forge)

    async def post(*bodies):
        place = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=place, base_url="http://here") as client:
            return [await client.post("/api/memory", json=body) for body in bodies]

    answer, wrong = asyncio.run(post(asked().values, asked(model_name="/none").values))
    assert answer.status_code == 200, answer.text
    assert answer.json()["memory_basis"] == "traced"
    assert wrong.status_code == 404
    assert wrong.json()["problems"][0]["where"] == "model_name"
