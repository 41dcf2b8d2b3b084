"""The talker as a process: what it loads, how it answers, how it stops."""

from __future__ import annotations

import shutil

import pytest

pytestmark = pytest.mark.torch

HELLO = [{"role": "user", "content": "who are you"}]


def test_loading_says_its_phases_and_ends_with_the_facts(talker, tiny):
    heard = talker.load(tiny)
    assert [each["phase"] for each in heard[:-1]]
    assert heard[-1]["loaded"]["device"] == "cpu"
    assert heard[-1]["loaded"]["precision"] == "float32"


def test_a_reply_comes_in_pieces_and_ends_with_its_length(talker, tiny):
    talker.load(tiny)
    pieces = []
    for _ in range(10):  # a model of random weights may end its answer at once
        talker.say({"ask": {"messages": HELLO, "max_new_tokens": 400, "temperature": 2.0}})
        heard = talker.until("done")
        assert 0 < heard[-1]["done"]["tokens"] <= 400
        pieces.append(len([each for each in heard if "text" in each]))
        if pieces[-1] > 1:
            break
    assert pieces[-1] > 1, pieces


def test_without_temperature_the_same_question_has_the_same_answer(talker, tiny):
    talker.load(tiny)
    first, _ = talker.ask("who are you", max_new_tokens=30, temperature=0)
    again, _ = talker.ask("who are you", max_new_tokens=30, temperature=0)
    assert first == again


def test_with_temperature_answers_vary(talker, tiny):
    talker.load(tiny)
    answers = {talker.ask("who are you", max_new_tokens=30, temperature=2.0)[0] for _ in range(3)}
    assert len(answers) > 1


def test_base_and_tuned_answer_from_the_same_weights(talker, tiny, adapter):
    talker.load(tiny)
    plain, _ = talker.ask("who are you", max_new_tokens=30)
    talker.load(tiny, adapter)
    tuned, _ = talker.ask("who are you", max_new_tokens=30, adapter=True)
    base, _ = talker.ask("who are you", max_new_tokens=30, adapter=False)
    tuned_again, _ = talker.ask("who are you", max_new_tokens=30, adapter=True)
    assert base == plain
    assert tuned == tuned_again != base


def test_a_stop_in_mid_reply_ends_it_early(talker, tiny):
    talker.load(tiny)
    talker.say({"ask": {"messages": HELLO, "max_new_tokens": 3500, "temperature": 2.0}})
    talker.until("text")
    talker.say({"stop": True})
    done = talker.until("done")[-1]["done"]
    assert done["reason"] in {"stopped", "end"}
    assert done["tokens"] < 3500


def test_a_stop_does_not_reach_the_next_question(talker, tiny):
    talker.load(tiny)
    talker.say({"stop": True})
    _, last = talker.ask("who are you", max_new_tokens=5)
    assert last["done"]["reason"] != "stopped"


def test_a_conversation_that_is_too_long_is_refused_with_both_numbers(talker, tiny):
    talker.load(tiny)
    _, last = talker.ask("x" * 5000)
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
        ({"load": {}}, "load"),
    ],
)
def test_a_bad_line_is_answered_in_words_and_the_talker_goes_on(talker, line, where):
    talker.say(line)
    error = talker.hear()["error"]
    assert error["where"] == where
    assert error["what"].endswith(".")
    assert talker.process.poll() is None


def test_pickled_weights_are_refused(talker, tiny, tmp_path):
    model = tmp_path / "pickled"
    shutil.copytree(tiny, model)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "safetensors" in talker.load(model)[-1]["error"]["what"]


def test_a_pickled_adapter_is_refused(talker, tiny, adapter, tmp_path):
    copy = tmp_path / "pickled"
    shutil.copytree(adapter, copy)
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    assert talker.load(tiny, copy)[-1]["error"]["where"] == "adapter"


def test_code_that_comes_with_a_model_is_not_run(talker, tiny, tmp_path):
    import json

    model, canary = tmp_path / "remote", tmp_path / "canary"
    shutil.copytree(tiny, model)
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "stranger"
    config["auto_map"] = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    assert "error" in talker.load(model)[-1]
    assert not canary.exists()


def test_a_model_that_is_not_there_is_named(fresh_talker, tmp_path):
    error = fresh_talker.load(tmp_path / "nowhere")[-1]["error"]
    assert error["where"] == "model_path"
    assert "nowhere" in error["what"]


def test_an_ask_before_a_load_is_answered_in_words(fresh_talker):
    _, last = fresh_talker.ask("who are you")
    assert last["error"]["what"] == "No model is loaded."


STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('turns') }}{% endif %}"
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
)


def test_a_template_without_a_system_role_gets_it_in_the_first_question(talker, tiny, tmp_path):
    model = tmp_path / "strict"
    shutil.copytree(tiny, model)
    (model / "chat_template.jinja").write_text(STRICT, "utf-8")
    talker.load(model)
    system = {"role": "system", "content": "you are"}
    talker.say({"ask": {"messages": [system, *HELLO], "max_new_tokens": 3}})
    assert "done" in talker.until("done", "error")[-1]
    wrong = [{"role": "assistant", "content": "hello"}]
    talker.say({"ask": {"messages": wrong, "max_new_tokens": 3}})
    assert talker.until("done", "error")[-1]["error"]["where"] == "messages"


def test_a_model_without_chat_marks_speaks_in_marked_turns(talker, tiny, tmp_path):
    model = tmp_path / "unmarked"
    shutil.copytree(tiny, model)
    path = model / "tokenizer.json"
    text = path.read_text("utf-8").replace("<|im_start|>", "<|a|>").replace("<|im_end|>", "<|b|>")
    path.write_text(text, "utf-8")
    assert "loaded" in talker.load(model)[-1]
    _, last = talker.ask("who are you", max_new_tokens=3)
    assert "done" in last


def test_the_end_of_input_ends_the_talker_even_in_mid_reply(fresh_talker, tiny):
    fresh_talker.load(tiny)
    fresh_talker.say({"ask": {"messages": HELLO, "max_new_tokens": 3500}})
    assert fresh_talker.close() == 0


def test_the_starter_answers_a_question_and_ends_its_turn(talker, starter_folder):
    assert "loaded" in talker.load(starter_folder)[-1]
    answer, last = talker.ask("What is the capital of France?", max_new_tokens=60)
    assert "Paris" in answer
    assert "<|im" not in answer
    assert last["done"]["reason"] == "end"
