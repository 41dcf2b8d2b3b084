"""What `--vary` accepts, and what it refuses in words."""

from __future__ import annotations

import math

import pytest

from modelforge.errors import ConfigError
from modelforge.services.sweeps.pricing import (
    Price,
    expected_trials,
    first_rung,
    read_budget,
    require_time,
)
from modelforge.services.sweeps.space import Dimension, read_dimensions
from modelforge.services.sweeps.study import SPREAD_TRIALS, Study


def test_ranges_and_lists_are_read():
    assert read_dimensions(
        [
            "learning_rate=1e-5..1e-3",
            "lora_r = 8, 16,32",
            "packing=true,false",
            "warmup_ratio=0..0.1",
        ]
    ) == [
        Dimension("learning_rate", 1e-5, 1e-3, log=True),
        Dimension("lora_r", choices=(8, 16, 32)),
        Dimension("packing", choices=(True, False)),
        Dimension("warmup_ratio", 0.0, 0.1),
    ]
    (whole,) = read_dimensions(["lora_r=8..64"])
    assert (whole.low, whole.high, whole.whole, whole.log) == (8, 64, True, False)
    assert Dimension.from_dict(whole.as_dict()) == whole


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "0 settings are varied"),
        (["learning_rate"], "names no values"),
        (["learning_rat=1e-5..1e-3"], "learning_rate"),
        (["learning_rate=1e-4..1e-4"], "has one value only"),
        (["learning_rate=1e-3..1e-5"], "ends before it begins"),
        (["learning_rate=a..b"], "not a range of numbers"),
        (["weight_decay=0..inf"], "not a range of numbers"),
        (["learning_rate=nan..1"], "not a range of numbers"),
        (["lora_r=8.5..16"], "not a range of whole numbers"),
        (["lora_r=8..inf"], "not a range of whole numbers"),
        (["learning_rate=1e-4"], "1 value is given"),
        (["lora_r=8,8"], "1 value is given"),
        (["lora_r=8,many"], "many"),
        (["lora_r=1..100000"], "256"),
        (["optim=a..b"], "is not a number"),
        (["optim=adamw_torch,nonesuch"], "nonesuch"),
        (["max_steps=10,20"], "cannot be varied"),
        (["data.loss_on=all,completion"], "cannot be varied"),
        (["lora_r=8,16", "lora_r=8..16"], "varied twice"),
    ],
)
def test_what_cannot_be_varied_is_named(texts, message):
    with pytest.raises(ConfigError, match=message) as refused:
        read_dimensions(texts)
    assert all(problem.remedy for problem in refused.value.problems)


def test_a_price_is_that_of_the_steps_and_of_what_comes_before():
    assert first_rung(80) == 10
    assert first_rung(3) == 1
    price = Price(100.0, before=20.0)
    assert price.of(0.5) == 60.0
    require_time(price, 80, 160.0)
    # One whole run, and then what a trial takes on average: 20 + 80 * 5 / 16.
    assert [expected_trials(price, budget) for budget in (90.0, 100.0, 145.0, 190.0)] == [
        1,
        1,
        2,
        3,
    ]
    with pytest.raises(ConfigError, match="at least"):
        require_time(price, 80, 150.0)


def test_a_budget_is_a_duration_or_a_time_of_day():
    assert read_budget("2h30m") == pytest.approx(9000.0)
    assert read_budget("+45m") == pytest.approx(2700.0)
    assert 0 < read_budget("07:00") <= 86_400
    with pytest.raises(ConfigError, match="neither a duration nor a time of day"):
        read_budget("soon")


@pytest.mark.filterwarnings("default")
def test_the_first_trials_lie_apart_also_where_a_server_was_killed_between_them(tmp_path):
    (dimension,) = read_dimensions(["learning_rate=1e-5..1e-1"])
    pytest.importorskip("optuna")
    decades = []
    for _ in range(SPREAD_TRIALS + 1):
        study = Study(tmp_path, [dimension], first=1, seed=20)  # as a new server opens it
        study.begin({"learning_rate": 1e-3})
        trial = study.ask()
        study.complete(trial.number, 1.0)
        decades.append(math.log10(trial.values["learning_rate"]))
    assert decades[0] == pytest.approx(-3.0)
    # The first four beside the own one are in four different quarters of the range.
    assert sorted(int(each + 5) for each in decades[1:5]) == [0, 1, 2, 3]
