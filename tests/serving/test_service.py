"""The API server of a home over real HTTP; the chat process is an actor."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from pathlib import Path

import httpx
import pytest

from modelforge.errors import BusyError, ConfigError, ForgeError, NotFoundError
from modelforge.runs.process.identity import kill_tree, wait_ended
from tests.services.test_runs import asked
from tests.serving.conftest import (
    HELLO,
    TUNED,
    client_of,
    make_export,
    play,
    serve,
    wait_for,
)

ASK = {"messages": HELLO}
FAILS_TO_LOAD = """
import json, sys
sys.stdin.readline()
error = {"where": "gguf", "what": "llama.cpp cannot load it.", "remedy": "Export it again."}
print(json.dumps({"error": error}), flush=True)
sys.stdin.readline()
"""


def lease(forge):
    holder = forge.serving._lease.holder()
    return holder.kind if holder else None


def answers(address):
    try:
        return bool(httpx.get(f"{address}/models").status_code)
    except httpx.TransportError:
        return False


def make_idle(forge):
    forge.serving._session.last_used -= 10_000
    forge.tend()
    assert forge.serving.current().state == "idle"


def test_a_served_model_answers_and_is_counted(forge, model):
    with serve(forge, model) as client:
        assert lease(forge) == "serving"
        reply = client.post("/chat/completions", json=ASK).json()
        assert reply["choices"][0]["message"]["content"] == TUNED
        view = forge.serving.current()
        assert (view.state, view.what, view.kind) == ("on", str(model), "model")
        assert (view.requests, view.tokens) == (1, len(TUNED.split()))
        assert view.last_request is not None
        assert view.tokens_per_second > 0
        assert 0 < view.unloads_in <= 600
        assert view.memory_bytes > 0
        assert view.is_local
        assert forge.serving.stop().state == "off"
        assert lease(forge) is None
        with pytest.raises(httpx.TransportError):
            client.get("/models")
    assert not forge.serving._client.alive


def test_the_key_is_shown_masked_and_written_nowhere(forge, model):
    with serve(forge, model) as client:
        assert client.get("/models", headers={"authorization": "Bearer no"}).status_code == 401
        client.post("/chat/completions", json=ASK)
        key = forge.serving.secret()
        view = forge.serving.current()
        assert len(key) > 40
        assert view.key.startswith("mf-")
        assert view.key.endswith(key[-4:])
        assert len(view.key) < 20
        assert all(view.address in text for text in forge.serving.examples().values())
        for file in forge.home.root.rglob("*"):
            assert not file.is_file() or key.encode() not in file.read_bytes(), file
    forge.serving.stop()
    with pytest.raises(NotFoundError):
        forge.serving.secret()


def test_two_starts_have_two_keys(forge, model):
    keys = set()
    for _ in range(2):
        serve(forge, model).close()
        keys.add(forge.serving.secret())
        forge.serving.stop()
    assert len(keys) == 2


def test_a_run_is_not_started_while_a_model_is_served(forge, model, data):
    with serve(forge, model) as client:
        with pytest.raises(BusyError, match=r"API server of tiny .* Export page") as refused:
            forge.runs.start(asked(model, data))
        assert refused.value.holder == "serving"
        waiting = forge.queue.add(asked(model, data))
        assert forge.queue.start_next() is None
        assert "API server of" in forge.queue.view().why
        with pytest.raises(BusyError, match="API server of"):
            list(forge.chat.ask(str(model), HELLO))
        make_idle(forge)
        assert lease(forge) is None
        assert forge.runs.active() == waiting, "the queue goes on while the model is unloaded"
        refused = client.post("/chat/completions", json=ASK)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert "is using this computer" in refused.json()["error"]["message"]
        assert forge.serving.current().state == "idle"
        assert "is using" in forge.serving.current().problem.what
        forge.runs.stop(waiting)
        wait_for(lambda: forge.runs.state(waiting).is_over, "the run is over")
        assert client.post("/chat/completions", json=ASK).status_code == 200
        assert forge.serving.current().problem is None


def test_a_model_is_not_served_while_a_run_is_active(forge, model, data):
    forge.runs.start(asked(model, data))
    with pytest.raises(BusyError, match="is using this computer"):
        forge.serving.start(str(model), port=0)
    assert forge.serving.current().state == "off"


def test_a_start_ends_the_chat_of_its_own_server(forge, model):
    assert list(forge.chat.ask(str(model), HELLO))
    serve(forge, model).close()
    assert not forge.chat._client.alive
    assert lease(forge) == "serving"


def test_a_chat_that_is_in_use_is_not_ended_by_a_request(forge, model):
    with serve(forge, model) as client:
        make_idle(forge)
        assert list(forge.chat.ask(str(model), HELLO))
        refused = client.post("/chat/completions", json=ASK)
        assert refused.status_code == 503
        assert "Chat with tiny" in refused.json()["error"]["message"]
        forge.chat.close()
        assert client.post("/chat/completions", json=ASK).status_code == 200


def test_an_idle_model_is_unloaded_and_loaded_by_the_next_request(forge, model):
    with serve(forge, model, idle_minutes=1) as client:
        first = forge.serving._client.identity
        forge.tend()
        assert forge.serving.current().state == "on"
        make_idle(forge)
        assert wait_ended(first, 5.0)
        assert forge.serving.current().unloads_in is None
        assert client.get("/models").status_code == 200, "a list needs no model"
        assert forge.serving.current().state == "idle"
        assert client.post("/chat/completions", json=ASK).status_code == 200
        assert forge.serving.current().state == "on"
        assert forge.serving._client.identity != first


def test_without_a_time_the_model_stays(forge, model):
    serve(forge, model, idle_minutes=0).close()
    forge.serving._session.last_used -= 10**6
    forge.tend()
    assert forge.serving.current().state == "on"
    for minutes in (-1, 10**9, float("nan")):
        with pytest.raises(ConfigError, match="minutes"):
            forge.serving.start(str(model), idle_minutes=minutes)


def test_a_process_that_died_is_shown_and_started_by_the_next_request(forge, model):
    with serve(forge, model) as client:
        who = forge.serving._client.identity
        kill_tree(who)
        assert wait_ended(who, 5.0)
        wait_for(lambda: forge.serving.current().state == "idle", "the end is noticed")
        forge.tend()
        view = forge.serving.current()
        assert "process of the model has ended" in view.problem.what
        assert lease(forge) is None
        assert "has ended" in Path(view.log).read_text("utf-8")
        assert client.post("/chat/completions", json=ASK).status_code == 200
        assert forge.serving.current().problem is None


def test_a_port_in_use_is_named(forge, model):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BusyError, match=f"{port} cannot be used: another program uses it"):
            forge.serving.start(str(model), port=port)
    assert forge.serving.current().state == "off"
    assert lease(forge) is None
    serve(forge, model).close()


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"port": -1}, "port"),
        ({"port": 65536}, "port"),
        ({"port": 0, "host": "192.0.2.1"}, "host"),
        ({"port": 0, "host": ""}, "host"),
        ({"port": 0, "key": "short"}, "API key"),
    ],
)
def test_what_cannot_be_listened_on_is_named(forge, model, options, where):
    with pytest.raises(ConfigError) as refused:
        forge.serving.start(str(model), **options)
    assert refused.value.problems[0].where == where
    assert forge.serving.current().state == "off"


def test_a_start_without_room_for_its_record_leaves_nothing(forge, home, model, monkeypatch):
    failures = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    home.serving.mkdir(parents=True)  # as a full disk: the record cannot be written
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    with pytest.raises(ForgeError, match=r"serving\.json"):
        forge.serving.start(str(model), port=port)
    assert forge.serving.current().state == "off"
    assert not answers(f"http://127.0.0.1:{port}/v1")
    assert not failures
    home.serving.rmdir()
    forge.serving.start(str(model), port=port)


def test_a_second_model_is_refused_with_the_first_ones_address(forge, model):
    serve(forge, model).close()
    with pytest.raises(BusyError, match=r"tiny is served at http://127.0.0.1:\d+/v1"):
        forge.serving.start(str(model), port=0)
    assert forge.serving.current().state == "on"


def test_what_does_not_exist_is_not_served(forge):
    with pytest.raises(NotFoundError):
        forge.serving.start("no-such-run", port=0)


def test_a_model_that_cannot_be_loaded_fails_with_its_cause(opened, home, model):
    forge = opened([sys.executable, "-c", FAILS_TO_LOAD])
    address = forge.serving.start(str(model), port=0).address
    wait_for(lambda: forge.serving.current().state == "failed", "the failure is shown")
    view = forge.serving.current()
    assert view.problem.what == "llama.cpp cannot load it."
    assert view.key == ""
    wait_for(lambda: lease(forge) is None, "the lease is free")
    wait_for(lambda: not answers(address), "the server is closed")
    forge.serving._client._command = play("talks")
    serve(forge, model).close()


def test_a_stop_ends_a_reply_in_the_middle(forge, model):
    long = {"messages": [{"role": "user", "content": "Echo: " + "word " * 500}], "stream": True}
    with serve(forge, model) as client, client.stream("POST", "/chat/completions", json=long) as r:
        lines = r.iter_lines()
        while "word" not in next(lines):
            pass
        stopper = threading.Thread(target=forge.serving.stop)
        stopper.start()
        rest: list[str] = []
        with contextlib.suppress(httpx.TransportError):
            rest.extend(lines)
        stopper.join(20)
        assert not stopper.is_alive()
    assert any('"error"' in line for line in rest)
    assert not forge.serving._client.alive


def test_a_client_that_leaves_makes_way_for_the_next(forge, model):
    long = {"messages": [{"role": "user", "content": "Echo: " + "word " * 100}], "stream": True}
    with serve(forge, model) as client:
        with client.stream("POST", "/chat/completions", json=long) as r:
            next(r.iter_lines())
        assert client.post("/chat/completions", json=ASK).status_code == 200


def test_another_server_of_the_home_names_the_one_that_serves(opened, model):
    serving, other = opened(), opened()
    serve(serving, model).close()
    assert "tiny is served at http://127.0.0.1" in other.serving.current().elsewhere
    with pytest.raises(BusyError, match="API server of"):
        other.serving.start(str(model), port=0)
    serving.serving.stop()
    assert other.serving.current().elsewhere == ""


def test_an_end_without_a_stop_is_shown_later(forge, model):
    serve(forge, model).close()
    record = json.loads(forge.home.serving.read_text())
    forge.serving.stop()
    forge.home.serving.write_text(json.dumps(record | {"pid": 2**22 + 1}))
    assert "has ended without a stop" in forge.serving.current().elsewhere
    forge.home.serving.write_text("[]")
    assert forge.serving.current().elsewhere == ""


def test_an_export_that_is_served_is_not_deleted(forge, home):
    def gguf(folder):
        (folder / "a.gguf").write_bytes(b"GGUF")

    make_export(home, "one", gguf, format="gguf")
    forge.serving.guard("one")
    serve(forge, "one").close()
    with pytest.raises(BusyError, match="Stop serving it first"):
        forge.serving.guard("one")
    forge.serving.guard("two")
    forge.serving.stop()
    forge.serving.guard("one")


def test_the_log_keeps_no_texts(forge, model):
    with serve(forge, model) as client:
        secret = "a sentence that is private"
        message = [{"role": "user", "content": f"Echo: {secret}"}]
        assert secret in client.post("/chat/completions", json={"messages": message}).text
        log = (forge.home.logs / "serving.log").read_text("utf-8")
    assert "Reply:" in log
    assert secret not in log


def test_requests_before_the_model_is_loaded_wait_for_it(forge, model):
    forge.serving.start(str(model), port=0)
    view = forge.serving.current()
    headers = {"authorization": f"Bearer {forge.serving.secret()}"}
    reply = httpx.post(f"{view.address}/chat/completions", json=ASK, headers=headers, timeout=30)
    assert reply.status_code == 200
    client_of(forge).close()
