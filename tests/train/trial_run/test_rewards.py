"""The reward trial with real TRL: four verdicts, and the share of groups without signal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.diagnosis.intervals import share_interval

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

ROWS = [
    {"prompt": f"What is number {n}?", "chosen": f"It is {n}.", "rejected": "No idea"}
    for n in range(40)
]
# Half of the random answers of the tiny model begin so, and no row of the data.
BEGINS = r"(?i)^\W*[a-gj-s]"
FAIR = {"reward": "regex", "reward_pattern": BEGINS}
REWARDS = {
    "constant": {"reward": "regex", "reward_pattern": ".?"},
    "impossible": {"reward": "exact-match"},
    "cheatable": {"reward": "length", "reward_words": 5},
    "fair": FAIR,
}
SLOWLY = 1e-9


@pytest.fixture
def rewarded(bench: Any, write_rows: Any) -> Any:
    """Do a run in which the weights hardly change, or a trial run of it; return its events."""

    def do(
        trainer: dict[str, Any], *, groups: int, steps: int = 1, trial: bool, rate: float = SLOWLY
    ) -> list[Any]:
        bench.rows = write_rows(ROWS)
        quick = {"num_generations": 2, "max_completion_length": 8} | trainer
        run = bench.prepare(
            strategy="rlhf",
            per_device_train_batch_size=groups * quick["num_generations"],
            learning_rate=rate,
            max_steps=steps,
            trainer=quick,
        )
        if trial:
            record = json.loads(run.config.read_text())
            run.config.write_text(json.dumps(record | {"trial_run": True}))
        events = bench.work(run)
        assert events[-1].kind == "finished", events[-1].data
        return list(events)

    return do


@pytest.fixture
def few_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelforge.train.trial_run import rewards

    monkeypatch.setattr(rewards, "MAX_GROUPS", 24)


def found(events: list[Any]) -> dict[str, Any]:
    [data] = [event.data for event in events if event.kind == "reward_trial"]
    return dict(data)


def metric(events: list[Any], name: str) -> list[float]:
    return [event.data["metrics"][name] for event in events if event.kind == "step"]


@pytest.mark.parametrize("verdict", REWARDS)
def test_four_rewards_get_four_verdicts(rewarded, few_groups, verdict):
    events = rewarded(REWARDS[verdict], groups=4, trial=True)
    trial = found(events)
    assert trial["verdict"] == verdict, trial
    assert (trial["groups"], trial["group_size"]) == (24, 2)
    assert trial["sentence"]
    assert trial["advice"]
    assert set(trial["cheats"]) == {"empty", "copied", "repeated", "longest"}
    assert (trial["no_signal"] == 24) == (verdict in ("constant", "impossible"))
    assert trial["low"] <= trial["no_signal"] / 24 <= trial["high"]
    kinds = [event.kind for event in events]
    assert kinds.index("plan") < kinds.index("reward_trial") < kinds.index("trial_run")
    if verdict == "cheatable":
        # Five times one word is what the reward asks for; an empty answer has none of them.
        assert trial["cheats"]["repeated"] == 1
        assert trial["cheats"]["empty"] == 0
        # Prompts have four words, and the expected answers three.
        assert trial["cheats"]["copied"] == pytest.approx(4 / 5)
        assert trial["expected"] == pytest.approx(3 / 5)
        assert trial["mean"] < trial["best"] < 1
        assert "One word, repeated, gets 1.00" in trial["sentence"]


def test_a_stop_ends_the_trial_while_it_samples(bench, write_rows, monkeypatch):
    from modelforge.train.trial_run import rewards

    true = rewards.sample_completions

    def stop_then_sample(trainer: Any, prompts: list[str]) -> Any:
        (run.stop).write_text("discard")
        return true(trainer, prompts)

    monkeypatch.setattr(rewards, "sample_completions", stop_then_sample)
    bench.rows = write_rows(ROWS)
    run = bench.prepare(strategy="rlhf", trainer=FAIR | {"max_completion_length": 8})
    record = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(record | {"trial_run": True}))
    events = bench.work(run)
    assert events[-1].kind == "stopped"
    assert not [event for event in events if event.kind == "reward_trial"]


def test_time_bounds_the_trial(rewarded, monkeypatch):
    from modelforge.train.trial_run import rewards

    monkeypatch.setattr(rewards, "SAMPLING_LIMIT_S", 0.0)
    monkeypatch.setattr(rewards, "CHEATS_LIMIT_S", 0.0)
    trial = found(rewarded(FAIR, groups=4, trial=True))
    # One batch of a step is sampled, and one prompt of it is tried.
    assert trial["groups"] == 4


def test_a_named_reward_model_is_tried(rewarded, few_groups, tiny_model, tmp_path):
    from tests.train.strategies.test_rlhf import sequence_classifier

    named = sequence_classifier(tmp_path / "named", Path(tiny_model), labels=1)
    trial = found(rewarded({"reward_model": str(named)}, groups=4, trial=True))
    assert trial["verdict"] in ("fair", "cheatable")
    assert trial["spread"] > 0


@pytest.mark.parametrize(
    "algorithm", [{"rlhf_algorithm": "grpo"}, {"rlhf_algorithm": "rloo", "kl_beta": 0.0}]
)
def test_a_run_reports_the_share_without_signal_that_trl_reports(rewarded, algorithm):
    events = rewarded(FAIR | algorithm, groups=8, steps=3, trial=False)
    ours = metric(events, "groups_without_signal")
    assert ours == metric(events, "frac_reward_zero_std")
    assert 0 < sum(ours) < 3


def test_equal_rewards_are_no_signal_whatever_trl_makes_of_them(rewarded):
    """TRL finds a spread of 3e-8 among eight thirds; RLOO subtracts the KL penalty first."""
    third = {"reward": "length", "reward_words": 3, "max_completion_length": 1}
    events = rewarded(
        third | {"num_generations": 8, "rlhf_algorithm": "grpo"}, groups=2, steps=2, trial=False
    )
    assert metric(events, "reward") == [pytest.approx(1 / 3)] * 2
    assert metric(events, "groups_without_signal") == [1, 1]
    assert metric(events, "frac_reward_zero_std") == [0, 0]
    rloo = FAIR | {"rlhf_algorithm": "rloo"}
    events = rewarded(rloo, groups=8, steps=4, trial=False, rate=0.01)
    assert metric(events, "groups_without_signal")[-1] > 0
    assert metric(events, "frac_reward_zero_std")[-1] == 0


def predicted_and_shown(rewarded: Any, trainer: dict[str, Any], groups: int) -> tuple[Any, Any]:
    """Return the predicted share without signal, and the interval of what 200 groups show."""
    trial = found(rewarded(trainer, groups=groups, trial=True))
    assert trial["groups"] == 200
    events = rewarded(trainer, groups=groups, steps=200 // groups, trial=False)
    shares = metric(events, "groups_without_signal")
    assert len(shares) == 200 // groups
    return trial["no_signal"] / 200, share_interval(round(groups * sum(shares)), 200)


def test_the_predicted_share_holds_for_short_answers(rewarded):
    predicted, shown = predicted_and_shown(rewarded, FAIR | {"max_completion_length": 2}, 40)
    assert 0.2 < predicted < 0.8
    assert shown.contains(predicted), (predicted, shown)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
@pytest.mark.parametrize("verdict", REWARDS)
def test_the_predicted_share_lies_in_the_interval_of_what_the_run_shows(
    rewarded, verdict, algorithm
):
    trainer = REWARDS[verdict] | {"rlhf_algorithm": algorithm}
    predicted, shown = predicted_and_shown(rewarded, trainer, 25)
    assert shown.contains(predicted), (predicted, shown)
