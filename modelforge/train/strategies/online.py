"""What RLOO and GRPO have in common here: our prompts, answers told, and a quick stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modelforge.runs.event_types import SampleEvent
from modelforge.train.event_log import EventLog
from modelforge.train.stop import Stop

CHECK_EVERY_S = 0.5
SAMPLE_EVERY = 10
SAMPLE_CHARS = 2000


class OnlineMixin:
    """Mixed into a trainer of TRL that has its model answer. `answers` hears what was said.

    Prompts come as text that the chat template has already been put to, so they become tokens
    as they do in training on pairs and in chat. Tokens told are those of the model's own answers.
    """

    answers: CompletionLog | None = None
    _generated = 0

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        tokenizer: Any = self.processing_class  # type: ignore[attr-defined]
        return tokenizer(prompts, add_special_tokens=False)["input_ids"], None, {}

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
    ) -> Any:
        rewards = super()._calculate_rewards(  # type: ignore[misc]
            inputs, prompts, completions, completion_ids
        )
        if self.model.training:  # type: ignore[attr-defined]
            self._generated += sum(len(ids) for ids in completion_ids)
            self._metrics["train"]["num_tokens"] = [self._generated]  # type: ignore[attr-defined]
            if self.answers is not None:
                worth = [float(row[0]) for row in rewards]
                alike = self.num_generations  # type: ignore[attr-defined]
                self.answers.hear(inputs[0]["asked"], completions[:alike], worth[:alike])
        return rewards


class CompletionLog(TrainerCallback):
    """Tells the best and the worst answer to one prompt now and then, and keeps every check.

    `checks` holds the mean reward of the held-out prompts by update; 0 is before the first.
    """

    def __init__(self, log: EventLog, stage: int | None) -> None:
        self.checks: dict[int, float] = {}
        self._log = log
        self._stage = stage
        self._heard: tuple[str, list[tuple[float, str]]] | None = None
        self._told = 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"checks": self.checks, "told": self._told}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint has kept."""
        self.checks.update({int(step): reward for step, reward in state["checks"].items()})
        self._told = state["told"]

    def hear(self, asked: str, said: list[str], worth: list[float]) -> None:
        """Take the newest answers to one prompt."""
        self._heard = asked, sorted(zip(worth, said, strict=True), reverse=True)

    def on_step_end(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        **_more: Any,
    ) -> None:
        """Tell a sample of the first update, of the last, and of one in ten between them."""
        every = max(1, min(SAMPLE_EVERY, state.max_steps // SAMPLE_EVERY))
        step = state.global_step
        if self._heard and (step in (1, state.max_steps) or step - self._told >= every):
            self._tell(step)

    def on_evaluate(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_more: Any,
    ) -> None:
        """Keep what the held-out prompts were answered worth."""
        reward = (metrics or {}).get("eval_reward")
        if reward is not None:
            self.checks[state.global_step] = float(reward)

    def _tell(self, step: int) -> None:
        assert self._heard is not None
        asked, ranked = self._heard
        self._heard, self._told = None, step
        ends = [ranked[0], ranked[-1]] if ranked[0][0] != ranked[-1][0] else ranked[:1]
        for reward, said in ends:
            self._log.sample(
                SampleEvent(
                    step=step,
                    prompt=asked[:SAMPLE_CHARS],
                    completion=said[:SAMPLE_CHARS],
                    reward=round(reward, 4),
                    stage=self._stage,
                )
            )


def watch(model: Any, stop: Stop) -> None:
    """Look for the wish to stop at every token too: an answer may take minutes on a CPU."""
    looked = 0.0

    def look(*_call: Any) -> None:
        nonlocal looked
        now = time.monotonic()
        if now - looked >= CHECK_EVERY_S:
            looked = now
            stop.check()

    body = model.get_base_model() if hasattr(model, "get_base_model") else model
    body.register_forward_pre_hook(look)
