"""The dial of a training from nothing over REST: what each depth means, also with bad settings."""

from __future__ import annotations

import time

import pytest

from modelforge.services.pretraining.dial import DEPTHS

SENTENCE = "The miller walked to the river and counted the stones that lay in the cold water. "
NUMBERS = ("parameters", "tokens", "flops", "memory_gib", "seconds")
# The slowest request takes some 2 s here: 12 searches for settings that fit.
PATIENCE_S = 20.0


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(SENTENCE * 40 for _ in range(60)), "utf-8")
    return str(file)


@pytest.fixture
def dial(client, text):
    def ask(**stated):
        named = {name.replace("__", "."): value for name, value in stated.items()}
        settings = {"dataset": text, "compute_specs": "low_end", "pretraining.enabled": True}
        return client.post("/api/dial", json=settings | named)

    return ask


def values(response, name):
    assert response.status_code == 200, response.text
    return [point[name] for point in response.json()["points"]]


def test_each_depth_has_its_size_and_time(dial):
    response = dial()
    assert values(response, "depth") == list(DEPTHS)
    for name in NUMBERS:
        listed = values(response, name)
        assert None not in listed, name
        assert listed == sorted(set(listed)), name
    assert response.json()["memory_available_gib"] > 0


def test_settings_of_the_shape_count(dial):
    small, large = dial(pretraining__vocab_size=512), dial(pretraining__vocab_size=65_536)
    assert all(
        few < many
        for few, many in zip(values(small, "parameters"), values(large, "parameters"), strict=True)
    )
    by_steps = dial(max_steps=7)
    assert set(values(by_steps, "tokens")) == {values(by_steps, "tokens")[0]}


@pytest.mark.parametrize(
    "stated",
    [
        {"dataset": "/nowhere/at/all.txt"},
        {"dataset": ""},
        {"pretraining__vocab_size": 2_000_000},
        {"pretraining__vocab_size": "many"},
        {"pretraining__tokenizer": "no/one"},
        {"pretraining__head_dim": 7},
        {"pretraining__arch": "gpt"},
        {"max_steps": -1, "pretraining__target_param_data_ratio": -1},
        {"pretraining__window_pattern": "SX", "pretraining__arch": "qwen3"},
        {"model_name": "starter"},
        {"no_such_setting": 1},
    ],
)
def test_what_cannot_be_used_gives_nulls_and_preflight_names_it(client, dial, text, stated):
    assert values(dial(**stated), "seconds") == [None] * len(DEPTHS)
    settings = {"dataset": text, "compute_specs": "low_end", "pretraining.enabled": True}
    named = {name.replace("__", "."): value for name, value in stated.items()}
    checked = client.post("/api/preflight", json=settings | named)
    assert checked.status_code == 422
    assert all(each["what"] and each["where"] for each in checked.json()["problems"])


def test_a_depth_of_the_settings_that_is_wrong_has_no_effect(dial):
    assert values(dial(pretraining__depth=9_999), "seconds") == values(dial(), "seconds")


def test_a_text_that_is_too_short_still_has_sizes(client, dial, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("Hello there.", "utf-8")
    response = dial(dataset=str(short))
    assert None not in values(response, "parameters")
    settings = {"dataset": str(short), "compute_specs": "low_end", "pretraining.enabled": True}
    findings = client.post("/api/preflight", json=settings).json()["findings"]
    assert "text-too-short" in {each["code"] for each in findings if each["level"] == "blocker"}


def test_depths_that_do_not_fit_are_marked_and_take_no_long_time(dial):
    began = time.monotonic()
    response = dial(pretraining__n_layers=200, pretraining__aspect_ratio=512)
    assert time.monotonic() - began < PATIENCE_S
    assert values(response, "fits") == [False] * len(DEPTHS)


def test_a_body_that_is_no_object_is_refused(client):
    assert client.post("/api/dial", json=[1, 2]).status_code == 422
    assert client.post("/api/dial", content=b"{").status_code in (400, 422)
