"""Real exports on the Export page: tested, downloaded and served; and one that differs."""

from __future__ import annotations

import pytest

from tests.export.runs import put_tuned
from tests.train.conftest import tiny_model  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.torch]

LONG_MS = 180_000
# llama.cpp knows no microseconds, so that it renders another text than Transformers.
ODD_TEMPLATE = "{{ strftime_now('%f') }}{{ messages[0]['content'] }}"


@pytest.fixture
def url(servers, home_with_starter, tiny_model):  # noqa: F811
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed.")
    put_tuned(home_with_starter, tiny_model, 1, name="captain")
    odd = put_tuned(home_with_starter, tiny_model, 2, name="odd template", age_s=7200)
    (odd.output / "chat_template.jinja").write_text(ODD_TEMPLATE, "utf-8")
    return servers(home_with_starter, real=True).url


def export(page):
    page.wait_for_selector('#export-start[aria-disabled="false"]', timeout=LONG_MS)
    page.locator("#export-start").click()
    page.locator('[data-part="export-progress"]').get_by_text("Exporting: GGUF").wait_for(
        timeout=LONG_MS
    )


def test_a_run_is_exported_tested_downloaded_and_served(url, opened):
    page = opened(f"{url}/export")
    page.get_by_role("radio", name="captain").check()
    page.get_by_label("F16", exact=True).check()
    export(page)
    done = page.locator(".exp", has_text="GGUF F16")
    done.get_by_text("Same answers on 20 of 20 prompts").wait_for(timeout=LONG_MS)
    assert "Stops where it should" in done.inner_text()
    with page.expect_download() as waited:
        done.get_by_role("link", name="Download").click()
    assert waited.value.suggested_filename == "captain-F16.gguf"
    assert waited.value.path().read_bytes()[:4] == b"GGUF"
    page.reload()
    page.wait_for_selector("[data-usable]", timeout=LONG_MS)
    assert page.locator("#export-quantization-f16").is_checked()

    page.locator("#serve-port").fill("0")
    done.get_by_role("button", name="Serve").click()
    panel = page.locator("#serve")
    panel.get_by_text("on", exact=True).wait_for(timeout=LONG_MS)
    address = panel.locator("code").first.inner_text()
    key = page.request.get(f"{url}/api/serving/key").json()["key"]
    assert key not in page.content()
    reply = page.request.post(
        f"{address}/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        data={"model": "captain", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]},
    )
    assert reply.json()["object"] == "chat.completion", reply.text()
    panel.get_by_text("Last request").wait_for()
    panel.get_by_role("switch").uncheck()
    page.locator("#serve-what").wait_for()
    assert "serving now" not in page.content()
    done.get_by_role("button", name="Delete").click()
    page.locator("dialog.ask").get_by_role("button", name="Delete").click()
    done.wait_for(state="detached")


def test_an_export_that_differs_is_marked_as_not_usable(url, opened):
    page = opened(f"{url}/export")
    page.get_by_role("radio", name="odd template").check()
    export(page)
    failed = page.locator(".exp")
    failed.get_by_text("Marked failed: template; not usable").wait_for(timeout=LONG_MS)
    assert "Remedy:" in failed.inner_text()
    failed.get_by_role("button", name="Show difference").click()
    assert "%f" in failed.locator("pre").inner_text()
    assert failed.get_by_role("button", name="Export again").is_visible()
    assert failed.get_by_role("button", name="Serve").count() == 0
    with page.expect_download() as waited:
        failed.get_by_role("link", name="Download it as not usable").click()
    assert waited.value.suggested_filename.startswith("not-usable-odd-template-")
