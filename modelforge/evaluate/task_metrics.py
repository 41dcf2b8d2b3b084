"""The metrics of a task, from the losses and answers of the contestants; the decisive one first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelforge.data.canonical.qa import NO_ANSWER
from modelforge.diagnosis.intervals import share_interval
from modelforge.evaluate import scores
from modelforge.evaluate.cases import Case
from modelforge.evaluate.contestants import TUNED
from modelforge.evaluate.job import Job
from modelforge.evaluate.measure import Losses, Results, Texts
from modelforge.evaluate.metrics import CONTESTANTS, METRICS, Measured, score_texts
from modelforge.evaluate.tool_calls import CallScore, score_calls
from modelforge.modeling.reward_rules import Rule, make_rule

# Up to this many words an expected answer is short: F1 rather than ROUGE-L.
SHORT_WORDS = 12
QUESTION_ANSWERING, SUMMARIZATION = "extractive-question-answering", "summarization"


def task_metrics(job: Job, results: Results) -> list[Measured]:
    """Return the metrics that could be measured so far; the first one decides the verdict."""
    if not results.cases:
        return []
    loss = _loss(results)
    texts = _text_metrics(job, results) if TUNED in results.texts else []
    if job.plan.method == "rlhf":
        return [*_reward(job, results), *texts]
    if job.plan.facts.needs_preferences:
        return [*_margin(results), *loss]
    task = job.config.task
    decides = [each for each in texts if _decides(each, task)]
    others = [each for each in texts if each not in decides]
    return [*decides, *loss, *others]


def reward_rule(job: Job) -> Rule | None:
    """Return the rule that rewards the answers of the run; None for a reward model."""
    return None if job.config.trainer.reward == "model" else make_rule(job.config)


def tool_call_entry(results: Results) -> dict[str, Any] | None:
    """Return the share of right names, arguments and rightly missing calls by contestant."""
    found = _call_scores(results)
    rows = sum(case.calls is not None for case in results.cases)
    if not rows or not found:
        return None
    entry: dict[str, Any] = {"rows": rows}
    for part in ("name", "arguments", "no_call"):
        entry[part] = {}
        for name in CONTESTANTS:
            known = [getattr(score, part) for score in found.get(name, []) if score is not None]
            values = [value for value in known if value is not None]
            right, interval = int(sum(values)), share_interval(int(sum(values)), len(values))
            entry[part][name] = interval and {
                "value": right / len(values),
                "interval": list(interval),
            }
    return entry


def _decides(measured: Measured, task: str) -> bool:
    wanted = {SUMMARIZATION: ("rougeL",), QUESTION_ANSWERING: ("f1", "exact_match")}
    return measured.metric.name in wanted.get(task, ())


def _loss(results: Results) -> list[Measured]:
    """Return the loss of the right answers, per token; empty if there is none."""
    tuned = results.right.get(TUNED, [])
    if not any(tuned):
        return []
    values = {
        name: _array(losses, lambda loss: loss.mean) for name, losses in results.right.items()
    }
    weights = np.array([loss.tokens if loss else 0 for loss in tuned], np.float64)
    return [Measured(METRICS["loss"], values, weights)]


def _margin(results: Results) -> list[Measured]:
    """Return how much more likely the better completion is, of pairs or of marked completions.

    A completion that is marked as good or bad alone counts with the sign of its mark.
    """
    values = {}
    for name, chosen in results.right.items():
        rejected = results.rejected.get(name, [None] * len(chosen))
        if any(a and b for a, b in zip(chosen, rejected, strict=True)):
            margins = scores.reward_margins(_nats(chosen), _nats(rejected))
            values[name] = np.array([np.nan if one is None else one for one in margins])
            continue
        good, bad = (_array(side, lambda loss: loss.nats) for side in (chosen, rejected))
        values[name] = np.where(np.isfinite(good), -good, bad)
    has_any = TUNED in values and np.isfinite(values[TUNED]).any()
    return [Measured(METRICS["reward_margin"], values)] if has_any else []


def _reward(job: Job, results: Results) -> list[Measured]:
    rule = reward_rule(job)
    if rule is None or TUNED not in results.texts:
        return []

    def rewards(answers: Sequence[str], expected: Sequence[Sequence[str]]) -> list[float]:
        pairs = zip(answers, expected, strict=True)
        return [rule(answer, texts[0] if texts else "") for answer, texts in pairs]

    references = [case.references for case in results.cases]
    return [score_texts("reward", rewards, results.texts, references)]


def _text_metrics(job: Job, results: Results) -> list[Measured]:
    """Return the metrics of the answers that suit the expected ones."""
    references = [_references(case) for case in results.cases]
    texts, known = results.texts, [each for each in references if each is not None]
    task = job.config.task
    made: list[Measured] = []
    if calls := _calls(results):
        made.append(calls)
    if not known:
        return made
    if task == QUESTION_ANSWERING:
        texts = {name: [_no_answer(text) for text in answers] for name, answers in texts.items()}
    if task != QUESTION_ANSWERING and scores.expects_json(known):
        made.append(
            score_texts("valid_json", lambda a, _r: scores.valid_json(a), texts, references)
        )
    is_short = median(len(each[0].split()) if each else 0 for each in known) <= SHORT_WORDS
    if task == SUMMARIZATION or not (is_short or task == QUESTION_ANSWERING):
        made.append(score_texts("rougeL", scores.rouge_l_scores, texts, references))
    else:
        made.append(score_texts("f1", scores.f1_scores, texts, references))
    made.append(score_texts("exact_match", scores.exact_matches, texts, references))
    return made


def _references(case: Case) -> tuple[str, ...] | None:
    """Return the right answers of a case; None where there is no text to compare with."""
    if not case.prompt or case.calls:
        return None
    return case.references


def _no_answer(text: str | None) -> str | None:
    return "" if text == NO_ANSWER else text


def _calls(results: Results) -> Measured | None:
    found = _call_scores(results)
    if not found:
        return None
    values = {
        name: np.array([np.nan if score is None else score.right for score in each])
        for name, each in found.items()
    }
    return Measured(METRICS["tool_call"], values)


def _call_scores(results: Results) -> Mapping[str, list[CallScore | None]]:
    if all(case.calls is None for case in results.cases):
        return {}
    return {name: _scores_of_calls(results.cases, raw) for name, raw in results.raw.items()}


def _scores_of_calls(cases: Sequence[Case], answers: Texts) -> list[CallScore | None]:
    return [
        None
        if case.calls is None or text is None
        else score_calls(text, case.calls, case.row.get("tools") or ())
        for case, text in zip(cases, answers, strict=True)
    ]


def _nats(losses: Losses) -> list[float | None]:
    return [None if loss is None else loss.nats for loss in losses]


def _array(losses: Losses, value: Callable[[Any], float]) -> NDArray[np.float64]:
    return np.array([np.nan if loss is None else value(loss) for loss in losses], np.float64)
