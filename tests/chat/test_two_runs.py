"""Two runs side by side through the service, with the real chat process and a real tiny model."""

from __future__ import annotations

import shutil

import pytest

from modelforge.config.sampling import Sampling
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.services.chats.requests import ChatAsk, Side
from tests.services.exports.conftest import put_trained

pytestmark = pytest.mark.torch

QUESTION = ({"role": "user", "content": "who are you"},)


@pytest.fixture
def forge(tmp_path):
    forge = Forge(Home(tmp_path / "home"))
    yield forge
    forge.close()


def tuned(forge, model, adapter, number):
    run = put_trained(forge.home.root, model, number)
    shutil.copytree(adapter, run.output, dirs_exist_ok=True)
    return run.id


def answers(forge, *sides, **more):
    asked = tuple(Side(model, is_tuned, QUESTION) for model, is_tuned in sides)
    sampling = Sampling(max_new_tokens=24, **more)
    texts = [""] * len(sides)
    for part in forge.chat.ask_sides(ChatAsk(asked, sampling)):
        assert "error" not in part, part
        if "phase" not in part:
            texts[part["side"]] += part.get("text", "")
    return texts


def test_each_side_answers_as_it_does_alone(forge, tiny_model, adapter, second_adapter):
    first = tuned(forge, tiny_model, adapter, 1)
    second = tuned(forge, tiny_model, second_adapter, 2)
    alone = [answers(forge, (run, True))[0] for run in (first, second)]
    base = answers(forge, (str(tiny_model), True))[0]
    assert len({*alone, base}) == 3
    assert answers(forge, (first, True), (second, True)) == alone
    process = forge.chat._client.identity
    assert answers(forge, (first, False), (second, True)) == [base, alone[1]]
    # With a temperature both sides have the same seed, and the same seed gives the same answers.
    sampled = answers(forge, (first, True), (second, True), temperature=1.5, seed=5)
    assert answers(forge, (first, True), (second, True), temperature=1.5, seed=5) == sampled
    assert answers(forge, (first, True), temperature=1.5, seed=5) == sampled[:1]
    assert forge.chat._client.identity == process, "no other process was needed"
