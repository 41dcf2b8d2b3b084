"""Does it fit, as the face shows it: the ways in one click, badges, levers and rehearsals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape

import pytest

from modelforge.config.fields import specs_by_name
from modelforge.forge import Forge
from modelforge.hardware.machine import probe_machine
from modelforge.paths import Home
from modelforge.preflight.memory.estimate import MemoryPart
from modelforge.preflight.suggest.catalog_fit import FitEstimate
from modelforge.preflight.suggest.speedups import Speedup
from modelforge.runs.states import RunState
from modelforge.services.trial_runs import TrialRunView
from tests.preflight.cases import LAPTOP, LLAMA_8B, ROWS, WORKSTATION, a_case, report_of
from ui.pages.run import side_panel
from ui.pages.run.side_panel import Seen
from ui.pages.run.state import RunPicture
from ui.pages.train import fit_panel, model_card, plan_panel, response, speed_panel, trial_run
from ui.pages.train.form import Entered
from ui.pages.train.layers import stack

WIDE = {"per_device_train_batch_size": 64, "gradient_checkpointing": False}
LONG = replace(ROWS, longest_chars=4000)


def red(**machine):
    return report_of(a_case(replace(LAPTOP, **{"ram_free_gib": 4.0, **machine}), look=LONG, **WIDE))


def buttons(drawn):
    """Return the settings of every button that says several at once, the first way's first."""
    return [json.loads(unescape(one)) for one in re.findall(r'data-settings="([^"]*)"', drawn)]


@pytest.fixture
def forge(home_with_starter):
    def small(root):
        return replace(probe_machine(root), gpus=[], ram_total_gib=16.0, ram_free_gib=3.0)

    made = Forge(Home(home_with_starter), spare=["true"], probe=small)
    yield made
    made.close()


def test_a_red_plan_has_its_ways_in_one_click_each():
    report = red()
    drawn = fit_panel.block(report)
    assert 'id="make-fit"' in drawn
    assert "Make it fit" in drawn
    assert f"{len(report.ways) - 1} other way" in drawn
    assert len(buttons(drawn)) == len(report.ways)
    assert buttons(drawn)[0].keys() == report.ways[0].settings.keys()
    for said in buttons(drawn):
        assert said.keys() <= specs_by_name().keys()
        assert all(isinstance(value, str) for value in said.values())


def test_what_fits_well_is_left_in_peace():
    assert fit_panel.block(report_of(a_case())) == ""
    assert fit_panel.block(report_of(a_case(facts=None))) == ""


def test_what_fits_only_just_is_offered_more_room_quietly():
    total = report_of(a_case()).memory_total_gib
    report = report_of(a_case(replace(LAPTOP, ram_free_gib=total * 1.01)))
    drawn = fit_panel.block(report)
    assert "Make it fit" in drawn
    assert "btn go" not in drawn
    assert not fit_panel.is_red(report)


def test_what_cannot_fit_is_said_with_the_largest_model_that_does():
    tiny = replace(WORKSTATION, gpus=[replace(WORKSTATION.gpus[0], total_gib=4.0, free_gib=3.8)])
    report = report_of(a_case(tiny, LLAMA_8B))
    drawn = fit_panel.block(report)
    assert "The largest model that fits is Qwen3-1.7B." in drawn
    assert buttons(drawn) == [{"model_name": "Qwen/Qwen3-1.7B"}]
    none = replace(report, largest_model=None, largest_settings={})
    assert "nor can any model of the catalogue" in fit_panel.block(none)


def test_the_first_way_turns_the_whole_page_green(forge):
    mine = {"dataset": "sample:captain", "max_seq_length": "1024", "packing": "true"}
    mine |= {"per_device_train_batch_size": "64", "gradient_checkpointing": "false"}
    before = response.reply(forge, Entered(mine=mine))
    assert before["red"]
    assert "does not fit" in before["parts"]["plan"]
    after = response.reply(forge, Entered(mine=mine | buttons(before["parts"]["plan"])[0]))
    assert not after["red"]
    assert after["wrong"] == {}
    assert '<span class="chip good">fits</span>' in after["parts"]["plan"]
    assert after["values"]["per_device_train_batch_size"] == "1"
    assert after["origins"]["per_device_train_batch_size"] == "you"


def test_a_wrong_setting_says_that_there_is_no_plan(forge):
    assert response.reply(forge, Entered(mine={"dataset": "sample:captain"}))["planned"]
    assert not response.reply(forge, Entered(mine={"learning_rate": "7"}))["planned"]


def test_the_findings_that_the_ways_say_are_not_said_twice():
    report = red()
    assert {"ram-short", "memory-option"} <= {one.code for one in report.findings}
    codes = {"ram-short", "memory-option", "memory-short"}
    assert codes == fit_panel.SAID_HERE


def test_parts_add_up_and_one_that_nobody_knows_is_the_rest():
    report = replace(
        red(), memory=[MemoryPart("weights", 1.0), MemoryPart("moon", 2.0)], memory_total_gib=6.0
    )
    drawn = plan_panel.memory(report)
    assert re.search(r"the rest</span><span class=\"num\">4.0", drawn)
    assert re.search(r"weights</span><span class=\"num\">2.0", drawn)


@pytest.mark.parametrize(
    ("need", "told", "tone"),
    [
        (FitEstimate(4.0, 10.0, True), "fits · 4.0 GiB", "good"),
        (FitEstimate(9.5, 10.0, True), "tight · 9.5 GiB", "warn"),
        (FitEstimate(12.0, 10.0, True), "does not fit · 12.0 GiB", "bad"),
    ],
)
def test_a_model_wears_a_badge(need, told, tone):
    assert told in fit_panel.badge(need)
    assert f"chip {tone}" in fit_panel.badge(need)


def test_a_model_of_which_nothing_is_known_wears_none():
    assert fit_panel.badge(FitEstimate()) is None


def test_models_that_cannot_be_made_to_fit_stand_last_and_are_marked(forge):
    offers = stack(forge, Entered()).offers
    hopeless = [fit_panel.is_hopeless(need) for _, need in offers]
    assert hopeless == sorted(hopeless)
    assert True in hopeless
    assert False in hopeless
    drawn = model_card.offered(offers)
    assert drawn.count('class="choice hopeless"') == hopeless.count(True)
    mendable = [need for _, need in offers if need.fits is False and need.can_fit]
    assert mendable
    assert drawn.count("Can be made to fit.") == len(mendable)
    assert not any(fit_panel.is_hopeless(need) for need in mendable)


def test_the_recommended_settings_are_one_click_and_each_lever_another():
    speed = Speedup("padding", "No padding", {"packing": True}, "Words.", 1.9, 0.3, on=False)
    held = Speedup("loss", "Loss in pieces", {}, "Words.", 1.02, -0.2, on=True)
    slow = Speedup("odd", "Odd", {"packing": True}, "Words.", 0.8, 0.1, on=False)
    report = replace(
        red(), levers=[speed, held, slow], recommended={"packing": True}, recommended_times=1.87
    )
    drawn = speed_panel.panel(report)
    assert "about 1.9 × as fast" in drawn
    assert "1.9 × the speed · takes 0.3 GiB" in drawn
    assert "about the same speed · saves 0.2 GiB" in drawn
    assert "1 of 3 in use" in drawn
    assert buttons(drawn) == [{"packing": "true"}, {"packing": "true"}]
    assert "Use recommended" not in speed_panel.panel(replace(report, recommended={}))
    assert speed_panel.panel(replace(report, levers=[])) == ""


def rehearsing(state, **told):
    usual = {"phase": "Updates on the longest rows", "done": 2, "total": 5}
    usual |= {"trial_run": None, "ending": None}
    return TrialRunView("id", "a run", RunState(state), 0.0, **(usual | told))


def test_a_rehearsal_says_how_far_it_is_and_why_it_failed():
    going = trial_run.part(rehearsing("running"))
    assert "Updates on the longest rows · 2 of 5" in going
    assert "width:40%" in going
    assert 'data-id="id"' in going
    failed = {"kind": "failed", "what": "Memory ran out <b>.", "remedy": "Less."}
    assert "ran out &lt;b&gt;." in trial_run.part(rehearsing("failed", ending=failed))
    assert "ended without a word" in trial_run.part(rehearsing("lost"))
    assert "nothing was measured" in trial_run.part(rehearsing("stopped"))
    assert trial_run.part(rehearsing("finished")) == ""


def test_what_a_rehearsal_measured_stands_in_place_of_the_estimate():
    told = {"seconds_per_update": 2.34, "checkpoint_gib": 0.05}
    report = replace(
        red(), memory_basis="trial_run", seconds_basis="trial_run", trial_run=told, seconds=754.0
    )
    assert "Measured in a rehearsal." in fit_panel.basis(report)
    assert "2.3 s" in fit_panel.measured(report)
    assert "51 MiB" in fit_panel.measured(report)
    assert plan_panel.time(report) == "13 min"
    assert fit_panel.measured(red()) == ""


def seen(forge, **view):
    from tests.ui.test_results import left

    planned = {"tokens_per_s": 200.0}
    run = replace(left(forge), state=RunState.RUNNING, updated=1000.0, **view)
    return Seen(run=run, picture=RunPicture(), planned=planned)


def test_the_time_left_counts_on_from_the_newest_event(forge):
    assert side_panel.left(seen(forge, seconds_left=60.0), now=1020.0) == 40.0


def test_no_time_is_told_while_nobody_knows(forge):
    assert side_panel.left(seen(forge)) is None


def test_a_run_tells_that_memory_ran_out_and_what_was_foretold(forge):
    told = {"step": 12, "micro_batch": 2, "accumulation": 8, "gradient_checkpointing": False}
    drawn = side_panel.side(seen(forge, adjusted=told))
    assert "Memory ran out at update 12: since then 2 rows at a time, 8 times an update." in drawn
    assert "Planned tokens a second" in drawn
    assert "200" in drawn


def test_a_plan_that_its_model_may_tell_better_is_named_until_it_has(forge):
    mine = {"dataset": "sample:captain"}
    first = response.reply(forge, Entered(mine=mine))["traceable"]
    assert first
    assert response.reply(forge, Entered(mine=mine))["traceable"] == first
    assert response.reply(forge, Entered(mine=mine | {"lora_r": "8"}))["traceable"] != first
    assert response.reply(forge, Entered(mine={"learning_rate": "7"}))["traceable"] == ""
