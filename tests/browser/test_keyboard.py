"""The way from the first page to a run and its answers, with the keyboard alone."""

import re

import pytest

pytestmark = pytest.mark.browser

# Whether the element with the focus takes up space, itself or through its label, and shows it.
SHOWN = """() => {
  const field = document.activeElement, label = field.closest("label") ?? field.labels?.[0];
  const isShown = (node) => {
    const style = getComputedStyle(node), box = node.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && style.visibility !== "hidden";
  };
  const rings = [field, label, field.parentElement].filter(Boolean).map((node) => {
    const style = getComputedStyle(node);
    return style.outlineStyle !== "none" || style.boxShadow !== "none"
      || style.borderTopColor !== getComputedStyle(document.body).borderTopColor;
  });
  return field !== document.body && [field, label].some((node) => node && isShown(node))
    && rings.some(Boolean);
}"""


def press_to(page, selector, most=90):
    """Press Tab until an element has the focus; each stop on the way is shown."""
    for _ in range(most):
        page.keyboard.press("Tab")
        assert page.evaluate(SHOWN), page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
            return
    raise AssertionError(f"{selector} was not reached in {most} steps")


def test_a_run_is_started_queued_and_opened_with_the_keyboard(servers, home_with_starter, opened):
    page = opened(servers(home_with_starter, pace_s=0.3).url)
    press_to(page, 'input[type="radio"][name="dataset"]')
    page.keyboard.press("Space")
    page.wait_for_selector('#start[aria-disabled="false"]')
    press_to(page, "#f-num_train_epochs")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("2")
    press_to(page, "#start")
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"\?run="))
    page.wait_for_selector("#next-run")
    press_to(page, "#next-run")
    page.keyboard.press("Enter")
    page.wait_for_selector("#show-run")
    page.wait_for_function("document.querySelector('#start').textContent === 'Start next'")
    page.wait_for_selector('#start[aria-disabled="false"]')
    press_to(page, "#start")
    page.keyboard.press("Enter")
    page.locator("#toasts").get_by_text("queue").wait_for()
