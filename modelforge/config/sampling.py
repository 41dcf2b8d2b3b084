"""How the tokens of an answer are chosen: the sampling parameters of a chat, with their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from modelforge.errors import Problem

MAX_NEW_TOKENS = 8192
MAX_TOP_K = 1000
MAX_SEED = 2**32 - 1
# The beginnings that nanochat continues, so that runs can be compared.
BEGINNINGS = (
    "The capital of France is",
    "The chemical symbol of gold is",
    "If yesterday was Friday, then tomorrow will be",
    "The opposite of hot is",
    "The planets of the solar system are:",
    "My favorite color is",
    "If 5*x + 3 = 13, then x is",
)


@dataclass(frozen=True)
class Sampling:
    """The sampling parameters of a request. Temperature 0 is greedy, whatever the seed.

    `top_k` and `repetition_penalty` are those of the model's generation config where they are null.
    """

    # REST refuses a misspelt field.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    temperature: Annotated[
        float, Field(ge=0, le=2, description="0 always takes the likeliest token.")
    ] = 0.0
    top_p: Annotated[
        float,
        Field(gt=0, le=1, description="Samples from the likeliest tokens of this probability."),
    ] = 0.95
    top_k: Annotated[
        int | None,
        Field(ge=0, le=MAX_TOP_K, description="Samples from so many tokens; 0: from all."),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        Field(ge=0.5, le=2, description="Above 1: repeated tokens become less likely."),
    ] = None
    max_new_tokens: Annotated[
        int, Field(ge=1, le=MAX_NEW_TOKENS, description="Tokens of the longest answer.")
    ] = 256
    seed: Annotated[
        int | None, Field(ge=0, le=MAX_SEED, description="Null: another one for each answer.")
    ] = None

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as the fields of a request of the chat process."""
        return asdict(self)


def read_sampling(values: Mapping[str, Any]) -> Sampling | Problem:
    """Return the parameters among `values`, or the problem of the first one out of its bounds."""
    given = {each.name: values.get(each.name, each.default) for each in fields(Sampling)}
    for name, (is_valid, remedy) in _CHECKS.items():
        if not is_valid(given[name]):
            return Problem(name, f"{given[name]!r:.50} is not possible.", remedy)
    return Sampling(**given)


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object, least: float, most: float) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return least <= value <= most  # NaN is in no range


_CHECKS: dict[str, tuple[Any, str]] = {
    "max_new_tokens": (
        lambda value: _is_whole(value, 1, MAX_NEW_TOKENS),
        f"Give a whole number from 1 to {MAX_NEW_TOKENS}.",
    ),
    "temperature": (lambda value: _is_number(value, 0, 2), "Give a number from 0 to 2."),
    "top_p": (
        lambda value: _is_number(value, 0, 1) and value > 0,
        "Give a number above 0 and at most 1.",
    ),
    "top_k": (
        lambda value: value is None or _is_whole(value, 0, MAX_TOP_K),
        f"Give a whole number from 0 (all tokens) to {MAX_TOP_K}.",
    ),
    "repetition_penalty": (
        lambda value: value is None or _is_number(value, 0.5, 2),
        "Give a number from 0.5 to 2; 1 is none.",
    ),
    "seed": (
        lambda value: value is None or _is_whole(value, 0, MAX_SEED),
        "Give a whole number below 2**32.",
    ),
}
