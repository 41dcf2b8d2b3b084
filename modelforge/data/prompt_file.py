"""Prompt files of evaluations: a JSON line per prompt, with the expected answer or a rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelforge.data.answer_rules import parse_rule
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.paths import read_regular
from modelforge.units import MIB

MAX_BYTES, MAX_PROMPTS, MAX_CHARS = 4 * MIB, 500, 20_000
FIELDS = ("prompt", "expected", "rule")
EXAMPLE = '{"prompt": "What is 2 + 2?", "expected": "4"}'
# Problems that are listed; a file of another kind has one in every line.
MAX_PROBLEMS = 10


@dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt of a file: the answer that is expected, or the rule that checks it.

    `line` is its number in the file, from 1.
    """

    prompt: str
    expected: str = ""
    rule: dict[str, Any] = field(default_factory=dict)
    line: int = 0


def read_prompt_file(path: Path) -> list[EvaluationPrompt]:
    """Return the prompts of a file.

    Raises:
        NotFoundError: There is no such file.
        ConfigError: It cannot be read as prompts; up to ten wrong lines are listed.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError as error:
        what = f"There is no file {path}."
        raise NotFoundError(Problem("prompts", what, "Check the path.")) from error
    except UnicodeDecodeError as error:
        what = f"{path.name} is not UTF-8 text (byte {error.start})."
        raise ConfigError(Problem("prompts", what, "Save it as UTF-8.")) from error
    except (OSError, ValueError) as error:
        what = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}."
        remedy = f"Name a file of up to {MAX_BYTES // MIB} MiB."
        raise ConfigError(Problem("prompts", what, remedy)) from error
    prompts: list[EvaluationPrompt] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        row, wrong = _parse(line)
        where = f"{path.name}:{number}"
        problems += [Problem(where, what, remedy) for what, remedy in wrong]
        prompts.append(EvaluationPrompt(**row, line=number) if not wrong else EvaluationPrompt(""))
    problems += _wrong_count(path, len(prompts))
    if problems:
        more = len(problems) - MAX_PROBLEMS
        rest = [Problem(path.name, f"There are {more} more problems.")] if more > 0 else []
        raise ConfigError(problems[:MAX_PROBLEMS] + rest)
    return prompts


def _wrong_count(path: Path, count: int) -> list[Problem]:
    if count > MAX_PROMPTS:
        remedy = f"Keep up to {MAX_PROMPTS}."
        return [Problem("prompts", f"{path.name} has {count:,} prompts.", remedy)]
    if not count:
        return [Problem("prompts", f"{path.name} has no prompts.", f"Write lines like {EXAMPLE}")]
    return []


def _parse(line: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the fields of a line, and what is wrong with them and how to correct it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}, [("The line is not JSON.", f"Write {EXAMPLE}")]
    if not isinstance(row, dict):
        return {}, [("The line is not a JSON object.", f"Write {EXAMPLE}")]
    return row, list(_wrong_fields(row))


def _wrong_fields(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in row:
        if name not in FIELDS:
            yield f"{name[:80]!r} is not a known field.", f"Use {', '.join(FIELDS)}."
    prompt, expected = row.get("prompt"), row.get("expected", "")
    if not isinstance(prompt, str) or not prompt.strip():
        yield "There is no prompt.", f"Write {EXAMPLE}"
    elif len(prompt) > MAX_CHARS:
        yield f"The prompt has {len(prompt):,} characters.", f"Keep it below {MAX_CHARS:,}."
    if not isinstance(expected, str):
        yield "The expected answer is not text.", "Write it in quotes."
        return
    if "rule" in row:
        yield from _wrong_rule(row["rule"])
    elif not (isinstance(expected, str) and expected.strip()):
        yield "There is no expected answer and no rule to check the answer by.", f"Write {EXAMPLE}"


def _wrong_rule(rule: Any) -> Iterator[tuple[str, str]]:
    try:
        parse_rule(rule)
    except ValueError as error:
        yield f"The rule {error}.", "See the rules of prompts in docs/evaluation.md."
