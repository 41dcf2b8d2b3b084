"""Rules that code can check an answer by: contains a word, equals a number, is a list of n items.

A rule is an object whose keys are the names of checks, all of which have to hold:
`{"contains": ["Paris"], "most_words": 10}`. Upper and lower case count in `case`, `without` and
`starts_with` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelforge.data.json_answers import parse_json_answer, without_fence

_NUMBER = re.compile(r"(?:(?<![\w)])[-−])?(?:\d{1,3}(?:,\d{3}){1,4}(?!\d)|\d{1,15})(?:\.\d{1,12})?")
_ITEM = re.compile(r"\s{0,8}(?:[-*•–]|\(?(?:\d{1,3}|[A-Za-z])[.):])\s+\S")
_SENTENCE_END = re.compile(r"[.!?…。！？]+[\"'”’)\]]{0,3}(?:\s+|$)")
_HELP = r"(?:help|assist|provide|share|give|support|condone|comply|do (?:that|this|so|it))"
_REFUSAL = re.compile(
    r"\b(?:sorry|afraid|apologi[sz]e|apologies)\b[^.!?\n]{0,80}"
    r"\b(?:no|not|but|unable|can't|cannot|don't|won't)\b"
    r"|\b(?:i|we)(?: really| simply| just| must| have to)?"
    r" (?:can't|cannot|can not|won't|will not|must not|should not|shouldn't|refuse|decline)\b"
    r"(?! wait| believe| stress| thank| hesitate| forget)"
    rf"|\b(?:i|we) (?:do not|don't)(?: feel comfortable| want to)? {_HELP}"
    r"|\b(?:i|we)(?: am|'m| are|'re) (?:unable|not"
    r" (?:able|going|allowed|permitted|comfortable|willing))\b"
    r"|\b(?:i|we) (?:do not|don't) have the (?:ability|capability|permission)\b"
    rf"|\b(?:not (?:able|allowed|permitted) to|can't|cannot|won't|unable to) {_HELP}\b"
)
# A refusal stands at the beginning of an answer.
_REFUSAL_CHARACTERS = 300
_LONGEST_ANSWER = 100_000


class _Check(NamedTuple):
    """A check: what its value must be, whether an answer holds, and its words."""

    kind: str
    holds: Callable[[str, Any], bool]
    text: str


@dataclass(frozen=True)
class AnswerRule:
    """Checks by name with their values; `parse_rule` makes one."""

    checks: Mapping[str, Any]

    def holds(self, answer: str) -> bool:
        """Return whether an answer passes all checks; an empty answer passes none."""
        text = answer[:_LONGEST_ANSWER].strip()
        return bool(text) and all(CHECKS[name].holds(text, v) for name, v in self.checks.items())

    def describe(self) -> str:
        """Return the rule in words: `contains Paris; has at most 10 words`."""
        return "; ".join(_describe(name, value) for name, value in self.checks.items())


def parse_rule(value: Any) -> AnswerRule:
    """Return the rule of a JSON object.

    Raises:
        ValueError: it has no check, an unknown one, a value of another kind, or checks that no
            answer can pass together. The message is the rest of a sentence about the rule.
    """
    if not isinstance(value, dict) or not value:
        raise ValueError("has no check")
    for name, wanted in value.items():
        if name not in CHECKS:
            raise ValueError(f"has the unknown check {name!r:.60}")
        kind = CHECKS[name].kind
        if not _KINDS[kind](wanted):
            raise ValueError(f"has {name}: {wanted!r:.60}, which is not {kind}")
    rule = AnswerRule(
        {
            name: [v] if isinstance(v, str) and CHECKS[name].kind == _TEXTS else v
            for name, v in value.items()
        }
    )
    for contradiction in _contradictions(rule.checks):
        raise ValueError(f"contradicts itself: {contradiction}")
    return rule


def refuses(answer: str) -> bool:
    """Return whether an answer declines at its beginning to do what was asked."""
    text = answer[:_REFUSAL_CHARACTERS].lower().replace("’", "'")
    return _REFUSAL.search(text) is not None


def list_items(answer: str) -> int:
    """Return the number of items of a list: of lines with a bullet or a number, or of JSON."""
    value = parse_json_answer(answer)
    if isinstance(value, list):
        return len(value)
    return sum(_ITEM.match(line) is not None for line in without_fence(answer).splitlines())


def numbers(answer: str) -> list[float]:
    """Return the numbers of an answer in order: 1,250.5 is one number, 3 in 3rd is one too."""
    texts = (match[0].replace(",", "").replace("−", "-") for match in _NUMBER.finditer(answer))
    return [float(text) for text in texts]


def sentences(answer: str) -> int:
    """Return the number of sentences; text without an end mark at its end is one, too."""
    ends = [match.end() for match in _SENTENCE_END.finditer(answer.strip())]
    return len(ends) + (not ends or ends[-1] < len(answer.strip()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_texts(value: Any) -> bool:
    texts = [value] if isinstance(value, str) else value
    is_list = isinstance(texts, list) and bool(texts)
    return is_list and all(isinstance(text, str) and text for text in texts)


_TEXTS, _COUNT = "a text or a list of texts", "a whole number above 0"
_KINDS: dict[str, Callable[[Any], bool]] = {
    _TEXTS: _is_texts,
    _COUNT: _is_count,
    "a number": _is_number,
    "true or false": lambda value: isinstance(value, bool),
    '"upper" or "lower"': lambda value: value in ("upper", "lower"),
}


def _has(text: str, wanted: str) -> bool:
    """Return whether a text has a word or phrase, not as a part of a longer word."""
    pattern = re.escape(wanted.lower())
    if wanted[0].isalnum():
        pattern = rf"(?<!\w){pattern}"
    if wanted[-1].isalnum():
        pattern = rf"{pattern}(?!\w)"
    return re.search(pattern, text.lower().replace("’", "'")) is not None


def _equals(text: str, wanted: Sequence[str]) -> bool:
    plain = " ".join(text.lower().replace("’", "'").split()).strip(" .!\"'*`")
    return plain in [" ".join(each.lower().split()) for each in wanted]


def _is_number_of(text: str, wanted: float) -> bool:
    """Return whether the first or last number, or that behind the last "=", is the wanted one."""
    values = numbers(text)
    result = numbers(text.rpartition("=")[2]) if "=" in text else []
    candidates = [*values[:1], *values[-1:], *result[:1]]
    return any(abs(value - wanted) <= 1e-6 * max(1.0, abs(wanted)) for value in candidates)


def _has_json_keys(text: str, keys: Sequence[str]) -> bool:
    value = parse_json_answer(text)
    return isinstance(value, dict) and sorted(value) == sorted(keys)


def _in_order(text: str, wanted: Sequence[str]) -> bool:
    places = [text.lower().find(each.lower()) for each in wanted]
    return -1 not in places and places == sorted(places)


CHECKS: dict[str, _Check] = {
    "contains": _Check(_TEXTS, lambda text, v: any(_has(text, each) for each in v), "contains {}"),
    "contains_all": _Check(
        _TEXTS, lambda text, v: all(_has(text, each) for each in v), "contains all of {}"
    ),
    "in_order": _Check(_TEXTS, _in_order, "names in this order {}"),
    "without": _Check(
        _TEXTS, lambda text, v: not any(each in text for each in v), "does not contain {}"
    ),
    "equals": _Check(_TEXTS, _equals, "is {}"),
    "starts_with": _Check(_TEXTS, lambda text, v: text.startswith(tuple(v)), "starts with {}"),
    "ends_with": _Check(
        _TEXTS, lambda text, v: text.lower().endswith(tuple(e.lower() for e in v)), "ends with {}"
    ),
    "number": _Check("a number", _is_number_of, "has the number {}"),
    "json_keys": _Check(_TEXTS, _has_json_keys, "is a JSON object with the keys {}"),
    "list_items": _Check(_COUNT, lambda text, v: list_items(text) == v, "is a list of {} items"),
    "lines": _Check(
        _COUNT,
        lambda text, v: sum(bool(line.strip()) for line in text.splitlines()) == v,
        "has {} lines",
    ),
    "sentences": _Check(_COUNT, lambda text, v: sentences(text) == v, "has {} sentences"),
    "most_words": _Check(_COUNT, lambda text, v: len(text.split()) <= v, "has at most {} words"),
    "least_words": _Check(_COUNT, lambda text, v: len(text.split()) >= v, "has at least {} words"),
    "case": _Check(
        '"upper" or "lower"',
        lambda text, v: text == (text.upper() if v == "upper" else text.lower()),
        "is in {} case",
    ),
    "refuses": _Check("true or false", lambda text, v: refuses(text) == v, "declines: {}"),
}


def _describe(name: str, value: Any) -> str:
    if name == "refuses":
        return "declines the request" if value else "does not decline the request"
    alternatives = ("contains", "equals", "starts_with", "ends_with", "without")
    words = " or ".join(value) if name in alternatives else None
    if isinstance(value, list) and words is None:
        words = ", ".join(value)
    return CHECKS[name].text.format(words if words is not None else value)


def _contradictions(checks: Mapping[str, Any]) -> Iterator[str]:
    """Yield pairs of checks that no answer can pass together, in words."""
    if checks.get("least_words", 0) > (most := checks.get("most_words", float("inf"))):
        yield f"at least {checks['least_words']} words, but at most {most}"
    lines, items = checks.get("lines"), checks.get("list_items")
    if lines and items and "json_keys" not in checks and items > lines > 1:
        yield f"a list of {items} items in {lines} lines"
    if "json_keys" in checks and items:
        yield "a JSON object and a list"
    if checks.get("refuses") and checks.keys() & {"equals", "number", "json_keys"}:
        yield "an answer and a refusal"
    for forbidden in checks.get("without", ()):
        yield from _needed_but_forbidden(checks, forbidden)
    yield from _impossible_texts(checks)


def _needed_but_forbidden(checks: Mapping[str, Any], forbidden: str) -> Iterator[str]:
    for name in ("contains_all", "in_order"):
        if any(forbidden in text for text in checks.get(name, ())):
            yield f"{name} and without have {forbidden!r}"
    for name in ("contains", "equals", "starts_with", "ends_with"):
        if name in checks and all(forbidden in text for text in checks[name]):
            yield f"{name} and without have {forbidden!r}"


def _impossible_texts(checks: Mapping[str, Any]) -> Iterator[str]:
    """Yield a contradiction if no text of `equals` passes the other checks."""
    rule = AnswerRule({name: value for name, value in checks.items() if name != "equals"})
    if "equals" in checks and rule.checks:
        variants = [f(text) for text in checks["equals"] for f in (str, str.upper, str.lower)]
        if not any(rule.holds(text + end) for text in variants for end in ("", ".", "!")):
            yield "no text of equals passes the other checks"
