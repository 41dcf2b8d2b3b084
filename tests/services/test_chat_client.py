"""The chat client, with a stand-in process that repeats each request."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from modelforge.config.plan.make import Plan, PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import RunError
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.services.chat_client import ChatClient, ChatModelSpec
from modelforge.services.chats.models import chat_format

PARROT = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if "load" in request:
        print(json.dumps({"loaded": request["load"]}), flush=True)
    elif "ask" in request:
        if request["ask"]["messages"][-1]["content"] == "fail":
            error = {"where": "chat", "what": "It failed.", "remedy": "Ask again."}
            print(json.dumps({"error": error}), flush=True)
            continue
        print(json.dumps({"text": json.dumps(request["ask"])}), flush=True)
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
def client(tmp_path):
    client = ChatClient(Home(tmp_path), [sys.executable, "-c", PARROT])
    yield client
    client.close()


def reply(client, spec, messages=HELLO, **more):
    parts = list(client.ask(spec, messages, **more))
    return json.loads("".join(part.get("text", "") for part in parts if "phase" not in part))


def test_a_conversation_starts_with_the_system_message_of_the_training(client):
    spec = ChatModelSpec("base", "adapter", system="You are Nora.")
    assert [each["role"] for each in reply(client, spec)["messages"]] == ["system", "user"]
    own = [{"role": "system", "content": "Be brief."}, *HELLO]
    assert reply(client, spec, own)["messages"] == own
    assert reply(client, ChatModelSpec("base"))["messages"] == HELLO


def test_a_new_model_is_asked_to_continue_a_text():
    assert chat_format(ChatModelSpec("base", continues=True)) == "continuation"
    assert chat_format(ChatModelSpec("base")) == "conversation"


def test_a_text_and_a_question_are_put_as_they_were_in_training():
    """A model that was trained with the task in words would not know a bare text."""
    short = ChatModelSpec("base", "adapter", task="summarization")
    text = [{"role": "user", "content": "A long text."}]
    wanted = [{"role": "user", "content": "Summarise this text.\n\nA long text."}]
    assert short.prepare_messages(text) == short.prepare_messages(wanted) == wanted
    found = ChatModelSpec("base", "adapter", task="extractive-question-answering")
    passage = {"role": "system", "content": "The mill is old."}
    asked = found.prepare_messages([passage, {"role": "user", "content": "What is old?"}])
    (message,) = asked
    assert message["role"] == "user"
    assert message["content"] == (
        "Answer the question from this text.\n\nThe mill is old.\n\nQuestion: What is old?"
    )
    assert found.prepare_messages(HELLO) == HELLO
    for head in ("seq2seq", "span"):
        plain = ChatModelSpec("base", head=head, task="summarization")
        assert plain.prepare_messages(text) == text


def test_the_base_answers_from_the_same_weights_with_the_adapter_off(client):
    spec = ChatModelSpec("base", "adapter")
    assert reply(client, spec)["adapter"] == "adapter"
    pid = client._process.pid
    assert reply(client, spec, tuned=False)["adapter"] is False
    assert client._process.pid == pid


def test_a_chat_process_that_died_is_started_again(client):
    spec = ChatModelSpec("base")
    reply(client, spec)
    client._process.close()
    assert reply(client, spec)["messages"] == HELLO


def test_a_failed_reply_raises_and_the_next_one_works(client):
    spec = ChatModelSpec("base")
    with pytest.raises(RunError, match="It failed"):
        reply(client, spec, [{"role": "user", "content": "fail"}])
    pid = client._process.pid
    assert reply(client, spec)["messages"] == HELLO
    assert client._process.pid == pid, "the model is not loaded again"


def a_run(folder, method, *files):
    plan = Plan.from_dict({**BARE_PLAN, "method": method}, {})
    run = RunFolder(folder)
    run.output.mkdir(parents=True)
    for name in files:
        (run.output / name).write_text("{}")
    config = {"model": {"system_prompt": "Be brief."}}
    return run, SimpleNamespace(plan=plan, config=config)


def test_a_run_chats_with_its_adapter_or_with_its_whole_model(tmp_path):
    tuned = ChatModelSpec.of_run(*a_run(tmp_path / "a", "sft", "adapter_config.json"), "cpu")
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
    whole = ChatModelSpec.of_run(*a_run(tmp_path / "b", "sft", *files), "cpu")
    assert whole == ChatModelSpec(str(tmp_path / "b" / "output"), None, "cpu", system="Be brief.")
    assert ChatModelSpec.of_run(*a_run(tmp_path / "c", "sft"), "cpu") is None


def test_a_run_of_a_span_or_seq2seq_model_has_its_head_and_no_system_message(tmp_path):
    for name, head in (("span", "span"), ("seq2seq", "seq2seq"), ("dpo", "causal")):
        spec = ChatModelSpec.of_run(*a_run(tmp_path / name, name, "adapter_config.json"), "cpu")
        assert spec.head == spec.as_dict()["head"] == head
        assert spec.system == ("Be brief." if head == "causal" else None)


@pytest.mark.parametrize(
    ("kind", "architecture", "head"),
    [
        ("decoder", "LlamaForCausalLM", "causal"),
        ("encoder-decoder", "T5", "seq2seq"),
        ("encoder", "BertForQuestionAnswering", "span"),
        ("encoder", "BertForMaskedLM", None),
    ],
)
def test_a_base_model_has_the_head_of_its_kind(kind, architecture, head):
    facts = SimpleNamespace(path="m", revision=None, kind=kind, architecture=architecture)
    spec = ChatModelSpec.of_model(facts, "cpu")
    assert (spec.head if spec else None) == head


def test_the_chat_process_sees_the_gpu_of_its_model_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa,GPU-bb")
    shows = """
import json, os, sys
sys.stdin.readline()
print(json.dumps({"loaded": os.environ["CUDA_VISIBLE_DEVICES"]}), flush=True)
sys.stdin.readline()
print(json.dumps({"done": {}}), flush=True)
"""
    for spec, seen in (
        (ChatModelSpec("base", device="cuda", gpu_index=1), "GPU-bb"),
        (ChatModelSpec("base", device="cpu", gpu_index=1), "-1"),
    ):
        client = ChatClient(Home(tmp_path), [sys.executable, "-c", shows])
        parts = list(client.ask(spec, HELLO))
        client.close()
        assert [part["loaded"] for part in parts if "loaded" in part] == [seen]
    other = ChatModelSpec("base", device="cuda", gpu_index=0)
    assert other == ChatModelSpec("base", device="cuda", gpu_index=1), "a loaded model stays"
