"""The choice of several GPUs on the Train page, and what the plan shows of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.runs.event_types import PlanEvent
from tests.preflight.contexts import WORKSTATION, make_context
from ui.pages.run import side_panel
from ui.pages.train import cards, plan_panel

FOUR = replace(WORKSTATION, gpus=[replace(WORKSTATION.gpus[0], index=index) for index in range(4)])
PROFILES: dict[str, object] = {}


def drawn(gpus: str = "1", **texts: str) -> str:
    values = {"hardware.gpus": gpus, "hardware.gpu_index": "0", **texts}
    return str(cards.machine(FOUR, PROFILES, "", texts=values))


def test_with_one_gpu_there_is_no_choice():
    assert "hardware.gpus" not in str(cards.machine(WORKSTATION, PROFILES, ""))


def test_one_or_all_gpus_can_be_chosen():
    page = drawn()
    assert "GPUs that train" in page
    assert "All 4 GPUs" in page
    assert 'name="hardware.gpu_index"' in page
    # What they hold is asked where there are several.
    assert "hardware.sharding" not in page


def test_all_gpus_hold_a_whole_or_a_divided_model():
    page = drawn("0")
    assert "A whole model each" in page
    assert "A divided model" in page
    assert 'name="hardware.gpu_index"' not in page


@pytest.mark.parametrize("texts", [{"hardware.sharding": "zero2"}, {"hardware.sharding": "ddp"}])
def test_another_number_and_another_way_are_shown_as_set(texts):
    page = drawn("2", **texts)
    assert "2 GPUs" in page
    assert "The first GPU" in page
    assert f'value="{texts["hardware.sharding"]}"' in page


@pytest.mark.parametrize(
    ("gpus", "index", "start"),
    [("1", 0, "NVIDIA"), ("0", 0, "4 × "), ("0", 1, "3 × "), ("2", 0, "2 × ")],
)
def test_the_line_of_the_machine_counts_its_gpus(gpus, index, start):
    name = FOUR.gpus[0].name
    start = name if start == "NVIDIA" else f"{start}{name}"
    assert str(cards.machine_summary(FOUR, "High end", index, gpus)).startswith(start)


@pytest.mark.parametrize(
    ("hardware", "text"),
    [
        ({}, None),
        ({"gpus": 4}, "4, the memory is that of each"),
        ({"gpus": 2, "device": "cpu"}, "Processes"),
    ],
)
def test_the_plan_says_whose_memory_it_shows(hardware, text):
    shown = plan_panel.several_gpus(make_context(FOUR, hardware=hardware).plan)
    assert (shown is None) if text is None else (text in str(shown))


def test_the_page_of_a_run_says_what_each_gpu_holds():
    plan = PlanEvent(
        total_steps=5, device="cuda", ranks=4, sharding="fsdp2", rank_parameters=33_628_752
    )
    text = "".join(map(str, side_panel.several_gpus(plan)))
    assert "4, fsdp2" in text
    assert "33,628,752" in text
    assert side_panel.several_gpus(PlanEvent(total_steps=5)) == []
