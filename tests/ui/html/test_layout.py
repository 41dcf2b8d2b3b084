"""The frame of the pages, and the page of an address that does not exist."""

import asyncio

import httpx
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from ui.html.layout import PageFrame, add_frame

BARE = '<html><head><meta charset="utf-8" /></head><body class="x"></body></html>'


def fetch(*asked: tuple[str, str]) -> list[httpx.Response]:
    """Open addresses of an application with one page, with the accepted types of each."""
    app = PageFrame(Starlette(routes=[Route("/runs", lambda _request: HTMLResponse(BARE))]))

    async def fetch_all():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.get(path, headers={"accept": types}) for path, types in asked]

    return asyncio.run(fetch_all())


def test_a_missing_page_shows_the_way_home_to_a_browser_alone():
    html = "text/html,*/*"
    page, api, other = fetch(
        ("/nosuchpage", html), ("/api/runs/none", html), ("/nosuchpage", "application/json")
    )
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert 'href="/runs"' in page.text
    assert page.text.count("<h1>") == 1
    assert "<title>Not found · ModelForge</title>" in page.text
    assert (api.status_code, api.text) == (404, "Not Found")
    assert (other.status_code, other.text) == (404, "There is no such page.\n")


def test_each_page_names_itself():
    (page,) = fetch(("/runs", "text/html"))
    assert page.status_code == 200
    assert 'data-title="Runs"' in page.text
    assert 'data-title="Compare runs"' in add_frame(BARE, "/compare")
