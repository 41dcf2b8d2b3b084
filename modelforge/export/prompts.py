"""Evaluation rows of the training, as prompts of the self-test."""

from __future__ import annotations

from itertools import islice
from typing import Any

import jinja2

from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import Canonical
from modelforge.errors import ForgeError
from modelforge.export.answers import OWN_PROMPTS, Message
from modelforge.export.job import Job
from modelforge.modeling.held_out import (
    changed_sources,
    count_rows,
    iter_evaluation_rows,
    run_request,
)
from modelforge.modeling.tokenize.prompts import prompt_and_answer
from modelforge.modeling.tokenize.render import with_system_prompt
from modelforge.modeling.tokenize.template_limits import apply_template

# Finding the evaluation rows reads all rows.
MAX_ROWS = 200_000
MAX_CHARS = 4000
ROLES = ("system", "user", "assistant")


def held_out(job: Job, tokenizer: Any, most: int = 2 * OWN_PROMPTS) -> list[list[Message]]:
    """Return conversations of evaluation rows that the chat template renders, answers last.

    There are none if the data of the run is gone, was changed, or is very large.
    """
    if not tokenizer.chat_template:
        return []
    system = TrainingConfig.from_record(job.run_record["config"]).model.system_prompt
    found: list[list[Message]] = []
    for row in _rows(job):
        conversation = with_system_prompt(_conversation(row), system)
        try:
            apply_template(tokenizer, conversation[:-1], add_generation_prompt=True)
            apply_template(tokenizer, conversation)
        except (jinja2.TemplateError, IndexError):
            continue
        found.append(conversation)
        if len(found) == most:
            break
    return found


def _rows(job: Job) -> list[Canonical]:
    record = job.run_record
    try:
        if count_rows(record) > MAX_ROWS or changed_sources(record):
            return []
        request = run_request(record, job.plan)
        rows = (row for row in iter_evaluation_rows(request) if _conversation(row))
        return request.options.prepare(list(islice(rows, 4 * OWN_PROMPTS)))
    except (ForgeError, OSError, KeyError, TypeError, ValueError):
        return []  # the self-test has general prompts as well


def _conversation(row: Canonical) -> list[Message]:
    """Return the messages up to the last answer; none for a row with tools or other parts."""
    parts = prompt_and_answer(row)
    if parts is None or row.get("tools") or not parts[1].strip():
        return []
    messages = [
        {"role": message["role"], "content": message["content"]}
        for message in parts[0]
        if message.get("role") in ROLES and isinstance(message.get("content"), str)
    ]
    is_plain = len(messages) == len(parts[0]) and messages and messages[-1]["role"] == "user"
    size = sum(len(message["content"]) for message in messages)
    if not is_plain or size + len(parts[1]) > MAX_CHARS:
        return []
    return [*messages, {"role": "assistant", "content": parts[1]}]
