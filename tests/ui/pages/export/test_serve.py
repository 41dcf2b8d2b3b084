"""The panel that serves a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.errors import ConfigError, Problem
from modelforge.serving.session import ServingState, ServingView
from tests.ui.pages.export.views import export
from ui.pages.export import serve

ON = ServingView(
    ServingState.ON, what="a", name="captain <1>", model="captain", key="mf-••••3f9c",
    address="http://127.0.0.1:8001/v1", requests=214, tokens_per_second=96.4, unloads_in=480.0,
)  # fmt: skip


@pytest.fixture
def drawn(forge, monkeypatch):
    """Return a function that draws the panel for a state of the API server."""

    def draw(view, exports=()):
        monkeypatch.setattr(forge.serving, "current", lambda: view)
        monkeypatch.setattr(forge.serving, "examples", lambda: {"curl": "curl <x>", "python": "p"})
        return serve.serve_parts(forge, exports)

    return draw


def test_finished_exports_are_offered_while_nothing_is_served(drawn):
    off = ServingView(ServingState.OFF)
    assert drawn(off) == {"export-serve": ""}
    views = [export(), export("failed", id="b"), export(id="c", format="mlx", quantization="")]
    parts = drawn(off, views)
    assert parts["export-serve"].count("<option") == 1
    assert "captain · GGUF Q4_K_M" in parts["export-serve"]


def test_a_served_model_shows_address_examples_and_figures(drawn):
    parts = drawn(ON)
    assert "captain &lt;1&gt;" in parts["export-serve"]
    assert "http://127.0.0.1:8001/v1" in parts["export-serve"]
    assert "mf-••••3f9c" in parts["export-serve"]
    assert "curl &lt;x&gt;" in parts["export-serve"]
    for figure in ("214", "96 tokens/s", "8 min"):
        assert figure in parts["serve-facts"]
    assert serve.served(ON) == "a"


def test_a_model_that_could_not_be_loaded_says_why(drawn):
    problem = Problem("port", "Port 8001 is in use.", "Choose another.")
    view = ServingView(ServingState.FAILED, what="a", name="captain", problem=problem)
    assert "captain: Port 8001 is in use. Choose another." in drawn(view)["export-serve"]
    assert serve.served(view) == ""


def test_a_model_that_loads_and_one_whose_process_has_ended_say_so(drawn):
    starting = replace(ON, state=ServingState.STARTING)
    assert "loading; requests wait for it" in drawn(starting)["serve-facts"]
    assert "loading; requests" not in drawn(ON)["serve-facts"]
    ended = Problem("serving", "The process of the model has ended.", "Send a request.")
    parts = drawn(replace(ON, state=ServingState.IDLE, problem=ended))
    assert "The process of the model has ended. Send a request." in parts["export-serve"]
    assert 'href="/ui/serving/log"' in parts["export-serve"]


def test_what_was_typed_is_read_and_never_replaced_silently():
    assert serve.read_port({"port": " 8002 "}) == 8002
    assert serve.read_port({}) == serve.PORT
    assert serve.read_minutes({"minutes": "2,5"}) == 2.5
    for typed in ("eight", "nan", "1e999", "80.5"):
        with pytest.raises(ConfigError, match="The port"):
            serve.read_port({"port": typed})
