"""A model of the Hub is downloaded on the Train page, from a stand-in of the Hub."""

from __future__ import annotations

import pytest

from tests.models.hubs import Hub
from tests.services.test_downloads import FILES, NAME, SHARD

pytestmark = pytest.mark.browser


@pytest.fixture
def hub(monkeypatch, tmp_path):
    made = Hub()
    made.models[NAME] = dict(FILES)
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    yield made
    made.close()


def test_a_model_is_downloaded_with_progress_and_cancelled(hub, servers, opened, tmp_path):
    page = opened(servers(tmp_path / "home").url)
    page.evaluate('document.querySelector(\'[name="dataset"][value="sample:captain"]\').click()')
    page.evaluate("document.querySelector('[aria-controls=\"body-model\"]').click()")
    page.locator('[data-text-for="model_name"]').fill(NAME)
    button = page.locator("#download-model")
    button.wait_for()
    assert button.inner_text().startswith("Download now · 2")
    assert "of disk space are free" in page.locator(".download").inner_text()
    hub.pace = SHARD // 4
    button.click()
    bar = page.get_by_role("progressbar", name=f"Download of {NAME}")
    bar.wait_for()
    page.wait_for_function("document.querySelector('.download .num').textContent.includes('left')")
    page.locator("#cancel-download").click()
    page.get_by_text("The download is cancelled.").wait_for()
    button.wait_for()
    hub.pace = None
    button.click()
    page.get_by_text("stored on this computer").wait_for()
    button.wait_for(state="detached")
