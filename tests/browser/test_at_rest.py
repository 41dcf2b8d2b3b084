"""A page on which nothing changes leaves the processor to the run."""

import psutil
import pytest

from ui.html.layout import TITLES

pytestmark = pytest.mark.browser

COUNT_FRAMES = """
  window.framesAsked = 0;
  const request = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) => {
    window.framesAsked += 1;
    return request(callback);
  };
"""
REST_MS = 1500
REST_ATTEMPTS = 6
FEW_WAKE_UPS = 400


def test_pages_at_rest_draw_nothing_and_wake_no_server(servers, tmp_path, opened):
    server = servers(tmp_path / "home")
    page = opened(server.url)
    page.context.add_init_script(COUNT_FRAMES)
    for path in TITLES:
        page.goto(f"{server.url}{path}")
        page.wait_for_selector("[data-usable]")
        asked = frames_asked(page)
        assert asked > 0, f"{path} came without Gradio's indicator"
        for _ in range(REST_ATTEMPTS):  # the indicator fades out first
            before = process_wake_ups(server)
            earlier, asked = asked, frames_asked(page)
            if asked == earlier:
                break
        assert asked == earlier, path
        assert process_wake_ups(server) - before < FEW_WAKE_UPS, path


def frames_asked(page) -> int:
    """Let the page rest, and return how many frames it has asked for since it was opened."""
    page.wait_for_timeout(REST_MS)
    return page.evaluate("window.framesAsked")


def process_wake_ups(server) -> int:
    """Return how often the server's process has waited for something and gone on."""
    return psutil.Process(server.process.pid).num_ctx_switches().voluntary
