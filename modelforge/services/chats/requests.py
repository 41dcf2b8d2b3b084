"""What is asked in a chat: one or two models, each with its conversation, and its limits."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from modelforge.config.sampling import MAX_SEED, Sampling, read_sampling
from modelforge.config.schema.base import about
from modelforge.data.canonical.messages import (
    ROLES,
    Message,
    UnusableRowError,
    to_messages,
    to_tools,
)
from modelforge.errors import ConfigError, Problem

MAX_MODEL = 500
MAX_MESSAGES = 200
MAX_CHARACTERS = 100_000
MAX_ALL_CHARACTERS = 1_000_000
MAX_TOOLS = 32
MAX_TOOLS_CHARACTERS = 100_000

Device = Literal["auto", "cpu"]


@dataclass(frozen=True)
class Side:
    """A model and the conversation with it, which ends with a question or a tool's result."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: Annotated[
        str, Field(max_length=MAX_MODEL, description="Id of a run, or name of a base model.")
    ]
    tuned: Annotated[bool, about("False: the base model of the run, without its adapter.")] = True
    messages: Annotated[
        tuple[dict[str, Any], ...],
        Field(
            max_length=MAX_MESSAGES,
            description="Messages with `role` and `content`; an answer may have `tool_calls` with "
            "`name` and `arguments`.",
        ),
    ] = ()

    @property
    def key(self) -> dict[str, Any]:
        """The side without its conversation."""
        return {"model": self.model, "tuned": self.tuned}


@dataclass(frozen=True)
class ChatAsk:
    """A question to one model, or to two with the same sampling parameters and seed."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sides: Annotated[tuple[Side, ...], Field(min_length=1, max_length=2)]
    sampling: Sampling = field(default_factory=Sampling)
    tools: Annotated[
        tuple[dict[str, Any], ...],
        Field(max_length=MAX_TOOLS, description="Functions that the model may call."),
    ] = ()
    device: Annotated[Device, about("`cpu` asks on the CPU, also while a run uses the GPU.")] = (
        "auto"
    )
    gpu: Annotated[
        int | None, about("The index of the GPU; null: that of the run, or the one most free.")
    ] = None
    blind: Annotated[bool, about("Whether the two answers come shuffled, for a vote.")] = False

    def checked(self) -> ChatAsk:
        """Return the request with its messages and tools in one spelling.

        Raises ConfigError with every problem.
        """
        problems = [*_side_problems(self), *_sampling_problems(self.sampling)]
        tools, problem = read_tools(self.tools)
        problems += [problem] if problem else []
        sides = []
        for number, side in enumerate(self.sides):
            messages, problem = read_messages(side.messages, f"sides.{number}.messages")
            problems += [problem] if problem else []
            sides.append(Side(side.model, side.tuned, tuple(messages)))
        if problems:
            raise ConfigError(problems)
        sampling = self.sampling
        if sampling.seed is None:  # the same for both sides
            sampling = replace(sampling, seed=secrets.randbelow(MAX_SEED + 1))
        return ChatAsk(tuple(sides), sampling, tuple(tools), self.device, self.gpu, self.blind)

    def as_dict(self) -> dict[str, Any]:
        """Return the request as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ChatAsk:
        """Return the request of a record."""
        sides = tuple(
            Side(side["model"], side["tuned"], tuple(side["messages"])) for side in data["sides"]
        )
        sampling = read_sampling(data.get("sampling", {}))
        if isinstance(sampling, Problem):
            raise ConfigError(sampling)
        tools = tuple(data.get("tools", ()))
        return cls(sides, sampling, tools, data.get("device", "auto"), data.get("gpu"))


def encodable(value: Any) -> Any:
    """Return JSON data without lone surrogates, which no file and no tokenizer can encode."""
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-8", "replace"))


def read_messages(
    messages: Sequence[dict[str, Any]], where: str
) -> tuple[list[Message], Problem | None]:
    """Return the messages in one spelling, or the problem with them."""
    problem = _messages_problem(messages, where)
    if problem is not None:
        return [], problem
    try:
        return to_messages(encodable(list(messages)), {}), None
    except UnusableRowError as error:
        what = f"A tool call cannot be read ({error.code})."
        return [], Problem(where, what, 'Write [{"name": "…", "arguments": {…}}].')


def read_tools(tools: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], Problem | None]:
    """Return the tools in one spelling, or the problem with them."""
    if len(tools) > MAX_TOOLS:
        return [], Problem("tools", f"There are {len(tools)} tools.", f"Give at most {MAX_TOOLS}.")
    size = len(json.dumps(tools))
    if size > MAX_TOOLS_CHARACTERS:
        limit = f"Give at most {MAX_TOOLS_CHARACTERS:,} characters."
        return [], Problem("tools", f"The tools have {size:,} characters as JSON.", limit)
    try:
        return to_tools(encodable(list(tools))), None
    except UnusableRowError:
        what = "The tools are not a list of named functions."
        return [], Problem("tools", what, 'Write [{"name": "…", "parameters": {…}}].')


def _messages_problem(messages: Sequence[dict[str, Any]], where: str) -> Problem | None:
    if not 1 <= len(messages) <= MAX_MESSAGES:
        remedy = f"Give 1 to {MAX_MESSAGES} messages."
        return Problem(where, f"The conversation has {len(messages)} messages.", remedy)
    for message in messages:
        if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
            remedy = f"Use role and content, with the roles {', '.join(ROLES)}."
            return Problem(where, "A message has no known role or no text.", remedy)
    longest = max(len(message["content"]) for message in messages)
    if longest > MAX_CHARACTERS:
        remedy = f"Give at most {MAX_CHARACTERS:,} characters."
        return Problem(where, f"A message has {longest:,} characters.", remedy)
    if len(json.dumps(messages)) > 2 * MAX_ALL_CHARACTERS:
        return Problem(where, "The conversation is too large.", "Start a new one.")
    if messages[-1]["role"] not in ("user", "tool"):
        remedy = "End with a question, or with the result of a tool."
        return Problem(where, "The conversation ends with an answer.", remedy)
    return None


def _side_problems(ask: ChatAsk) -> list[Problem]:
    if not 1 <= len(ask.sides) <= 2:
        return [Problem("sides", f"There are {len(ask.sides)} sides.", "Give one or two.")]
    problems = []
    if any(not 1 <= len(side.model) <= MAX_MODEL for side in ask.sides):
        remedy = "Give the id of a run or the name of a model."
        problems.append(Problem("sides", "A model has no name, or a too long one.", remedy))
    if len(ask.sides) == 2 and ask.sides[0].key == ask.sides[1].key:
        remedy = "Choose another model for one of them."
        problems.append(Problem("sides", "Both sides are the same model.", remedy))
    if ask.blind and len(ask.sides) < 2:
        problems.append(Problem("blind", "Only one model was chosen.", "Choose two to compare."))
    return problems


def _sampling_problems(sampling: Sampling) -> list[Problem]:
    found = read_sampling(sampling.as_dict())
    return [found] if isinstance(found, Problem) else []
