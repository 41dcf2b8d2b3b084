"""Rounds of compared programs: their order, what spoils one, and the table."""

from __future__ import annotations

import multiprocessing
import time
from types import SimpleNamespace

import pytest

from bench import rounds


def row(number: int, *, others: float = 0.0, baseline: float = 100.0, **more: object) -> dict:
    return {
        "round": number, "order": "ours bare", "other_cores": others, "spoiled": "",
        "ours_tokens_per_s": 200.0, "bare_tokens_per_s": baseline, **more,
    }  # fmt: skip


def test_every_program_is_first_and_last_in_some_round() -> None:
    names = ["a", "b", "c"]
    orders = [rounds.order(names, number) for number in range(6)]
    assert all(sorted(order) == names for order in orders)
    assert {order[0] for order in orders} == {order[-1] for order in orders} == set(names)
    assert [rounds.order(["a", "b"], number)[0] for number in range(2)] == ["a", "b"]


def test_a_busy_machine_and_an_odd_baseline_spoil_a_round() -> None:
    rows = [row(0), row(1, others=0.26), row(2, baseline=89.0), row(3), row(4, others=0.25)]
    rounds.mark_spoiled(rows, "bare")
    assert [bool(each["spoiled"]) for each in rows] == [False, True, True, False, False]
    assert "0.26 cores" in rows[1]["spoiled"]
    assert "-11% off its median" in rows[2]["spoiled"]


def test_a_busy_round_does_not_move_the_median() -> None:
    rows = [row(n, others=1.0, baseline=50.0) for n in range(4)]
    rows += [row(n, baseline=100.0) for n in range(4, 7)]
    rounds.mark_spoiled(rows, "bare")
    assert rounds.counted(rows) == rows[4:]


@pytest.mark.parametrize(("slow", "wanted"), [((), 3), ((1,), 4), (range(9), 6)])
def test_spoiled_rounds_are_repeated_up_to_twice_the_count(monkeypatch, slow, wanted) -> None:
    monkeypatch.setattr(rounds.OtherLoad, "cores", lambda _self: 0.0)
    seeds: list[int] = []

    def bare(seed: int) -> dict[str, float]:
        seeds.append(seed)
        number = seed - rounds.FIRST_SEED
        return {"tokens_per_s": 100.0 * (number + 1) if number in slow else 100.0}

    ours = {"ours": lambda _seed: {"tokens_per_s": 200.0}, "bare": bare}
    made = rounds.measure(ours, "bare", 3)
    assert len(made) == wanted
    assert len(set(seeds)) == len(seeds)


def burn(seconds: float) -> None:
    """Use so many seconds of the processor."""
    while time.process_time() < seconds:
        pass


def test_the_work_of_own_processes_is_not_work_of_others(monkeypatch) -> None:
    nothing = SimpleNamespace(user=0, nice=0, system=0, irq=0, softirq=0)
    monkeypatch.setattr(rounds.psutil, "cpu_times", lambda: nothing)
    monkeypatch.setattr(rounds.platform, "system", lambda: "Linux")
    before = rounds._busy_by_others()
    process = multiprocessing.get_context("spawn").Process(target=burn, args=(0.3,))
    process.start()
    process.join()
    assert before - rounds._busy_by_others() > 0.3  # that of the ended child is subtracted


def test_the_table_has_tokens_and_losses_beside_each_ratio() -> None:
    rows = [
        row(0, ours_tokens=640, bare_tokens=640.0, bare_train_loss=2.5, bare_loss=3.4),
        row(1, ours_tokens=640, bare_tokens=640.0, bare_train_loss=2.6, bare_loss=3.4),
        row(2, baseline=1.0) | {"spoiled": "the baseline is -99% off its median"},
    ]
    lines = rounds.table(rows, {"ours": "Ours", "bare": "TRL", "absent": "Other"}, "ours")
    assert lines[2] == "| Ours | 200 |  | 640 | not measured | not measured |"
    assert lines[3] == "| TRL | 100 | 2.00 | 640 | 2.550 (2.500 to 2.600) | 3.4000 |"
    assert lines[4].startswith("| Other | not measured | not measured |")
    assert "2 rounds" in rounds.summary(rows)
    assert "round 2: the baseline is -99% off its median" in rounds.summary(rows)


def test_figures_of_before_say_that_spoiled_rounds_count() -> None:
    old = {"ours_tokens_per_s": 200.0, "bare_tokens_per_s": 100.0}
    assert "neither repeated nor left out" in rounds.summary([old])
