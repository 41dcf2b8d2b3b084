"""The chat process: loading, replies, stopping and errors."""

from __future__ import annotations

import shutil

import pytest

pytestmark = pytest.mark.torch

HELLO = [{"role": "user", "content": "who are you"}]


def test_loading_reports_phases_and_ends_with_a_loaded_message(chat, tiny_model):
    messages = chat.load(tiny_model)
    assert [each["phase"] for each in messages[:-1]]
    assert messages[-1]["loaded"]["device"] == "cpu"
    assert messages[-1]["loaded"]["precision"] == "float32"


def test_a_reply_is_streamed_and_ends_with_its_length(chat, tiny_model):
    chat.load(tiny_model)
    pieces = []
    for _ in range(10):  # a model of random weights may end its answer at once
        chat.send({"ask": {"messages": HELLO, "max_new_tokens": 400, "temperature": 2.0}})
        messages = chat.until("done")
        assert 0 < messages[-1]["done"]["tokens"] <= 400
        pieces.append(len([each for each in messages if "text" in each]))
        if pieces[-1] > 1:
            break
    assert pieces[-1] > 1, pieces


def test_without_temperature_the_same_question_has_the_same_answer(chat, tiny_model):
    chat.load(tiny_model)
    first, _ = chat.ask("who are you", max_new_tokens=30, temperature=0)
    again, _ = chat.ask("who are you", max_new_tokens=30, temperature=0)
    assert first == again


def test_with_a_temperature_answers_vary(chat, tiny_model):
    chat.load(tiny_model)
    answers = {chat.ask("who are you", max_new_tokens=30, temperature=2.0)[0] for _ in range(3)}
    assert len(answers) > 1


def test_a_small_top_p_leaves_only_the_likeliest_token(chat, tiny_model):
    chat.load(tiny_model)
    likeliest, _ = chat.ask("who are you", max_new_tokens=30, temperature=0)
    for _ in range(2):
        narrow, _ = chat.ask("who are you", max_new_tokens=30, temperature=2.0, top_p=1e-6)
        assert narrow == likeliest


def test_base_and_trained_model_answer_from_the_same_weights(chat, tiny_model, adapter):
    chat.load(tiny_model)
    plain, _ = chat.ask("who are you", max_new_tokens=30)
    chat.load(tiny_model, adapter)
    tuned, _ = chat.ask("who are you", max_new_tokens=30, adapter=True)
    base, _ = chat.ask("who are you", max_new_tokens=30, adapter=False)
    tuned_again, _ = chat.ask("who are you", max_new_tokens=30, adapter=True)
    assert base == plain
    assert tuned == tuned_again != base


def test_a_stop_request_ends_the_reply_early(chat, tiny_model):
    chat.load(tiny_model)
    for _ in range(20):  # a model of random weights may end its answer before the request
        chat.send({"ask": {"messages": HELLO, "max_new_tokens": 3500, "temperature": 2.0}})
        messages = chat.until("text", "done")
        if "done" not in messages[-1]:
            chat.send({"stop": True})
            messages = chat.until("done")
        done = messages[-1]["done"]
        assert done["tokens"] < 3500
        if done["reason"] == "stopped":
            break
    assert done["reason"] == "stopped"


def test_a_stop_request_does_not_end_the_next_reply(chat, tiny_model):
    chat.load(tiny_model)
    chat.send({"stop": True})
    _, last = chat.ask("who are you", max_new_tokens=5)
    assert last["done"]["reason"] != "stopped"


def test_a_conversation_that_is_too_long_is_refused_with_both_numbers(chat, tiny_model):
    chat.load(tiny_model)
    _, last = chat.ask("x" * 5000)
    assert "4096 tokens" in last["error"]["what"] or "at most 4096" in last["error"]["what"]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("{broken", "request"),
        ("[1]", "request"),
        ({"sing": {}}, "request"),
        ({"ask": {"messages": []}}, "messages"),
        ({"ask": {"messages": [{"role": "root", "content": "x"}]}}, "messages"),
        ({"ask": {"messages": HELLO, "max_new_tokens": 0}}, "max_new_tokens"),
        ({"ask": {"messages": HELLO, "temperature": float("nan")}}, "temperature"),
        ({"ask": {"messages": HELLO, "temperature": 2.1}}, "temperature"),
        ({"ask": {"messages": HELLO, "top_p": 0}}, "top_p"),
        ({"ask": {"messages": HELLO, "top_p": 1.1}}, "top_p"),
        ({"ask": {"messages": HELLO, "top_p": True}}, "top_p"),
        ({"load": {}}, "load"),
    ],
)
def test_an_invalid_line_gets_an_error_and_the_process_continues(chat, line, where):
    chat.send(line)
    error = chat.receive()["error"]
    assert error["where"] == where
    assert error["what"].endswith(".")
    assert chat.process.poll() is None


def test_pickled_weights_are_refused(chat, tiny_model, tmp_path):
    model = tmp_path / "pickled"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "safetensors" in chat.load(model)[-1]["error"]["what"]


def test_a_pickled_adapter_is_refused(chat, tiny_model, adapter, tmp_path):
    copy = tmp_path / "pickled"
    shutil.copytree(adapter, copy)
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    assert chat.load(tiny_model, copy)[-1]["error"]["where"] == "adapter"


def test_the_code_of_a_model_is_not_run(chat, tiny_model, tmp_path):
    import json

    model, canary = tmp_path / "remote", tmp_path / "canary"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "stranger"
    config["auto_map"] = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    assert "error" in chat.load(model)[-1]
    assert not canary.exists()


def test_a_missing_model_is_named(new_chat, tmp_path):
    error = new_chat.load(tmp_path / "nowhere")[-1]["error"]
    assert error["where"] == "model_path"
    assert "nowhere" in error["what"]


def test_a_question_before_loading_gets_an_error(new_chat):
    _, last = new_chat.ask("who are you")
    assert last["error"]["what"] == "No model is loaded."


STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('turns') }}{% endif %}"
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
)


def test_a_template_without_a_system_role_gets_it_in_the_question(chat, tiny_model, tmp_path):
    model = tmp_path / "strict"
    shutil.copytree(tiny_model, model)
    (model / "chat_template.jinja").write_text(STRICT, "utf-8")
    chat.load(model)
    system = {"role": "system", "content": "you are"}
    chat.send({"ask": {"messages": [system, *HELLO], "max_new_tokens": 3}})
    assert "done" in chat.until("done", "error")[-1]
    wrong = [{"role": "assistant", "content": "hello"}]
    chat.send({"ask": {"messages": wrong, "max_new_tokens": 3}})
    assert chat.until("done", "error")[-1]["error"]["where"] == "messages"


def test_a_hostile_template_ends_the_answer_and_not_the_process(chat, tiny_model, tmp_path):
    model = tmp_path / "hostile"
    shutil.copytree(tiny_model, model)
    bomb = "{% if 'boom' in messages[-1].content %}{{ 'a' * 3000000000 }}{% endif %}"
    (model / "chat_template.jinja").write_text(bomb + "{{ messages[-1].content }}", "utf-8")
    assert "loaded" in chat.load(model)[-1]
    _, last = chat.ask("boom", max_new_tokens=3)
    assert "it needs more than 1 GiB of memory" in last["error"]["what"]
    _, last = chat.ask("who are you", max_new_tokens=3)
    assert "done" in last


def test_a_model_without_chatml_tokens_gets_the_plain_template(chat, tiny_model, tmp_path):
    model = tmp_path / "unmarked"
    shutil.copytree(tiny_model, model)
    path = model / "tokenizer.json"
    text = path.read_text("utf-8").replace("<|im_start|>", "<|a|>").replace("<|im_end|>", "<|b|>")
    path.write_text(text, "utf-8")
    assert "loaded" in chat.load(model)[-1]
    _, last = chat.ask("who are you", max_new_tokens=3)
    assert "done" in last


def test_the_end_of_input_ends_the_process_during_a_reply(new_chat, tiny_model):
    new_chat.load(tiny_model)
    new_chat.send({"ask": {"messages": HELLO, "max_new_tokens": 3500}})
    assert new_chat.close() == 0


def test_the_starter_answers_a_question_and_ends_its_turn(chat, starter_folder):
    assert "loaded" in chat.load(starter_folder)[-1]
    answer, last = chat.ask("What is the capital of France?", max_new_tokens=60)
    assert "Paris" in answer
    assert "<|im" not in answer
    assert last["done"]["reason"] == "end"


def test_a_model_from_nothing_continues_the_last_message(chat, tiny_model):
    from transformers import AutoTokenizer

    chat.load(tiny_model)
    answered, _ = chat.ask("who are you", max_new_tokens=20)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    begin = tokenizer.bos_token or tokenizer.eos_token
    plain = {"prompt": f"{begin}who are you", "max_new_tokens": 20}
    chat.send({"ask": plain})
    continued = "".join(each.get("text", "") for each in chat.until("done"))
    chat.send({"load": {"model_path": str(tiny_model), "device": "cpu", "continues": True}})
    chat.until("loaded")
    found, last = chat.ask("who are you", max_new_tokens=20)
    assert last["done"]["prompt_tokens"] == 1 + len("who are you")
    assert found == continued != answered
