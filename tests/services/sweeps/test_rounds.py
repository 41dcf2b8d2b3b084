"""Which trial begins or goes on next, within the time that is left."""

from __future__ import annotations

import random

import pytest

from modelforge.services.sweeps.pricing import Price
from modelforge.services.sweeps.rounds import Rounds, Step
from modelforge.services.sweeps.study import SPREAD_TRIALS, Trial

STEPS = 48
ROUNDS = Rounds(STEPS, Price(whole=110.0, before=10.0))
LONG = 1e6
EIGHTH = 10.0 + 100 / 8


def trial(number, losses=None, state="paused", **more):
    losses = losses or {}
    paused = max(losses, default=0) if state == "paused" else 0
    return Trial(number, state, {}, f"run-{number}", losses, paused=paused, **more)


OWN = trial(0, {6: 3.0, 12: 2.8, 24: 2.5, 48: 2.0}, "complete")


def paused(*losses):
    return [OWN, *(trial(number, {6: loss}) for number, loss in enumerate(losses, 1))]


def test_the_rungs_are_an_eighth_a_quarter_a_half_and_the_end():
    assert ROUNDS.rungs == [6, 12, 24, 48]
    assert Rounds(50, ROUNDS.price).rungs == [6, 12, 24, 50]
    assert Rounds(3, ROUNDS.price).rungs == [1, 3]
    assert Rounds(1, ROUNDS.price).rungs == [1]


def test_early_trials_pause_and_the_own_one_and_later_ones_do_not():
    assert ROUNDS.until(trial(0)) == STEPS
    assert ROUNDS.until(trial(1)) == 6
    assert ROUNDS.until(trial(1, until=24)) == 24
    assert ROUNDS.until(trial(SPREAD_TRIALS + 1)) == STEPS


def test_with_time_all_early_trials_begin_before_one_goes_on():
    assert ROUNDS.next([OWN], LONG) == Step(6)
    assert ROUNDS.next(paused(3.0, 2.0, 1.0, 4.0, 5.0), LONG) == Step(6)
    begun = paused(3.0, 2.0, 1.0, 4.0, 5.0, 6.0)
    assert ROUNDS.next(begun, LONG) == Step(12, 3)


def test_the_better_half_of_each_rung_goes_on_and_the_last_one_to_the_end():
    trials = paused(3.0, 2.0, 1.0, 4.0, 5.0, 6.0)
    order = []
    while (step := ROUNDS.next(trials, LONG)) and step.trial is not None:
        order.append((step.trial, step.until))
        known = trials[step.trial]
        losses = known.losses | {step.until: known.loss * 0.9}
        is_over = step.until == STEPS
        trials[step.trial] = trial(known.number, losses, "complete" if is_over else "paused")
    assert order == [(3, 12), (2, 12), (1, 12), (3, 48)]
    # Then others begin, which do not pause.
    assert step == Step(STEPS)


def test_no_trial_begins_that_takes_the_time_to_complete_one():
    rest = 10 + 100 * 7 / 8
    assert ROUNDS.next([OWN], EIGHTH + rest) == Step(6)
    assert ROUNDS.next(paused(1.0), EIGHTH + rest) == Step(6)
    assert ROUNDS.next(paused(1.0), EIGHTH + rest - 1) == Step(STEPS, 1)
    # A pause at a quarter costs the time to start again.
    four = paused(1.0, 2.0, 3.0, 4.0)
    assert ROUNDS.next(four, rest + 10) == Step(12, 1)
    assert ROUNDS.next(four, rest + 9) == Step(STEPS, 1)


def test_without_the_time_to_complete_one_the_first_rungs_alone_tell():
    assert ROUNDS.next([OWN], 2 * EIGHTH) == Step(6)
    assert ROUNDS.next(paused(1.0), EIGHTH) == Step(6)
    assert ROUNDS.next(paused(1.0), EIGHTH - 1) is None


@pytest.mark.parametrize("seed", range(100))
def test_a_sweep_keeps_its_deadline_and_completes_a_good_trial(seed):
    draw = random.Random(seed)
    left = budget = draw.uniform(130, 1500)
    ends = [2.0 + draw.random() for _ in range(100)]
    trials = [OWN]
    while step := ROUNDS.next(trials, left):
        number = len(trials) if step.trial is None else step.trial
        known = trial(number) if step.trial is None else trials[number]
        until = step.until if step.trial is not None else ROUNDS.until(known)
        done = max(known.losses, default=0)
        seen = {rung: ends[number] + 3 / rung for rung in ROUNDS.rungs if done < rung <= until}
        is_over = until == STEPS
        if number > SPREAD_TRIALS:  # falls behind at its first rung
            seen, is_over = {6: ends[number] + 0.5}, True
        left -= ROUNDS.price.of((max(seen) - done) / STEPS)
        state = ("complete" if STEPS in seen else "pruned") if is_over else "paused"
        fresh = trial(number, known.losses | seen, state)
        trials[number : number + 1] = [fresh]
    assert left >= -1e-6
    complete = [each for each in trials[1:] if STEPS in each.losses]
    assert complete, f"{budget:.0f} s were enough for one"
    # The best of those that were compared at the first rung was completed.
    early = trials[1 : SPREAD_TRIALS + 1]
    best = min(early, key=lambda each: each.losses[6])
    assert best in complete


# Several trials at a time


def running(number, losses=None, until=0):
    return Trial(number, "running", {}, f"run-{number}", losses or {}, until=until)


BESIDE = running(0)


def test_early_trials_begin_beside_the_first_one_as_long_as_there_are_places():
    assert ROUNDS.next([BESIDE], LONG, 4) == Step(6)
    begun = [BESIDE, running(1), running(2)]
    assert ROUNDS.next(begun, LONG, 4) == Step(6)


def test_a_rung_is_decided_when_no_trial_is_on_its_way_to_it():
    trials = [BESIDE, *paused(3.0, 2.0, 1.0, 4.0, 5.0)[1:], running(6)]
    assert ROUNDS.next(trials, LONG, 4) is None
    trials[6] = trial(6, {6: 6.0})
    assert ROUNDS.next(trials, LONG, 4) == Step(12, 3)
    # The others of the better half go on beside the best, which may be ahead of them.
    trials[3] = running(3, {6: 1.0}, until=12)
    assert ROUNDS.next(trials, LONG, 4) == Step(12, 2)
    trials[2] = running(2, {6: 2.0}, until=12)
    trials[3] = trial(3, {6: 1.0, 12: 0.9})
    assert ROUNDS.next(trials, LONG, 4) == Step(12, 1)
    trials[1] = running(1, {6: 3.0}, until=12)
    assert ROUNDS.next(trials, LONG, 4) is None


def test_spare_places_take_later_trials_and_leave_those_that_paused_trials_need():
    trials = [BESIDE, *paused(3.0, 2.0, 1.0, 4.0, 5.0)[1:], running(6)]
    # One place is used by the first trial, and each of the six may still go on.
    assert ROUNDS.next(trials, LONG, 7) is None
    assert ROUNDS.next(trials, LONG, 8) == Step(STEPS)
    trials.append(running(7))
    assert ROUNDS.next(trials, LONG, 8) is None
    # Three of the six are behind and need no place.
    decided = [
        BESIDE,
        *(running(number, {6: loss}, until=12) for number, loss in enumerate((3.0, 2.0, 1.0), 1)),
        *(trial(number, {6: number}) for number in (4, 5, 6)),
        running(7),
    ]
    assert ROUNDS.next(decided, LONG, 5) is None
    assert ROUNDS.next(decided, LONG, 6) == Step(STEPS)


@pytest.mark.parametrize("places", [2, 3, 8])
@pytest.mark.parametrize("seed", range(30))
def test_several_places_keep_the_deadline_and_complete_a_good_trial(seed, places):
    draw = random.Random(seed)
    deadline = draw.uniform(130, 900)
    ends = [2.0 + draw.random() for _ in range(400)]
    trials, now, busy = [], 0.0, {}
    while True:
        while len(busy) < places:
            step = ROUNDS.next(trials, deadline - now, places) if trials else Step(STEPS)
            if step is None:
                break
            number = len(trials) if step.trial is None else step.trial
            known = trial(number) if step.trial is None else trials[number]
            assert known.number not in busy
            until = step.until if step.trial is not None else ROUNDS.until(known)
            if number > SPREAD_TRIALS:  # falls behind at its first rung
                until = 6
            begun = running(number, known.losses, step.until if step.trial is not None else 0)
            trials[number : number + 1] = [begun]
            seconds = ROUNDS.price.of((until - max(known.losses, default=0)) / STEPS)
            busy[number] = (now + seconds, until)
        if not busy:
            break
        number = min(busy, key=busy.get)
        now, until = busy.pop(number)
        done = max(trials[number].losses, default=0)
        seen = {rung: ends[number] + 3 / rung for rung in ROUNDS.rungs if done < rung <= until}
        is_over = until == STEPS or number > SPREAD_TRIALS
        state = ("complete" if until == STEPS else "pruned") if is_over else "paused"
        trials[number] = trial(number, trials[number].losses | seen, state)
    assert now <= deadline + 1e-6
    complete = [each for each in trials[1:] if STEPS in each.losses]
    assert complete, f"{deadline:.0f} s were enough for one"
    early = trials[1 : SPREAD_TRIALS + 1]
    assert min(early, key=lambda each: each.losses[6]) in complete
