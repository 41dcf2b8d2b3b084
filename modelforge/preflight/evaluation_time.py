"""Duration of the evaluation of a trained run, from the tokens that are read and generated."""

from __future__ import annotations

from dataclasses import dataclass

from modelforge.config.schema.training import EVALUATION_ROWS
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.context import RunContext
from modelforge.preflight.speed import estimate_tokens
from modelforge.preflight.suggest.speedups import tokens_per_s
from modelforge.units import GIB, MIB

# The evaluator before it has opened a model.
START_S, LOADED_PER_S = 12.0, 200 * MIB
# Forward passes are this many times as fast as training, whose backward pass takes twice as long.
FORWARD_SPEEDUP = 2.5
# Tokens that are generated in a batch take this many times as long as tokens that are read.
GENERATION_FACTOR = 5.0
# Answers behind examples take this many times as long: their cache is read for every token. With 32
# examples it was 4 to 10 times on two cores, measured on 2026-11-29.
EXAMPLES_FACTOR = 5.0
# Tokens of an answer, as a share of its row; and those of a general prompt with its answer.
ANSWER_SHARE, GENERAL_TOKENS, GENERAL_PROMPTS = 0.5, 64, 100
# Exchanged answers that are read behind each question, by both models.
EXCHANGED_READS = 2 * 3
# Most tokens of the examples in front of each question.
EXAMPLE_TOKENS = 2048
TASK_S = 120.0


@dataclass(frozen=True)
class EvaluationWork:
    """What an evaluation computes.

    Attributes:
        rows: Evaluation rows.
        row_tokens: Mean tokens of a row.
        prompted: Whether the base model also answers with examples in its prompt.
        answers: Whether answers to the rows are generated.
        general: Whether the general prompts are answered.
        tasks: Tasks of lm-eval.
    """

    rows: int
    row_tokens: float
    prompted: bool = True
    answers: bool = True
    general: bool = True
    tasks: int = 0

    @property
    def read(self) -> float:
        """Tokens that are read: the losses on right answers, and on exchanged ones."""
        examples = EXAMPLE_TOKENS if self.prompted and self.rows else 0
        return self.loss_count * self.row_tokens + examples

    @property
    def answer_count(self) -> int:
        """The number of answers that are generated."""
        rows = (3 if self.prompted else 2) * self.rows if self.answers else 0
        return rows + (2 * GENERAL_PROMPTS if self.general else 0)

    @property
    def loss_count(self) -> int:
        """The least number of losses that are computed."""
        return self.rows * ((3 if self.prompted else 2) + EXCHANGED_READS)

    @property
    def generated(self) -> float:
        """Tokens that are generated; those behind examples count as several."""
        contestants = 2 + (EXAMPLES_FACTOR if self.prompted else 0.0)
        rows = contestants * self.rows * self.row_tokens * ANSWER_SHARE if self.answers else 0.0
        return rows + (2 * GENERAL_PROMPTS * GENERAL_TOKENS if self.general else 0)

    def seconds(
        self, model: ModelInfo, training_speed: float, known: tuple[float, float] = (0.0, 0.0)
    ) -> float:
        """Return the duration.

        Args:
            model: The model that answers.
            training_speed: Tokens per second of a training on the same device.
            known: The shares of the losses and of the answers, 0 to 1, that are known already.
        """
        loading = START_S + model.weights_gib * GIB / LOADED_PER_S
        losses, answers = known
        work = self.read * (1 - losses) + self.generated * GENERATION_FACTOR * (1 - answers)
        return loading + TASK_S * self.tasks + work / (training_speed * FORWARD_SPEEDUP)


def evaluation_seconds(context: RunContext) -> float | None:
    """Return the duration of the evaluation at the end of a run.

    None without one, and where the speed is unknown.
    """
    speed, summary = tokens_per_s(context), context.summary
    if not context.config.evaluation.report or not speed or summary is None:
        return None
    if context.model is None:
        return None
    tokens = min(float(context.plan.max_length), estimate_tokens(summary.mean_chars))
    has_answers = context.plan.facts.head != "span"
    rows = min(EVALUATION_ROWS, context.eval_rows)
    work = EvaluationWork(rows, tokens, answers=has_answers)
    return work.seconds(context.model, speed) * context.evaluation_time_factor
