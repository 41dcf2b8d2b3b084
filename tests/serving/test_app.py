"""The routes over ASGI, with a model that plays its part."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from modelforge.errors import BusyError, Problem, RunError
from modelforge.serving import app as api
from tests.security.conftest import OWN_HOST, http_scope, run_to_end, send_scope

KEY = "mf-0123456789abcdef"
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
LOADING = {"phase": "loading", "text": "Loading the model."}
DONE = {"done": {"tokens": 2, "prompt_tokens": 3, "seconds": 0.1, "reason": "end"}}
PARTS = [LOADING, {"text": "Ahoy"}, {"text": " there"}, DONE]


class Model:
    """Replies with fixed parts, or raises the exceptions among them."""

    model, since = "captain", 5.0

    def __init__(self, parts=PARTS):
        self.parts = parts
        self.asked = []
        self.closed = 0

    def knows(self, name):
        return name == "captain"

    def reply(self, request):
        self.asked.append(request)
        try:
            for part in self.parts:
                if isinstance(part, Exception):
                    raise part
                yield part
        finally:
            self.closed += 1


def send(path, *, model=None, body=None, method="GET", key=KEY, **headers):
    """Return the response to a request of a client with the key."""
    app = api.create_app(model or Model(), key=KEY)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        named["authorization"] = f"Bearer {key}"
    scope = http_scope(path, method="POST" if body is not None else method, headers=named)
    raw = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    return run_to_end(send_scope(app, scope, [raw]))


def read(response):
    return json.loads(response.body)


def events(response):
    texts = response.body.decode().split("\n\n")
    assert texts[-1] == ""
    assert all(text.startswith("data: ") for text in texts[:-1])
    return [text[6:] if text == "data: [DONE]" else json.loads(text[6:]) for text in texts[:-1]]


def test_the_model_is_listed():
    listed = read(send("/v1/models"))
    assert [each["id"] for each in listed["data"]] == ["captain"]
    assert read(send("/v1/models/captain"))["object"] == "model"
    assert send("/v1/models/other").status == 404


def test_a_conversation_is_answered_in_one_piece():
    response = send("/v1/chat/completions", body={**HELLO, "model": "captain"})
    reply = read(response)
    assert response.status == 200
    assert response.headers["cache-control"] == "no-store"
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["message"] == {
        "role": "assistant", "content": "Ahoy there", "refusal": None
    }  # fmt: skip
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_a_conversation_is_answered_as_a_stream():
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
    response = send("/v1/chat/completions", body=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events(response)
    assert last == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    texts = [each["choices"][0]["delta"].get("content", "") for each in chunks if each["choices"]]
    assert "".join(texts) == "Ahoy there"
    assert [each["choices"][0]["finish_reason"] for each in chunks[:-1]][-1] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 5
    assert len({each["id"] for each in chunks}) == 1


def test_a_prompt_is_continued():
    reply = read(send("/v1/completions", body={"prompt": "Once"}))
    assert (reply["object"], reply["choices"][0]["text"]) == ("text_completion", "Ahoy there")
    *chunks, _ = events(send("/v1/completions", body={"prompt": "Once", "stream": True}))
    assert "".join(each["choices"][0]["text"] for each in chunks) == "Ahoy there"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_reply_at_its_limit_says_so():
    model = Model([{"text": "A"}, {"done": {"reason": "length", "tokens": 1}}])
    reply = read(send("/v1/chat/completions", model=model, body=HELLO))
    assert reply["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("key", [None, "", "wrong", KEY[:-1], KEY + "0", KEY.upper()])
@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/models", None), ("/v1/chat/completions", HELLO), ("/", None), ("/nowhere", None)],
)
def test_every_path_needs_the_key(path, body, key):
    model = Model()
    response = send(path, model=model, body=body, key=key)
    assert response.status == 401
    assert read(response)["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert model.asked == []


def test_another_host_and_another_site_are_refused_before_the_key():
    for headers in ({"host": "evil.example"}, {"host": OWN_HOST, "origin": "https://evil.example"}):
        response = send("/v1/models", **headers)
        assert response.status == 403
        assert read(response)["error"]["type"] == "permission_error"
        assert not any(name.startswith("access-control") for name in response.headers)


def test_a_large_body_is_refused():
    response = send("/v1/chat/completions", body=b"x", content_length=str(10**9))
    assert response.status == 413
    message = read(response)["error"]["message"]
    assert message == "The body is larger than 4.0 MiB. Send less."  # a path would be no help
    assert send("/v1/chat/completions", body=b" " * (4 * 2**20 + 1)).status == 413


def test_another_model_is_not_found():
    response = send("/v1/chat/completions", body={**HELLO, "model": "gpt-9"})
    assert response.status == 404
    assert read(response)["error"]["code"] == "model_not_found"
    assert "captain" in read(response)["error"]["message"]


def test_paths_and_methods_that_do_not_exist_have_json_errors():
    assert "/v1/chat/completions" in read(send("/v1/embeddings", body={}))["error"]["message"]
    response = send("/v1/chat/completions", method="GET")
    assert response.status == 405
    wanted = "GET is not possible at '/v1/chat/completions'. Use POST."
    assert read(response)["error"]["message"] == wanted


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BusyError(Problem("machine", "A run is active.", "Stop it."), "x"), 503, "busy"),
        (RunError(Problem("messages", "It has 9,000 tokens.", "Send less.")), 400, "invalid_value"),
        (RunError(Problem("chat", "It has ended.", "Try again.")), 500, "model_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_text_has_a_status(error, status, code, stream):
    body = {**HELLO, "stream": stream}
    response = send("/v1/chat/completions", model=Model([LOADING, error]), body=body)
    assert response.status == status
    assert read(response)["error"]["code"] == code
    assert error.problems[0].what in read(response)["error"]["message"]
    assert response.headers.get("x-should-retry") == ("false" if code == "busy" else None)


def test_an_error_in_the_middle_ends_the_stream_with_its_text():
    failure = RunError(Problem("chat", "It has ended.", "Try again."))
    model = Model([{"text": "Ahoy"}, failure])
    *_, error, last = events(
        send("/v1/chat/completions", model=model, body={**HELLO, "stream": True})
    )
    assert "It has ended" in error["error"]["message"]
    assert last == "[DONE]"


def test_an_unexpected_error_is_logged_and_has_no_traceback(tmp_path):
    log = tmp_path / "serving.log"
    app = api.create_app(Model([ZeroDivisionError("secret")]), key=KEY, error_log=log)
    scope = http_scope(
        "/v1/chat/completions", method="POST", headers={"authorization": f"Bearer {KEY}"}
    )
    response = run_to_end(send_scope(app, scope, [json.dumps(HELLO).encode()]))
    assert response.status == 500
    assert b"secret" not in response.body
    assert "ZeroDivisionError: secret" in log.read_text()


class SlowModel(Model):
    """Sends parts until it is closed."""

    def __init__(self):
        super().__init__()
        self.began = threading.Event()

    def reply(self, request):
        self.asked.append(request)
        try:
            while True:
                self.began.set()
                yield {"text": "x"}
        finally:
            self.closed += 1


def disconnecting(model, body):
    """Send a request whose client leaves when the reply has begun; return when it is over."""

    async def run():
        app = api.create_app(model, key=KEY)
        headers = {"authorization": f"Bearer {KEY}"}
        scope = http_scope("/v1/chat/completions", method="POST", headers=headers)
        messages = [{"type": "http.request", "body": json.dumps(body).encode()}]

        async def receive():
            if messages:
                return messages.pop()
            while not model.began.is_set():
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(_message):
            await asyncio.sleep(0)

        await asyncio.wait_for(app(scope, receive, send), 20)

    run_to_end(run())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_reply(stream):
    model = SlowModel()
    disconnecting(model, {**HELLO, "stream": stream})
    assert model.closed == 1


def test_requests_wait_for_their_turn_and_too_many_are_refused(monkeypatch):
    monkeypatch.setattr(api, "MAX_WAITING", 2)
    release = threading.Event()

    class Waiting(Model):
        def reply(self, request):
            self.asked.append(request)
            release.wait(10)
            yield from PARTS

    model = Waiting()

    async def run():
        app = api.create_app(model, key=KEY)

        def ask():
            headers = {"authorization": f"Bearer {KEY}"}
            scope = http_scope("/v1/chat/completions", method="POST", headers=headers)
            return send_scope(app, scope, [json.dumps(HELLO).encode()])

        tasks = []
        for count in range(4):
            tasks.append(asyncio.create_task(ask()))
            await asyncio.sleep(0.1)
            assert len(model.asked) <= 1, count
        refused = await tasks[3]
        release.set()
        return refused, [await task for task in tasks[:3]]

    refused, answered = run_to_end(run())
    assert refused.status == 503
    assert read(refused)["error"]["code"] == "overloaded"
    assert [response.status for response in answered] == [200, 200, 200]


def test_a_stream_that_is_not_read_gives_its_turn_to_the_next(monkeypatch):
    monkeypatch.setattr(api, "SEND_TIMEOUT_S", 0.2)
    model = SlowModel()

    async def run():
        app = api.create_app(model, key=KEY)
        headers = {"authorization": f"Bearer {KEY}"}
        scope = http_scope("/v1/chat/completions", method="POST", headers=headers)
        body = json.dumps({**HELLO, "stream": True}).encode()
        messages = [{"type": "http.request", "body": body}]

        async def receive():
            if messages:
                return messages.pop()
            return await asyncio.sleep(3600)

        async def send(message):
            if message["type"] == "http.response.body":
                await asyncio.sleep(3600)

        await asyncio.wait_for(app(scope, receive, send), 20)

    run_to_end(run())
    assert model.closed == 1
