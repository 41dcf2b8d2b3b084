"""The measurements of a trial run or a finished run, and the duration of a run like it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from modelforge.config.plan.make import Plan
from modelforge.config.plan.training import sample_rounds
from modelforge.config.schema.base import about
from modelforge.config.schema.config import TrainingConfig


@dataclass(frozen=True)
class RewardTrial:
    """The verdict on the reward of an RLHF run, from sampled answers and answers that cheat.

    A group is the answers to one prompt; it has no signal if all get the same reward.
    """

    verdict: Annotated[str, about("`constant`, `impossible`, `cheatable` or `fair`.")]
    sentence: Annotated[str, about("The verdict in words.")]
    advice: Annotated[str, about("What to do.")]
    groups: Annotated[int, about("Number of groups.")]
    group_size: Annotated[int, about("Answers of a group.")]
    no_signal: Annotated[int, about("Groups without signal.")]
    low: Annotated[float, about("Low end of the 95 % interval of the share of such groups.")]
    high: Annotated[float, about("High end of that interval.")]
    mean: Annotated[float, about("Mean reward of the sampled answers.")]
    spread: Annotated[float, about("Mean standard deviation of the rewards of a group.")]
    best: Annotated[float, about("Mean of the highest reward of each group.")]
    expected: Annotated[
        float | None, about("Mean reward of the expected answers; null without them.")
    ] = None
    cheats: Annotated[
        dict[str, float], about("Mean reward by cheat: `empty`, `copied`, `repeated`, `longest`.")
    ] = field(default_factory=dict)
    seconds: Annotated[float | None, about("How long the trial took.")] = None

    @property
    def share(self) -> float:
        """The predicted share of groups without signal, at the start of the run."""
        return self.no_signal / self.groups

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RewardTrial:
        """Read stored fields, or the data of a `reward_trial` event."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


@dataclass(frozen=True)
class TrialRunResult:
    """The measurements of a trial run; None was not measured.

    Attributes:
        id: Name of its folder.
        at: When it ran, in Unix seconds.
        seconds_per_update_worst: Time of a step with the longest rows.
        prepare_seconds: Time before the first step, without loading the model.
        score_seconds: Time of generating completions for evaluation rows at the end.
        sample_seconds: Time of answering all sample prompts once.
        updates: Measured steps.
        stages: Training stages of a run; the measurements are those of the last stage.
        earlier_seconds: Time of the stages before it.
        reward_trial: The verdict on the reward; None for other methods, and where the reward model
            is trained in the run itself.
    """

    id: str
    at: float
    peak_gib: float
    seconds_per_update: float
    seconds_per_update_worst: float | None = None
    tokens_per_s: float | None = None
    seconds_per_eval_batch: float | None = None
    save_seconds: float | None = None
    final_seconds: float | None = None
    checkpoint_gib: float | None = None
    load_seconds: float = 0.0
    prepare_seconds: float = 0.0
    updates: int = 0
    micro_batch: int | None = None
    accumulation: int | None = None
    stages: int = 1
    earlier_seconds: float = 0.0
    score_seconds: float | None = None
    sample_seconds: float | None = None
    reward_trial: RewardTrial | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrialRunResult:
        """Read stored fields, or the data of a `trial_run` event with `id` and `at`.

        Raises TypeError for other data.
        """
        values = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        if isinstance(trial := values.get("reward_trial"), Mapping):
            values["reward_trial"] = RewardTrial.from_dict(trial)
        return cls(**values)

    def seconds(self, config: TrainingConfig, plan: Plan, eval_rows: int) -> float | None:
        """Return the duration of a run from start to end; None while its steps are unknown."""
        total = plan.total_steps
        if total is None:
            return None
        seconds = self.earlier_seconds + self.load_seconds + self.prepare_seconds
        seconds += total * self.seconds_per_update
        if plan.eval_steps and self.seconds_per_eval_batch:
            batches = -(-eval_rows // config.per_device_eval_batch_size)
            seconds += total // plan.eval_steps * batches * self.seconds_per_eval_batch
        rounds = sample_rounds(config, plan.method, total, plan.eval_steps)
        seconds += rounds * (self.sample_seconds or 0.0)
        saves = 1 if plan.save_steps <= 0 else -(-total // plan.save_steps)
        final = (self.final_seconds or self.save_seconds or 0.0) + (self.score_seconds or 0.0)
        return seconds + saves * (self.save_seconds or 0.0) + final

    def scaled(self, factor: float) -> TrialRunResult:
        """Return the result with all times of a run multiplied."""
        times = (
            "seconds_per_update",
            "seconds_per_eval_batch",
            "sample_seconds",
            "save_seconds",
            "final_seconds",
        )
        known = {name: getattr(self, name) for name in times}
        return replace(
            self, **{name: factor * each for name, each in known.items() if each is not None}
        )


@dataclass(frozen=True)
class LastRun:
    """A finished run with the same settings: its duration in seconds, steps and measurements."""

    seconds: float
    steps: int
    measured: TrialRunResult

    @classmethod
    def of(
        cls,
        seconds: float,
        config: TrainingConfig,
        plan: Plan,
        eval_rows: int,
        measured: TrialRunResult,
    ) -> LastRun:
        """Return a run that took `seconds`, with what its steps, evaluations and saves took.

        All other time, such as loading and earlier stages, counts as preparation.
        """
        explained = measured.seconds(config, plan, eval_rows) or 0.0
        if explained <= seconds:
            measured = replace(measured, prepare_seconds=seconds - explained)
        else:
            measured = measured.scaled(seconds / explained)
        return cls(seconds, plan.total_steps or 0, measured)
