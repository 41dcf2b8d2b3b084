"""The Train page chooses where a run trains, and its page says so."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.atomic_files import write_json
from modelforge.runs.process.launch import Target
from tests.browser.test_settings import unfold

pytestmark = pytest.mark.browser


@pytest.fixture
def server(servers, home_with_starter, tmp_path):
    """A server that knows two targets: a cluster without its programs here, and one unchecked."""
    forge = Forge(Home(home_with_starter))
    machine = asdict(forge.machine.current())
    forge.close()
    folder = tmp_path / "shared"
    cluster = Target("grid", "slurm", f"debug{folder}", slots=2)
    stored = [
        {**asdict(cluster), "machine": machine, "checked": 0.0},
        {**asdict(Target("desk", "ssh", "desk.invalid")), "machine": None, "checked": 0.0},
    ]
    write_json(Home(home_with_starter).targets, {"format": 1, "targets": stored})
    return servers(home_with_starter)


def test_a_target_is_chosen_kept_over_a_reload_and_named_on_the_page_of_the_run(server, opened):
    page = opened(server.url)
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')
    unfold(page, "machine")
    where = page.get_by_role("group", name="Where")
    assert where.get_by_role("radio", name="This computer").is_checked()
    unchecked = where.get_by_role("radio", name="desk")
    assert unchecked.is_disabled()
    assert "modelforge targets check desk" in where.inner_text()
    where.get_by_label("grid").check()
    page.get_by_text("The data and the model are copied to grid.").wait_for()
    page.reload()
    unfold(page, "machine")
    page.get_by_text("The data and the model are copied to grid.").wait_for()
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.locator("#start").click()
    page.locator('#page[data-state="failed"]').wait_for()
    text = page.locator("#page").inner_text()
    assert "on grid" in text
    assert "The program squeue is not found on this computer." in text
    page.goto(f"{server.url}/runs")
    page.get_by_text("on grid", exact=False).first.wait_for()
