"""The talker's side of a conversation: what it is told, with a stand-in that says it back."""

from __future__ import annotations

import json
import sys

import pytest

from modelforge.config.plan.make import Plan, PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import RunError
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.services.chat_client import ChatClient, ChatModelSpec

PARROT = """
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    if "load" in said:
        print(json.dumps({"loaded": said["load"]}), flush=True)
    elif "ask" in said:
        if said["ask"]["messages"][-1]["content"] == "fail":
            error = {"where": "chat", "what": "It failed.", "remedy": "Ask again."}
            print(json.dumps({"error": error}), flush=True)
            continue
        print(json.dumps({"text": json.dumps(said["ask"])}), flush=True)
        print(json.dumps({"done": {"tokens": 1, "seconds": 0.0}}), flush=True)
"""
HELLO = [{"role": "user", "content": "hello"}]
BARE_PLAN = make_plan(
    TrainingConfig(
        task="text-generation",
        model_name="base",
        dataset="rows",
        compute_specs="low_end",
        use_4bit=False,
    ),
    PlanContext("cpu", "base", "main"),
).as_dict()


@pytest.fixture
def talk(tmp_path):
    talk = ChatClient(Home(tmp_path), [sys.executable, "-c", PARROT])
    yield talk
    talk.close()


def heard(talk, voice, messages=HELLO, **more):
    parts = list(talk.ask(voice, messages, **more))
    return json.loads("".join(part.get("text", "") for part in parts if "phase" not in part))


def test_a_conversation_opens_with_the_system_message_it_was_trained_with(talk):
    taught = ChatModelSpec("base", "adapter", system="You are Nora.")
    assert [each["role"] for each in heard(talk, taught)["messages"]] == ["system", "user"]
    own = [{"role": "system", "content": "Be brief."}, *HELLO]
    assert heard(talk, taught, own)["messages"] == own
    assert heard(talk, ChatModelSpec("base"))["messages"] == HELLO


def test_a_text_and_a_question_are_put_as_they_were_in_training():
    """A model that was taught with the task in words would not know a bare text."""
    short = ChatModelSpec("base", "adapter", task="summarization")
    text = [{"role": "user", "content": "A long text."}]
    wanted = [{"role": "user", "content": "Summarise this text.\n\nA long text."}]
    assert short.prepare_messages(text) == short.prepare_messages(wanted) == wanted
    found = ChatModelSpec("base", "adapter", task="extractive-question-answering")
    passage = {"role": "system", "content": "The mill is old."}
    asked = found.prepare_messages([passage, {"role": "user", "content": "What is old?"}])
    (said,) = asked
    assert said["role"] == "user"
    assert said["content"] == (
        "Answer the question from this text.\n\nThe mill is old.\n\nQuestion: What is old?"
    )
    assert found.prepare_messages(HELLO) == HELLO
    for head in ("seq2seq", "span"):
        plain = ChatModelSpec("base", head=head, task="summarization")
        assert plain.prepare_messages(text) == text


def test_the_base_answers_from_the_same_weights_with_the_adapter_off(talk):
    voice = ChatModelSpec("base", "adapter")
    assert heard(talk, voice)["adapter"] is True
    pid = talk._process.pid
    assert heard(talk, voice, tuned=False)["adapter"] is False
    assert talk._process.pid == pid


def test_a_talker_that_died_is_started_anew(talk):
    voice = ChatModelSpec("base")
    heard(talk, voice)
    talk._process.close()
    assert heard(talk, voice)["messages"] == HELLO


def test_a_failed_answer_is_told_and_the_next_one_comes(talk):
    voice = ChatModelSpec("base")
    with pytest.raises(RunError, match="It failed"):
        heard(talk, voice, [{"role": "user", "content": "fail"}])
    pid = talk._process.pid
    assert heard(talk, voice)["messages"] == HELLO
    assert talk._process.pid == pid, "a failed answer costs no loading"


def a_run(folder, method, *files):
    plan = Plan.from_dict({**BARE_PLAN, "method": method}, {})
    run = RunFolder(folder)
    run.output.mkdir(parents=True)
    for name in files:
        (run.output / name).write_text("{}")
    return run, plan


def test_a_run_speaks_with_its_adapter_or_with_its_whole_model(tmp_path):
    tuned = ChatModelSpec.of_run(
        *a_run(tmp_path / "a", "sft", "adapter_config.json"), "cpu", "Be brief."
    )
    assert tuned == ChatModelSpec(
        "base",
        str(tmp_path / "a" / "output"),
        "cpu",
        "main",
        str(tmp_path / "a"),
        "Be brief.",
        "causal",
    )
    files = "config.json", "model.safetensors"
    whole = ChatModelSpec.of_run(*a_run(tmp_path / "b", "sft", *files), "cpu", "Be brief.")
    assert whole == ChatModelSpec(str(tmp_path / "b" / "output"), None, "cpu", system="Be brief.")
    assert ChatModelSpec.of_run(*a_run(tmp_path / "c", "sft"), "cpu", None) is None


def test_a_run_that_points_or_rewrites_has_its_head_and_no_system_message(tmp_path):
    for name, head in (("span", "span"), ("seq2seq", "seq2seq"), ("dpo", "causal")):
        run = a_run(tmp_path / name, name, "adapter_config.json")
        voice = ChatModelSpec.of_run(*run, "cpu", "Be brief.")
        assert voice.head == voice.as_dict()["head"] == head
        assert voice.system == ("Be brief." if head == "causal" else None)


def test_a_base_model_speaks_as_its_kind_can():
    assert (
        ChatModelSpec.of_model("m", None, "cpu", ("decoder", "LlamaForCausalLM")).head == "causal"
    )
    assert ChatModelSpec.of_model("m", None, "cpu", ("encoder-decoder", "T5")).head == "seq2seq"
    assert (
        ChatModelSpec.of_model("m", None, "cpu", ("encoder", "BertForQuestionAnswering")).head
        == "span"
    )
    assert ChatModelSpec.of_model("m", None, "cpu", ("encoder", "BertForMaskedLM")) is None
