"""One or two models that answer the same question, with a stand-in for the chat process."""

from __future__ import annotations

import json

import pytest

from modelforge.config.sampling import Sampling
from modelforge.errors import BusyError, ConfigError, NotFoundError, RunError
from modelforge.services.chat_client import ChatModelSpec
from modelforge.services.chats.models import first_tools
from modelforge.services.chats.requests import MAX_CHARACTERS, MAX_MESSAGES, ChatAsk, Side
from tests.actors.talks import BASE, OTHER, SHOW, TUNED
from tests.services.chats.conftest import both, question, texts
from tests.services.exports.conftest import put_from_nothing, put_model, put_trained


def loads(parts):
    return [part["text"] for part in parts if "phase" in part and "Loading " in part["text"]]


def test_the_base_and_the_tuned_model_answer_from_one_loaded_model(forge, first):
    parts = list(forge.chat.ask_sides(both(first, first)))
    assert texts(parts) == [BASE, TUNED]
    again = list(forge.chat.ask_sides(both(first, first)))
    assert texts(again) == [BASE, TUNED]
    assert not loads(again), "nothing is loaded again"
    done = [part["done"] for part in again if "done" in part]
    assert [each["context"] for each in done] == [2048, 2048]
    assert done[0]["seed"] == done[1]["seed"]


def test_two_runs_of_one_base_are_loaded_together(forge, first, second):
    parts = list(forge.chat.ask_sides(both(first, second)))
    assert texts(parts) == [TUNED, OTHER]
    assert forge.chat._client.loaded.others, "both adapters are loaded"
    assert not loads(list(forge.chat.ask_sides(both(first, second))))
    # Each of them alone needs no load either.
    alone = list(forge.chat.ask(second, question()))
    assert not loads(alone)


def test_runs_of_different_bases_are_loaded_one_after_the_other(forge, first, tmp_path):
    other_model = put_model(tmp_path / "other", hidden_size=32)
    other = put_trained(forge.home.root, other_model, 3).id
    ask = both(first, other, SHOW)
    models = [json.loads(text)["model"] for text in texts(list(forge.chat.ask_sides(ask)))]
    assert models == [str(tmp_path / "tiny"), str(other_model)]
    parts = list(forge.chat.ask_sides(ask))
    assert [part["side"] for part in parts if "done" in part] == [1, 0], "the loaded one first"
    assert [json.loads(text)["model"] for text in texts(parts)] == models


def test_both_sides_get_the_same_sampling(forge, first, second):
    sampling = Sampling(0.7, 0.9, 40, 1.1, 64, 43)
    parts = list(forge.chat.ask_sides(both(first, second, SHOW, sampling=sampling)))
    seen = [json.loads(text) for text in texts(parts)]
    names = sampling.as_dict()
    assert [{name: each[name] for name in names} for each in seen] == [names, names]
    free = both(first, second, SHOW, sampling=Sampling(temperature=1.0))
    one, other = (json.loads(text)["seed"] for text in texts(list(forge.chat.ask_sides(free))))
    assert one == other
    assert one is not None


def test_an_error_of_one_side_leaves_the_other(forge, first, second):
    sides = (Side(first, True, question("Fail: broken.")), Side(second, True, question()))
    parts = list(forge.chat.ask_sides(ChatAsk(sides)))
    (failed,) = [part for part in parts if "error" in part]
    assert (failed["side"], failed["error"]["what"]) == (0, "broken.")
    assert texts(parts)[1] == OTHER
    with pytest.raises(RunError, match="broken"):
        list(forge.chat.ask_sides(ChatAsk(sides[:1])))


def test_a_tool_call_is_read_and_its_result_is_passed_on(forge, first):
    tools = ({"name": "weather", "parameters": {}},)
    ask = ChatAsk((Side(first, True, question("Tool: weather")),), tools=tools)
    (done,) = [part["done"] for part in forge.chat.ask_sides(ask) if "done" in part]
    call = {"name": "weather", "arguments": {"city": "Paris"}}
    assert done["tool_calls"] == [call]
    messages = (
        *question("Tool: weather"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "weather", "content": SHOW},
    )
    ask = ChatAsk((Side(first, True, messages),), tools=tools)
    seen = json.loads(texts(list(forge.chat.ask_sides(ask)))[0])
    assert seen["tools"][0]["function"]["name"] == "weather"
    assert seen["messages"][1]["tool_calls"][0]["function"] == call
    assert seen["messages"][2]["name"] == "weather"


def test_the_base_of_a_run_that_trained_every_weight_is_the_base_model(forge, model):
    run = put_trained(forge.home.root, model, 4, whole=True)
    seen = [
        json.loads(text) for text in texts(list(forge.chat.ask_sides(both(run.id, run.id, SHOW))))
    ]
    assert [each["model"] for each in seen] == [str(model), str(run.output)]


def test_a_run_from_nothing_continues_texts_and_has_no_base_model(forge, model):
    run = put_from_nothing(forge.home.root, model, 4, name="d6")
    view = forge.chat.describe(run.id)
    assert (view.format, view.has_base, view.base_name, view.context) == (
        "continuation",
        False,
        "",
        128,
    )
    assert view.cpu.possible
    spec = forge.chat.find_model(run.id)[0]
    assert (spec.model_path, spec.as_dict()["continues"]) == (str(run.output), True)
    with pytest.raises(ConfigError, match="“d6” was trained from nothing and has no base model"):
        forge.chat.ask_sides(both(run.id, run.id))


def test_a_gpu_that_is_not_there_is_refused(forge, first):
    with pytest.raises(ConfigError, match="no GPU 7"):
        forge.chat.ask_sides(ChatAsk((Side(first, True, question()),), gpu=7))


def test_a_chosen_gpu_loads_the_model_again():
    here = ChatModelSpec("base", device="cuda", gpu_index=0)
    there = ChatModelSpec("base", device="cuda", gpu_index=1, gpu_chosen=True)
    assert not here.serves(there)
    assert here.serves(ChatModelSpec("base", device="cuda", gpu_index=1))


def test_on_the_cpu_no_lease_is_taken(forge, first):
    ask = ChatAsk((Side(first, True, question(SHOW)),), device="cpu")
    seen = json.loads(texts(list(forge.chat.ask_sides(ask)))[0])
    assert seen["device"] == "cpu"
    assert not forge.home.lease.exists()
    assert not forge.chat._client.alive
    list(forge.chat.ask(first, question()))
    assert forge.home.lease.exists()
    forge.chat.close()
    assert not forge.chat._cpu_client.alive


def test_the_other_server_is_busy(server, forge, first):
    list(forge.chat.ask(first, question()))
    with pytest.raises(BusyError):
        server().chat.ask_sides(both(first, first))


def test_how_a_model_is_asked(forge, first, model):
    view = forge.chat.describe(first)
    assert (view.name, view.format, view.tuned, view.has_base) == (
        "captain",
        "conversation",
        True,
        True,
    )
    assert view.base_name == "tiny"
    assert view.context == 128
    assert view.cpu.possible
    assert view.cpu.seconds > 0
    base = forge.chat.describe(str(model))
    assert (base.tuned, base.has_base) == (False, False)
    with pytest.raises(NotFoundError):
        forge.chat.describe("no-such-model")


def test_the_tools_of_the_training_data_are_shown(forge, first, tmp_path):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    file = tmp_path / "tools.jsonl"
    rows = [{"messages": messages}, {"messages": messages, "tools": tools}]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (loaded,) = forge.datasets.load_sources(forge.datasets.parse_sources(str(file)))
    record = {"sources": [loaded.as_entry()]}
    assert list(first_tools(record)) == tools
    file.unlink()
    for wrong in (record, {}, None, {"sources": [{}]}):
        assert first_tools(wrong) == ()
    assert forge.chat.describe(first).tools == ()


ONE = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([], "0 messages"),
        ([ONE] * (MAX_MESSAGES + 1), "201 messages"),
        ([{"role": "user", "content": "x" * (MAX_CHARACTERS + 1)}], "100,001 characters"),
        ([{"role": "user", "content": "x" * MAX_CHARACTERS}] * 21, "too large"),
        ([{"role": "root", "content": "x"}], "no known role"),
        ([{"role": "user", "content": 5}], "no known role"),
        ([{"role": "user"}], "no known role"),
        ([ONE, {"role": "assistant", "content": "y"}], "ends with an answer"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}, ONE], "cannot be read"),
    ],
)
def test_an_unusable_conversation_is_refused(forge, first, messages, what):
    with pytest.raises(ConfigError, match=what):
        forge.chat.ask_sides(ChatAsk((Side(first, True, tuple(messages)),)))


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (ChatAsk(()), "0 sides"),
        (ChatAsk((Side("", True, (ONE,)),)), "no name"),
        (ChatAsk((Side("m" * 501, True, (ONE,)),)), "too long"),
        (ChatAsk((Side("m", True, (ONE,)), Side("m", True, (ONE,)))), "the same model"),
        (ChatAsk((Side("m", True, (ONE,)),), blind=True), "Only one model"),
        (ChatAsk((Side("m", True, (ONE,)),), tools=({},)), "named functions"),
        (ChatAsk((Side("m", True, (ONE,)),), tools=({"name": "x" * 10**5},)), "as JSON"),
        (ChatAsk((Side("m", True, (ONE,)),), Sampling(temperature=9)), "9 is not possible"),
    ],
)
def test_an_unusable_request_is_refused(ask, what):
    with pytest.raises(ConfigError, match=what):
        ask.checked()
