"""On a computer with several GPUs the page asks how many train, and what they hold."""

import pytest

from tests.browser.test_settings import unfold

pytestmark = pytest.mark.browser

CARD = {"name": "NVIDIA RTX 4090", "total_gib": 24.0, "free_gib": 23.0}


def gpu(index):
    return {**CARD, "index": index, "compute_capability": [8, 9], "driver": "580.10"}


@pytest.fixture
def four(servers, home_with_starter):
    machine = {"gpus": [gpu(index) for index in range(4)], "torch_cuda": "13.0"}
    return servers(home_with_starter, machine=machine)


def tile(page, name, value):
    return page.locator(f'label.choice:has(input[name="{name}"][value="{value}"])')


def test_all_gpus_share_the_rows_of_a_step_and_divide_the_model(four, opened):
    page = opened(four.url)
    page.get_by_label("The captain").check()
    unfold(page, "model")
    tile(page, "model_name", "starter").click()
    unfold(page, "machine")
    assert tile(page, "hardware.sharding", "fsdp2").count() == 0
    tile(page, "hardware.gpus", "0").click()
    tile(page, "hardware.sharding", "fsdp2").wait_for()
    assert page.locator('[data-part="sum-machine"]').inner_text().startswith("4 × NVIDIA")
    plan = page.locator('[data-part="plan"]').first
    plan.get_by_text("4, the memory is that of each").wait_for()
    # Two batches of four rows are one of two on each GPU, so nothing prevents the start.
    tile(page, "hardware.sharding", "fsdp2").click()
    page.locator('#start[aria-disabled="false"]').wait_for()
