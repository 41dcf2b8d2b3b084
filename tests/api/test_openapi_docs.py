"""OpenAPI document and generated pages."""

from __future__ import annotations

import re
from pathlib import Path

from modelforge.api.openapi_docs import responses_markdown, rest_markdown
from modelforge.api.router import openapi
from modelforge.config.schema.config import TrainingConfig

DOCS = Path(__file__).parents[2] / "docs"


def routes():
    found = [(v.upper(), p) for p, verbs in openapi()["paths"].items() for v in verbs]
    assert len(found) >= 13
    return found


def test_every_route_is_documented(client):
    page, markdown = client.get("/api/docs").text, rest_markdown(openapi())
    for verb, path in routes():
        assert f"`{verb} {path}`" in markdown
        assert f"{verb} {path}" in page


def test_the_page_loads_nothing(client):
    page = client.get("/api/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"<script|<link|<img|src=|https?://", page.text)


def test_every_schema_reference_resolves(client):
    document = client.get("/api/openapi.json").json()
    parts = document["components"]["schemas"]
    found = set(re.findall(r"#/components/schemas/([\w-]+)", str(document)))
    assert found
    assert found <= set(parts)
    assert "$defs" not in str(document)
    assert set(TrainingConfig.model_fields) == set(parts["TrainingConfig"]["properties"])


def test_every_link_in_the_markdown_has_a_heading():
    names = re.findall(r"^## (\w+)$", responses_markdown(openapi()), re.MULTILINE)
    headings = {f"responses.md#{name.lower()}" for name in names}
    links = set(re.findall(r"\((responses\.md#\w+)\)", rest_markdown(openapi())))
    inner = re.findall(r"\((#\w+)\)", responses_markdown(openapi()))
    links |= {f"responses.md{anchor}" for anchor in inner}
    assert links
    assert links <= headings


def test_every_route_has_a_description():
    for verbs in openapi()["paths"].values():
        for route in verbs.values():
            assert route["description"].endswith(".")


def test_the_generated_pages_are_up_to_date():
    assert (DOCS / "rest-api.md").read_text("utf-8") == rest_markdown(openapi())
    assert (DOCS / "responses.md").read_text("utf-8") == responses_markdown(openapi())
