"""Score the tool calls in an answer: names, arguments, and rightly no call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.data.find_calls import (
    ToolCall,
    argument_schemas,
    call_key,
    call_of,
    find_calls,
)


@dataclass(frozen=True)
class CallScore:
    """Scores of one answer, 0.0 or 1.0; None where the row does not ask for it.

    Attributes:
        name: The tools that are called are the expected ones; in rows that expect a call.
        arguments: So are all of their arguments; in rows that expect a call.
        no_call: Nothing is called; in rows that expect no call.
    """

    name: float | None = None
    arguments: float | None = None
    no_call: float | None = None

    @property
    def right(self) -> float:
        """1.0 if everything is as expected, otherwise 0.0."""
        return self.no_call if self.no_call is not None else self.arguments or 0.0


def score_calls(
    answer: str, expected: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
) -> CallScore:
    """Score the calls of an answer.

    The order of calls does not count. An argument that is missing equals the default of its
    schema. Numbers are equal by value (2 and 2.0); texts have to be equal to the letter.

    Args:
        answer: text of the answer, with or without its special tokens.
        expected: expected calls as in canonical rows; none if no tool should be called.
        tools: the tools of the row, as in canonical rows.
    """
    found = find_calls(answer, tools)
    if not expected:
        return CallScore(no_call=float(not found.is_call))
    schemas = argument_schemas(tools)
    wanted = [_complete(call_of(call), schemas) for call in expected]
    made = [_complete(call, schemas) for call in found.calls]
    names, wanted_names = ([call.name for call in calls] for calls in (made, wanted))
    return CallScore(
        name=float(sorted(names) == sorted(wanted_names)),
        arguments=float(sorted(map(call_key, made)) == sorted(map(call_key, wanted))),
    )


def _complete(call: ToolCall, schemas: Mapping[str, Mapping[str, Any]]) -> ToolCall:
    """Return a call with the defaults of its schema for arguments that are missing."""
    properties = schemas.get(call.name, {})
    defaults = {
        name: schema["default"]
        for name, schema in properties.items()
        if isinstance(schema, Mapping) and "default" in schema
    }
    return ToolCall(call.name, {**defaults, **call.arguments})
