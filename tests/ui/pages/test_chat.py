"""The Chat page: which model is shown, and what reaches the chat process."""

import json
import sys

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from modelforge.config.sampling import Sampling, read_sampling
from modelforge.errors import Problem
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.services.test_chat_client import HELLO, PARROT
from ui.pages import chat
from ui.routes import ChatRequest

BASES = [("starter", "Starter (SmolLM2 135M)")]


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    shape = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16}
    shape |= {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
    (folder / "config.json").write_text(json.dumps(shape), "utf-8")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    save_file({"w": np.zeros((64, 16), np.float32)}, str(folder / "model.safetensors"))
    return folder


@pytest.fixture
def forge(tmp_path):
    command = [sys.executable, "-c", PARROT]
    forge = Forge(Home(tmp_path / "home"), warm_worker=["true"], chat_process=command)
    yield forge
    forge.close()


def asked(forge, model, **settings):
    request = ChatRequest(target=str(model), messages=HELLO, **settings).model_dump()
    lines = [json.loads(line) for line in chat.answer_lines(forge, request)]
    errors = [line["error"] for line in lines if line.get("error")]
    assert not errors, errors
    return json.loads("".join(line.get("text") or "" for line in lines if not line.get("phase")))


def test_every_control_of_the_page_reaches_the_chat_process(forge, model):
    usual = asked(forge, model)
    assert (usual["temperature"], usual["top_p"], usual["max_new_tokens"]) == (0.0, 0.95, 256)
    own = asked(forge, model, temperature=0.7, top_p=0.5, max_new_tokens=9)
    assert (own["temperature"], own["top_p"], own["max_new_tokens"]) == (0.7, 0.5, 9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1}, {"temperature": 2.1}, {"temperature": float("nan")},
        {"top_p": 0}, {"top_p": 1.1}, {"max_new_tokens": 0}, {"max_new_tokens": 8193},
        {"messages": []}, {"seed": 1},
    ],
)  # fmt: skip
def test_a_control_outside_its_bounds_is_refused(wrong):
    with pytest.raises(ValidationError):
        ChatRequest(**({"target": "starter", "messages": HELLO} | wrong))


@pytest.mark.parametrize("field", chat.NUMBERS, ids=lambda field: field.id)
def test_a_number_field_has_the_bounds_and_the_default_of_its_parameter(field):
    for value in (field.low, field.high):
        assert isinstance(read_sampling({field.name: value}), Sampling), value
    for value in (field.low - 0.02, field.high + 1):
        assert isinstance(read_sampling({field.name: value}), Problem), value
    if field.id != "seed":
        assert getattr(Sampling(), field.name) == field.usual


def test_another_model_is_never_shown_in_silence(forge):
    assert chat._other_model(forge, "", [], BASES) == ""
    assert chat._other_model(forge, "starter", [], BASES) == ""
    text = chat._other_model(forge, "<b>gone", [], BASES)
    assert "There is no run or model “&lt;b&gt;gone”." in text
    assert "The model shown is Starter (SmolLM2 135M)." in text


def test_a_run_without_a_model_is_named_with_its_state(forge, ended_run):
    run = ended_run(forge=forge)
    text = chat._other_model(forge, run.id, [], BASES)
    assert f"{run.name} is {run.state} and has no model yet." in text
    assert f'href="/?run={run.id}"' in text
