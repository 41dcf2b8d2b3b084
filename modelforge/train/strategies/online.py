"""What RLOO and GRPO share: rendered prompts, sampled completions and a prompt stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modelforge.runs.event_types import SampleEvent
from modelforge.train.event_log import EventLog
from modelforge.train.stop import Stop
from modelforge.train.trainer.trl_private import RenderedPromptsMixin

CHECK_EVERY_S = 0.5
# Samples are reported at least this often in a run, and at most every so many steps.
SAMPLES = 10
SAMPLE_CHARS = 2000


class OnlineMixin(RenderedPromptsMixin):
    """Mixed into a TRL trainer that generates completions while it trains.

    Prompts are text that the chat template was applied to, so they are tokenized as in training
    on pairs and in chat. The tokens counted are those of the model's own completions.
    """

    completion_log: CompletionLog | None = None

    def on_completions(
        self, inputs: list[dict[str, Any]], completions: list[str], rewards: list[float]
    ) -> None:
        """Record the completions of the first prompt of a batch."""
        if self.completion_log is not None:
            count = self.num_generations
            self.completion_log.record(inputs[0]["asked"], completions[:count], rewards[:count])


class CompletionLog(TrainerCallback):
    """Reports the best and the worst completion of a prompt at intervals, and all evaluations.

    `evaluations` holds the mean reward of the evaluation prompts by step; 0 is before the first.
    """

    def __init__(self, log: EventLog, stage: int | None) -> None:
        self.evaluations: dict[int, float] = {}
        self._log = log
        self._stage = stage
        self._newest: tuple[str, list[tuple[float, str]]] | None = None
        self._sampled_at = 0

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"checks": self.evaluations, "told": self._sampled_at}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.evaluations.update({int(step): reward for step, reward in state["checks"].items()})
        self._sampled_at = state["told"]

    def record(self, prompt: str, completions: list[str], rewards: list[float]) -> None:
        """Keep the newest completions of one prompt, best first."""
        self._newest = prompt, sorted(zip(rewards, completions, strict=True), reverse=True)

    def on_step_end(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        **_kwargs: Any,
    ) -> None:
        """Report a sample at the first step, at the last, and at intervals between them."""
        interval = max(1, min(SAMPLES, state.max_steps // SAMPLES))
        step = state.global_step
        is_due = step in (1, state.max_steps) or step - self._sampled_at >= interval
        if self._newest is not None and is_due:
            self._report(step, *self._newest)

    def on_evaluate(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_kwargs: Any,
    ) -> None:
        """Keep the mean reward of the evaluation prompts."""
        reward = (metrics or {}).get("eval_reward")
        if reward is not None:
            self.evaluations[state.global_step] = float(reward)

    def _report(self, step: int, prompt: str, ranked: list[tuple[float, str]]) -> None:
        self._newest, self._sampled_at = None, step
        best, worst = ranked[0], ranked[-1]
        for reward, completion in [best] if best[0] == worst[0] else [best, worst]:
            event = SampleEvent(
                step=step,
                prompt=prompt[:SAMPLE_CHARS],
                completion=completion[:SAMPLE_CHARS],
                reward=round(reward, 4),
                stage=self._stage,
            )
            self._log.sample(event)


def stop_while_generating(model: Any, stop: Stop) -> None:
    """Check for a stop request at every forward pass: a completion may take minutes on a CPU."""
    checked_at = 0.0

    def check(*_call: Any) -> None:
        nonlocal checked_at
        now = time.monotonic()
        if now - checked_at >= CHECK_EVERY_S:
            checked_at = now
            stop.check()

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.register_forward_pre_hook(check)
