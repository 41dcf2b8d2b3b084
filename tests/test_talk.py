"""The talker's side of a conversation: what it is told, with a stand-in that says it back."""

from __future__ import annotations

import json
import sys

import pytest

from modelforge.errors import RunError
from modelforge.home import Home
from modelforge.talk import Talk, Voice

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


@pytest.fixture
def talk(tmp_path):
    talk = Talk(Home(tmp_path), [sys.executable, "-c", PARROT])
    yield talk
    talk.close()


def heard(talk, voice, messages=HELLO, **more):
    parts = list(talk.ask(voice, messages, **more))
    return json.loads("".join(part.get("text", "") for part in parts if "phase" not in part))


def test_a_conversation_opens_with_the_system_message_it_was_trained_with(talk):
    taught = Voice("base", "adapter", system="You are Nora.")
    assert [each["role"] for each in heard(talk, taught)["messages"]] == ["system", "user"]
    own = [{"role": "system", "content": "Be brief."}, *HELLO]
    assert heard(talk, taught, own)["messages"] == own
    assert heard(talk, Voice("base"))["messages"] == HELLO


def test_the_base_answers_from_the_same_weights_with_the_adapter_off(talk):
    voice = Voice("base", "adapter")
    assert heard(talk, voice)["adapter"] is True
    pid = talk._companion.pid
    assert heard(talk, voice, tuned=False)["adapter"] is False
    assert talk._companion.pid == pid


def test_a_talker_that_died_is_started_anew(talk):
    voice = Voice("base")
    heard(talk, voice)
    talk._companion.close()
    assert heard(talk, voice)["messages"] == HELLO


def test_a_failed_answer_is_told_and_the_next_one_comes(talk):
    voice = Voice("base")
    with pytest.raises(RunError, match="It failed"):
        heard(talk, voice, [{"role": "user", "content": "fail"}])
    pid = talk._companion.pid
    assert heard(talk, voice)["messages"] == HELLO
    assert talk._companion.pid == pid, "a failed answer costs no loading"
