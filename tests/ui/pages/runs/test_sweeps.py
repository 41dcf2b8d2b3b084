"""The cards of sweeps, and the form that starts one, without a browser."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, replace

import pytest

from modelforge.errors import ConfigError
from modelforge.services.sweeps.service import SweepView
from modelforge.services.sweeps.space import Dimension
from modelforge.services.sweeps.study import Trial
from tests.runs.homes import put_run
from ui.pages.runs import sweep_form
from ui.pages.runs.page import read_query
from ui.pages.runs.sweeps import MOST_ENDED, MOST_TRIALS, range_text, shown_value, sweep_cards

RATE = Dimension("learning_rate", 1e-5, 1e-3, log=True)
RANK = Dimension("lora_r", choices=(8, 16))


def trial(number, state="complete", rate=2.4e-4, losses=None, run="run", reason=""):
    losses = {2: 2.0, 16: 1.5 - number / 100} if losses is None else losses
    return Trial(number, state, {"learning_rate": rate, "lora_r": 8}, run, losses, reason)


def view(trials, *, result=None, best=None, sweep="20270101-000000-abcd", **more):
    now = time.time()
    states = {"is_stopped": False, "is_comparing": False, "is_over": result is not None, **more}
    return SweepView(
        id=sweep, name="<b>desk</b>", created=now - 60, deadline=now + 180,
        dimensions=(RATE, RANK), total_steps=16, trials=trials, best=best, result=result, **states,
    )  # fmt: skip


def test_a_sweep_in_progress_shows_time_values_trials_and_the_best():
    running = trial(3, "running", losses={}, run="waits")
    trials = [trial(0), trial(1), trial(2, "pruned", losses={2: 3.0}), running]
    drawn = sweep_cards([view(trials, best=1)], (), {"waits"})
    assert "Trial 4 waits until this computer is free; 1 trial stopped early." in drawn
    assert "3 min 0 s" in drawn or "3 min" in drawn
    assert "width:25.0%" in drawn
    assert "1e-5 to 1e-3" in drawn
    assert "&lt;b&gt;desk&lt;/b&gt;" in drawn
    assert "<b>desk" not in drawn
    assert "stopped, step 2" in drawn
    assert drawn.count("best so far") == 1
    assert 'href="/?run=run"' in drawn
    assert "Use the best" in drawn
    now_training = sweep_cards([view(trials, best=1)], (), ())
    assert "Trial 4 is training" in now_training


def test_paused_trials_say_where_they_wait():
    paused = replace(trial(2, "paused", losses={2: 2.5}), paused=2)
    drawn = sweep_cards([view([trial(0), paused, trial(3, "running", losses={})])], (), ())
    assert "Trial 4 is training; 1 trial paused." in drawn
    assert "paused, step 2" in drawn


def test_trials_at_several_places_are_named_together():
    there = replace(trial(2, "running", losses={}, run="b"), on="box")
    here, waits = (trial(n, "running", losses={}, run=run) for n, run in ((1, "a"), (3, "c")))
    drawn = sweep_cards([view([trial(0), here, there, waits])], (), {"c"})
    assert "Trials 2 and 3 are training" in drawn
    assert "2 trials train" in drawn
    assert "training · box" in drawn
    assert "waits" in drawn
    both = sweep_cards([view([trial(0), there, waits])], (), {"b", "c"})
    assert "Trials 3 and 4 wait until their places are free." in both
    one = sweep_cards([view([trial(0), there])], (), {"b"})
    assert "Trial 3 waits until box is free." in one


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"is_comparing": True}, "compared row by row"),
        ({"is_stopped": True}, "It stops"),
        ({}, "The next trial is about to begin"),
    ],
)
def test_between_trials_the_card_says_what_comes_next(more, text):
    drawn = sweep_cards([view([trial(0)], best=0, **more)], (), ())
    assert text in drawn
    assert ("Stop here" in drawn) != bool(more.get("is_stopped"))
    assert "Use the best" not in drawn  # the best are the user's own settings


def test_a_result_has_its_sentence_its_interval_and_what_to_do():
    found = {"kind": "better", "difference": -0.03, "interval": [-0.05, -0.01], "sentence": "So."}
    shown = view([trial(0), trial(1)], result=found, best=1)
    drawn = sweep_cards([shown], (), ())
    assert "better settings found" in drawn
    assert "Loss lower by 0.030" in drawn
    assert "Use the best" in drawn
    assert "spark" not in drawn
    assert "spark" in sweep_cards([shown], [shown.id], ())
    right = found | {"metric": "right answers", "better": "higher", "difference": 0.1}
    shown_right = view([trial(0), trial(1)], result=right | {"interval": [0.02, 0.18]}, best=1)
    assert "Right answers higher by 0.100" in sweep_cards([shown_right], (), ())
    unclear = view([trial(0), trial(1)], result={"kind": "no-difference", "sentence": ""}, best=1)
    assert "Use them anyway" in sweep_cards([unclear], (), ())
    own = view([trial(0)], result={"kind": "own", "sentence": ""}, best=0)
    assert "Use" not in sweep_cards([own], (), ())


def test_many_trials_and_many_sweeps_are_folded():
    many = view([trial(number) for number in range(MOST_TRIALS + 3)], best=0)
    folded = sweep_cards([many], (), ())
    assert folded.count("<svg") == MOST_TRIALS
    assert "3 more trials" in folded
    assert sweep_cards([many], [many.id], ()).count("<svg") == MOST_TRIALS + 3
    ended = [view([trial(0)], result={"kind": "own", "sentence": f"No {n}."}, sweep=f"{n}")
             for n in range(MOST_ENDED + 2)]  # fmt: skip
    shown = sweep_cards(ended, (), ())
    assert "2 earlier searches" in shown
    assert "No 3." not in shown
    assert "No 3." in sweep_cards(ended, ["ended"], ())
    assert sweep_cards([], (), ()) == ""


def test_values_are_short():
    values = (2.44e-4, 5e-3, 0.05, 0.0, 32, True, "adamw")
    shown = ["2.4e-4", "5e-3", "0.05", "0", "32", "on", "adamw"]
    assert [shown_value(value) for value in values] == shown
    assert range_text(RANK) == "8, 16"


def test_trials_are_left_out_of_the_list_unless_they_are_asked_for():
    assert read_query({}).is_trial is False
    assert read_query({"query": "trial 3"}).is_trial is None
    assert read_query({"group": "trials"}).is_trial is True


@pytest.fixture
def functions(forge):
    return {each.__name__: each for each in sweep_form.functions(forge)}


@pytest.mark.filterwarnings("default")
def test_the_form_offers_the_settings_of_runs_and_a_price(functions, forge, settings):
    pytest.importorskip("optuna")
    run = put_run(forge.home.root, 1, name="desk").id
    form = {"values": {}, "recipe": settings | {"max_steps": 16}}
    reply = functions["open_sweep_form"]({"form": form})
    drawn = reply.parts["sweep-form"]
    assert reply.can_start
    assert f'value="{run}"' in drawn
    assert "The form of the Train page" in drawn
    assert 'id="vary-learning_rate" checked' in drawn
    assert "One run of 16 steps takes" in drawn
    asked = {"source": "form", "form": form, "vary": {"learning_rate": "1e-5..1e-3"}}
    short = functions["price_sweep"]({**asked, "budget": "1s"}).parts["sweep-cost"]
    assert "too short" in short
    wrong = functions["price_sweep"]({**asked, "budget": "soon"}).parts["sweep-cost"]
    assert "neither a duration nor a time of day" in wrong
    functions["start_sweep"]({**asked, "budget": "9h", "other": "lora_r=8,16"})
    (sweep,) = forge.sweeps.list()
    assert [each.name for each in sweep.dimensions] == ["learning_rate", "lora_r"]
    assert "sweep-on-" not in drawn, "there is no other place"


@pytest.mark.filterwarnings("default")
def test_with_targets_the_form_asks_where_trials_train(functions, forge, settings):
    pytest.importorskip("optuna")
    forge.targets.add("box", "ssh:box", slots=3)
    stored = json.loads(forge.home.targets.read_text())
    stored["targets"][0]["machine"] = asdict(forge.machine.current())
    forge.home.targets.write_text(json.dumps(stored))
    form = {"values": {}, "recipe": settings | {"max_steps": 16}}
    drawn = functions["open_sweep_form"]({"form": form}).parts["sweep-form"]
    assert 'id="sweep-on-here" checked' in drawn
    assert 'id="sweep-on-box">' in drawn
    asked = {"source": "form", "form": form, "vary": {"learning_rate": "1e-5..1e-3"}}
    asked |= {"budget": "9h", "other": ""}

    def count(on):
        cost = functions["price_sweep"]({**asked, "on": on}).parts["sweep-cost"]
        return int(re.search(r"about ([\d,]+) trials", cost)[1].replace(",", ""))

    assert count(["here", "box"]) > 3 * count(["here"])
    with pytest.raises(ConfigError, match="No place is chosen"):
        functions["start_sweep"]({**asked, "on": []})
    functions["start_sweep"]({**asked, "on": ["box"]})
    (sweep,) = forge.sweeps.list()
    forge.sweeps.tend()
    assert {each.on for each in forge.sweeps.view(sweep.id).trials} == {"box"}
    functions["stop_sweep"]({"sweep": sweep.id})


def test_without_data_the_form_says_where_to_choose_it(functions):
    pytest.importorskip("optuna")
    reply = functions["open_sweep_form"]({"form": {"values": {"lora_r": "8"}}})
    assert not reply.can_start
    assert "Choose data and a model first" in reply.parts["sweep-form"]
