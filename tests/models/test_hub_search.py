"""Search of the Hub: queries, results and errors."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from huggingface_hub import constants

from modelforge.errors import ConfigError, NotFoundError
from modelforge.models.hub import MAX_RESULTS, search_models
from modelforge.preflight.suggest.catalog_fit import FitEstimate
from ui.pages.train import model_card

LISTED = [
    {"id": "Qwen/Qwen3-0.6B", "downloads": 900, "gated": False, "tags": ["license:apache-2.0"],
     "safetensors": {"parameters": {"BF16": 600_000_000}, "total": 600_000_000}},
    {"id": "meta-llama/Llama", "downloads": 5000, "gated": "manual", "tags": ["license:llama3"]},
]  # fmt: skip


class Hub:
    """Answers a listing, and remembers what it was asked."""

    def __init__(self):
        self.asked, self.listed, self.status = [], LISTED, 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(parse_qs(urlsplit(self.path).query))
                body = json.dumps(outer.listed if outer.status == 200 else {}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def hub(monkeypatch):
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    made = Hub()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_search_result_has_size_licence_and_gate(hub):
    found = search_models("qwen", "text-generation", endpoint=hub.url)
    assert [one.name for one in found] == ["meta-llama/Llama", "Qwen/Qwen3-0.6B"]
    assert found[1].parameters == pytest.approx(0.6)
    assert (found[1].licence, found[1].gated) == ("apache-2.0", False)
    assert (found[0].parameters, found[0].gated) == (None, True)
    drawn = model_card.hub_models(found, "qwen")
    assert "600 million parameters · apache-2.0" in drawn
    assert "access request" in drawn
    badged = model_card.hub_models(found, "qwen", lambda size: FitEstimate(size and 2 * size, 8.0))
    assert badged.count("fits · about 1.2 GiB") == 1


def test_the_hub_is_asked_for_a_few_models_of_the_task(hub):
    search_models("bert", "extractive-question-answering", endpoint=hub.url)
    assert [asked["pipeline_tag"] for asked in hub.asked] == [["question-answering"], ["fill-mask"]]
    assert all(asked["limit"] == [str(MAX_RESULTS)] for asked in hub.asked)
    assert all("safetensors" in asked["filter"] for asked in hub.asked)


def test_a_name_from_the_hub_is_never_markup(hub):
    hub.listed = [{"id": 'evil/<img src=x onerror="a()">', "downloads": 1, "tags": []}]
    drawn = model_card.hub_models(search_models("evil", "text-generation", endpoint=hub.url), "<b>")
    assert "<img" not in drawn


def test_an_empty_search_result_is_reported(hub):
    hub.listed = []
    assert "no model for “<" not in model_card.hub_models([], "<b>")
    assert search_models("qqqq", "text-generation", endpoint=hub.url) == []


@pytest.mark.parametrize("query", ["", " ", "q", "q" * 101])
def test_an_invalid_query_makes_no_request(hub, query):
    with pytest.raises(ConfigError, match="characters"):
        search_models(query, "text-generation", endpoint=hub.url)
    assert hub.asked == []


def test_offline_no_request_is_made(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NotFoundError, match="HF_HUB_OFFLINE"):
        search_models("qwen", "text-generation", endpoint=hub.url)
    assert hub.asked == []


def test_an_unreachable_hub_is_reported_with_a_remedy(hub):
    hub.status = 500
    with pytest.raises(NotFoundError, match="cannot be reached") as refused:
        search_models("qwen", "text-generation", endpoint=hub.url)
    assert "starter" in refused.value.problems[0].remedy
