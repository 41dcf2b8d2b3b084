"""What `--vary` accepts, and what it refuses in words."""

from __future__ import annotations

import pytest

from modelforge.errors import ConfigError
from modelforge.services.sweeps.pricing import Price, first_rung, require_time
from modelforge.services.sweeps.space import Dimension, read_dimensions


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
    with pytest.raises(ConfigError, match="at least"):
        require_time(price, 80, 150.0)
