"""The plan panel: suggestions, badges, speed optimizations and trial runs."""

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
from modelforge.runs.timeline import Timeline
from modelforge.services.trial_runs import TrialRunView
from tests.preflight.contexts import LAPTOP, LLAMA_8B, ROWS, WORKSTATION, make_context, report_of
from ui.html import format as fmt
from ui.pages.run import side_panel
from ui.pages.run.side_panel import RunSnapshot
from ui.pages.train import fit_panel, model_card, plan_panel, response, trial_run
from ui.pages.train.form import Entered

WIDE = {"per_device_train_batch_size": 64, "gradient_checkpointing": False}
LONG = replace(ROWS, longest_chars=4000)


def red(**machine):
    return report_of(
        make_context(replace(LAPTOP, **{"ram_free_gib": 4.0, **machine}), summary=LONG, **WIDE)
    )


def buttons(drawn):
    """Return the settings of every button that says several at once, the first way's first."""
    return [json.loads(unescape(one)) for one in re.findall(r'data-settings="([^"]*)"', drawn)]


@pytest.fixture
def forge(home_with_starter):
    """Return a Forge on a computer with little free memory."""

    def small(root):
        return replace(probe_machine(root), gpus=[], ram_total_gib=16.0, ram_free_gib=3.0)

    made = Forge(Home(home_with_starter), warm_worker=["true"], probe=small)
    yield made
    made.close()


def test_a_plan_that_does_not_fit_has_suggestions():
    report = red()
    drawn = fit_panel.suggestions(report)
    assert 'id="make-fit"' in drawn
    assert "Make it fit" in drawn
    assert f"{len(report.ways) - 1} other option" in drawn
    assert len(buttons(drawn)) == len(report.ways)
    assert buttons(drawn)[0].keys() == report.ways[0].settings.keys()
    for values in buttons(drawn):
        assert values.keys() <= specs_by_name().keys()
        assert all(isinstance(value, str) for value in values.values())


def test_a_plan_that_fits_has_no_suggestions():
    assert fit_panel.suggestions(report_of(make_context())) == ""
    assert fit_panel.suggestions(report_of(make_context(info=None))) == ""


def test_a_tight_plan_has_plain_suggestions():
    total = report_of(make_context()).memory_total_gib
    report = report_of(make_context(replace(LAPTOP, ram_free_gib=total * 1.01)))
    drawn = fit_panel.suggestions(report)
    assert "Make it fit" in drawn
    assert "btn go" not in drawn
    assert not fit_panel.exceeds_memory(report)


def test_a_hopeless_plan_names_the_largest_model_that_fits():
    tiny = replace(WORKSTATION, gpus=[replace(WORKSTATION.gpus[0], total_gib=4.0, free_gib=3.8)])
    report = report_of(make_context(tiny, LLAMA_8B))
    drawn = fit_panel.suggestions(report)
    assert "The largest model that fits is Qwen3-1.7B." in drawn
    assert buttons(drawn) == [{"model_name": "Qwen/Qwen3-1.7B"}]
    none = replace(report, largest_model=None, largest_settings={})
    assert "nor any model in the catalog" in fit_panel.suggestions(none)


def test_the_first_suggestion_makes_the_plan_fit(forge):
    mine = {"dataset": "sample:captain", "max_seq_length": "1024", "packing": "true"}
    mine |= {"per_device_train_batch_size": "64", "gradient_checkpointing": "false"}
    before = response.reply(forge, Entered(values=mine))
    assert before.exceeds_memory
    assert "does not fit" in before.parts["plan"]
    after = response.reply(forge, Entered(values=mine | buttons(before.parts["plan"])[0]))
    assert not after.exceeds_memory
    assert after.errors == {}
    assert '<span class="chip good">fits</span>' in after.parts["plan"]
    assert after.values["per_device_train_batch_size"] == "1"
    assert after.origins["per_device_train_batch_size"] == "you"


def test_an_invalid_setting_leaves_no_plan(forge):
    assert response.reply(forge, Entered(values={"dataset": "sample:captain"})).has_plan
    assert not response.reply(forge, Entered(values={"learning_rate": "7"})).has_plan


def test_findings_covered_by_suggestions_are_not_repeated():
    report = red()
    assert {"ram-short", "memory-option"} <= {one.code for one in report.findings}
    codes = {"ram-short", "memory-option", "memory-short"}
    rewards = {f"reward-{verdict}" for verdict in trial_run.VERDICT_TONES if verdict != "fair"}
    assert codes | rewards == fit_panel.COVERED


def test_memory_parts_add_up_and_unknown_ones_are_other():
    report = replace(
        red(), memory=[MemoryPart("weights", 1.0), MemoryPart("moon", 2.0)], memory_total_gib=6.0
    )
    drawn = plan_panel.memory(report)
    assert re.search(r"other</span><span class=\"num\">4.0", drawn)
    assert re.search(r"weights</span><span class=\"num\">2.0", drawn)


@pytest.mark.parametrize(
    ("need", "text", "tone"),
    [
        (FitEstimate(4.0, 10.0, True), "fits · 4.0 GiB", "good"),
        (FitEstimate(9.5, 10.0, True), "tight · 9.5 GiB", "warn"),
        (FitEstimate(12.0, 10.0, True), "does not fit · 12.0 GiB", "bad"),
    ],
)
def test_a_model_has_a_badge(need, text, tone):
    assert text in fit_panel.model_badge(need)
    assert f"chip {tone}" in fit_panel.model_badge(need)


def test_an_unknown_model_has_no_badge():
    assert fit_panel.model_badge(FitEstimate()) is None


def test_hopeless_models_come_last_and_are_marked(forge):
    offers = forge.layers.rate_models(Entered(), forge.layers.stack(Entered()))
    hopeless = [need.is_hopeless for _, need in offers]
    assert hopeless == sorted(hopeless)
    assert True in hopeless
    assert False in hopeless
    drawn = model_card.catalog(offers)
    assert drawn.count('class="choice hopeless"') == hopeless.count(True)
    mendable = [need for _, need in offers if need.fits is False and need.can_fit]
    assert mendable
    assert drawn.count("Fits with other settings.") == len(mendable)
    assert not any(need.is_hopeless for need in mendable)


def test_recommended_settings_and_each_speedup_have_a_button():
    speed = Speedup("padding", "No padding", {"packing": True}, "Words.", 1.9, 0.3, on=False)
    held = Speedup("loss", "Loss in pieces", {}, "Words.", 1.02, -0.2, on=True)
    slow = Speedup("odd", "Odd", {"packing": True}, "Words.", 0.8, 0.1, on=False)
    report = replace(
        red(), levers=[speed, held, slow], recommended={"packing": True}, recommended_times=1.87
    )
    drawn = fit_panel.speedups(report)
    assert "about 1.9 × as fast" in drawn
    assert "1.9 × the speed · needs 0.3 GiB" in drawn
    assert "about the same speed · saves 0.2 GiB" in drawn
    assert "1 of 3 on" in drawn
    assert buttons(drawn) == [{"packing": "true"}, {"packing": "true"}]
    assert "Use recommended" not in fit_panel.speedups(replace(report, recommended={}))
    assert fit_panel.speedups(replace(report, levers=[])) == ""


def trial_view(state, **changes):
    usual = {"phase": "Updates on the longest rows", "done": 2, "total": 5}
    usual |= {"trial_run": None, "ending": None}
    return TrialRunView("id", "a run", RunState(state), 0.0, **(usual | changes))


def test_a_trial_run_shows_its_progress_and_its_error():
    going = trial_run.view_part(trial_view("running"))
    assert "Updates on the longest rows · 2 of 5" in going
    assert "width:40.0%" in going
    assert 'data-id="id"' in going
    failed = {"kind": "failed", "what": "Memory ran out <b>.", "remedy": "Less."}
    assert "ran out &lt;b&gt;." in trial_run.view_part(trial_view("failed", ending=failed))
    assert "ended without an error message" in trial_run.view_part(trial_view("lost"))
    assert "nothing was measured" in trial_run.view_part(trial_view("stopped"))
    assert trial_run.view_part(trial_view("finished")) == ""


def test_measured_values_replace_the_estimate():
    measured = {"seconds_per_update": 2.34, "checkpoint_gib": 0.05}
    report = replace(
        red(),
        memory_basis="trial_run",
        seconds_basis="trial_run",
        trial_run=measured,
        seconds=754.0,
    )
    assert "Measured in a trial run." in fit_panel.basis_text(report)
    assert "2.3 s" in fit_panel.measured(report)
    assert "51 MiB" in fit_panel.measured(report)
    assert fmt.planned_duration(report.seconds, report.seconds_basis) == "13 min"
    assert fit_panel.measured(red()) == ""


def test_a_time_that_no_run_has_confirmed_is_a_range():
    report = replace(red(), seconds=120.0, seconds_basis="estimated", seconds_longest=360.0)
    assert plan_panel.time_text(report) == "about 2 to 6 min"
    corrected = replace(report, seconds_basis="earlier_runs", seconds_longest=None)
    assert plan_panel.time_text(corrected) == "about 2 min"


@pytest.fixture
def snapshot(forge, ended_run):
    def make(**view):
        run = replace(ended_run(), state=RunState.RUNNING, updated=1000.0, **view)
        return RunSnapshot(run=run, timeline=Timeline(), planned={"tokens_per_s": 200.0})

    return make


def test_the_time_left_counts_down_from_the_newest_event(snapshot):
    run = snapshot(seconds_left=60.0).run
    assert run.time_left(now=1020.0) == 40.0
    assert replace(run, state=RunState.FINISHED).time_left() is None


def test_an_unknown_time_left_is_none(snapshot):
    assert snapshot().run.time_left() is None


def test_oom_recovery_and_planned_speed_are_shown(snapshot):
    adjusted = {"step": 12, "micro_batch": 2, "accumulation": 8, "gradient_checkpointing": False}
    drawn = side_panel.side(snapshot(adjusted=adjusted))
    assert "Out of memory at step 12. Since then 2 rows at a time, 8 accumulation steps." in drawn
    assert "Planned tokens per second" in drawn
    assert "200" in drawn


def test_a_run_shows_the_range_that_was_planned(snapshot):
    planned = {"seconds": 120.0, "seconds_longest": 360.0, "tokens_per_s": 90.0}
    shown = snapshot()
    drawn = side_panel.side(replace(shown, planned=planned))
    assert "about 2 to 6 min" in drawn
    assert "30 to 90" in drawn
    assert "2 to" not in side_panel.side(replace(shown, planned={"seconds": 120.0}))


def test_a_plan_has_a_trace_key_until_it_is_traced(forge):
    mine = {"dataset": "sample:captain"}
    first = response.reply(forge, Entered(values=mine)).trace_key
    assert first
    assert response.reply(forge, Entered(values=mine)).trace_key == first
    assert response.reply(forge, Entered(values=mine | {"lora_r": "8"})).trace_key != first
    assert response.reply(forge, Entered(values={"learning_rate": "7"})).trace_key == ""
