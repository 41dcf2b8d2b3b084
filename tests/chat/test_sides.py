"""Two adapters of one base model, and the sampling parameters, with a real tiny model."""

from __future__ import annotations

import json
import shutil

import pytest

pytestmark = pytest.mark.torch

QUESTION = "who are you"


def load_both(chat, model, first, second):
    paths = {"model_path": str(model), "adapter": str(first), "others": [str(second)]}
    chat.send({"load": {**paths, "device": "cpu"}})
    return chat.until("loaded", "error")[-1]["loaded"]


def answer(chat, adapter, **more):
    choice = adapter if isinstance(adapter, bool) else str(adapter)
    text, last = chat.ask(QUESTION, max_new_tokens=24, adapter=choice, **more)
    assert "done" in last, last
    return text


def test_two_adapters_answer_as_each_does_alone(chat, tiny_model, adapter, second_adapter):
    alone = []
    for folder in (adapter, second_adapter):
        chat.load(tiny_model, folder)
        alone.append(answer(chat, True))
    base = answer(chat, False)
    loaded = load_both(chat, tiny_model, adapter, second_adapter)
    assert loaded["adapters"] == [str(adapter), str(second_adapter)]
    # In any order: what one question has switched on does not stay for the next.
    for _ in range(2):
        assert answer(chat, second_adapter) == alone[1]
        assert answer(chat, False) == base
        assert answer(chat, adapter) == alone[0]
    assert answer(chat, True) == alone[0]
    assert len({*alone, base}) == 3


def test_an_adapter_that_does_not_fit_is_left_out(
    chat, tiny_model, adapter, second_adapter, tmp_path
):
    from safetensors.torch import load_file, save_file

    wrong = tmp_path / "wrong"
    shutil.copytree(second_adapter, wrong)
    file = wrong / "adapter_model.safetensors"
    save_file({name: weight[:-1] for name, weight in load_file(file).items()}, file)
    chat.load(tiny_model, adapter)
    alone = answer(chat, True)
    loaded = load_both(chat, tiny_model, adapter, wrong)
    assert loaded["adapters"] == [str(adapter)]
    assert answer(chat, True) == alone
    _, last = chat.ask(QUESTION, adapter=str(wrong))
    assert last["error"]["where"] == "adapter"


def test_a_model_takes_the_place_of_another_in_the_same_process(chat, tiny_model, adapter):
    chat.load(tiny_model)
    base = answer(chat, False)
    chat.load(tiny_model, adapter)
    assert answer(chat, True) != base
    chat.load(tiny_model)
    assert answer(chat, True) == base


def test_the_seed_decides_what_is_sampled(chat, tiny_model):
    chat.load(tiny_model)
    first = answer(chat, True, temperature=1.5, seed=1)
    assert answer(chat, True, temperature=1.5, seed=1) == first
    others = {answer(chat, True, temperature=1.5, seed=seed) for seed in (2, 3, 4)}
    assert others - {first}


def test_one_candidate_token_is_the_likeliest(chat, tiny_model):
    chat.load(tiny_model)
    likeliest = answer(chat, True, temperature=0)
    for seed in (1, 2):
        assert answer(chat, True, temperature=2.0, top_p=1.0, top_k=1, seed=seed) == likeliest


def test_the_repetition_penalty_is_that_of_the_request_or_of_the_model(chat, tiny_model, tmp_path):
    model = tmp_path / "penalty"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "generation_config.json").read_text())
    config["repetition_penalty"] = 2.0
    (model / "generation_config.json").write_text(json.dumps(config))
    chat.load(tiny_model)
    plain, penalized = answer(chat, True), answer(chat, True, repetition_penalty=2.0)
    assert plain != penalized
    chat.load(model)
    assert answer(chat, True) == penalized
    assert answer(chat, True, repetition_penalty=1.0) == plain


TOOLS = [{"name": "weather", "description": "of a city", "parameters": {"type": "object"}}]
WITH_TOOLS = (
    "{% for tool in tools or [] %}{{ tool.function.name }};{% endfor %}"
    "{% for message in messages %}{{ message.role }}:{{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.name }}"
    "{{ call.function.arguments.city }}{% endfor %};{% endfor %}"
)


def test_tools_calls_and_results_reach_the_template(chat, tiny_model, tmp_path):
    from transformers import AutoTokenizer

    model = tmp_path / "tools"
    shutil.copytree(tiny_model, model)
    (model / "chat_template.jinja").write_text(WITH_TOOLS, "utf-8")
    assert chat.load(model)[-1]["loaded"]["tools"] is True
    call = {"name": "weather", "arguments": {"city": "Paris"}}
    messages = [
        {"role": "user", "content": "hot?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "weather", "content": "19"},
    ]
    chat.send({"ask": {"messages": messages, "tools": TOOLS, "max_new_tokens": 2}})
    done = chat.until("done", "error")[-1]["done"]
    text = "weather;user:hot?;assistant:weatherParis;tool:19;"
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert done["prompt_tokens"] == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert done["context"] == 4096


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"top_k": -1}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty"),
        ({"tools": [{"parameters": {}}]}, "tools"),
        ({"tools": "weather"}, "tools"),
    ],
)
def test_a_parameter_that_is_not_possible_is_named(chat, more, where):
    chat.send({"ask": {"messages": [{"role": "user", "content": "x"}], **more}})
    assert chat.receive()["error"]["where"] == where
