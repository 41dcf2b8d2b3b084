"""Join message trees, which have one message per row, to conversations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from modelforge.data.canonical.cells import (
    CALL,
    CONTENT_KEYS,
    REASONING_KEYS,
    ROLE_ALIASES,
    ROLE_KEYS,
    WEIGHT_KEYS,
)
from modelforge.data.formats.errors import read_error
from modelforge.data.formats.json import RawRow
from modelforge.data.formats.sniff import DataFile, Row
from modelforge.units import MIB

# The messages of a file are kept in memory, because a reply may precede its parent.
MAX_MESSAGES = 500_000
MAX_TEXT_CHARS = 128 * MIB
# The key, beside the ids of a message, of the reason for which it is in no conversation.
LEFT_OUT = "left_out"
ORPHAN, CYCLE = "orphan-message", "message-cycle"
DUPLICATE, DELETED = "duplicate-message", "deleted-message"
LEFT_OUT_CODES = frozenset({ORPHAN, CYCLE, DUPLICATE, DELETED})

_ID_KEYS = ("message_id", "id")
_PARENT_KEYS = ("parent_id", "parent_message_id")
_MORE_KEYS = ("tool_calls", "function_call", "name", "tool_call_id", *REASONING_KEYS, *WEIGHT_KEYS)
_NO_PARENT = frozenset({"", "none", "null", "nan", "root"})
_MAX_PEEKED = 100
_ROOT, _MISSING = -1, -2
# The state of a reply that is not the best of those with a rank.
_NOT_BEST = "not-best"


@dataclass(frozen=True, slots=True)
class _Node:
    """A message and the index of the message before it.

    `ids` are those of the message and its parent, for a message that is left out.
    """

    line: int
    parent: int
    message: dict[str, Any]
    ids: tuple[str, str]
    rank: float | None
    is_deleted: bool
    is_duplicate: bool = False

    @property
    def is_answer(self) -> bool:
        role = ROLE_ALIASES.get(str(self.message.get("role")).strip().lower())
        return role in ("assistant", CALL)


def join_messages(file: DataFile, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """Yield the conversations of a message tree; the rows of any other file unchanged.

    Every answer that no other answer follows ends a conversation. Of replies with a rank, only the
    best is used. Messages that belong to no conversation are yielded last, as unusable rows.
    """
    first = peek(rows)
    all_rows = chain(first, rows)
    if not any(map(is_tree_row, first)):
        yield from all_rows
        return
    for row in _conversations(file, (row for row, _ in all_rows)):
        yield row, None


def peek(rows: Iterator[RawRow]) -> list[RawRow]:
    """Return the first rows, as many as tell whether they are messages of a tree."""
    first = []
    for row in rows:
        first.append(row)
        # The first messages may have no parent, not even null.
        if is_tree_row(row) or not _is_message(row[0].data) or len(first) >= _MAX_PEEKED:
            break
    return first


def is_tree_row(row: RawRow) -> bool:
    """Return whether a row is a message that names its parent, or a whole tree."""
    data = row[0].data
    return _is_nested(data) or (_is_message(data) and _key(data, _PARENT_KEYS) is not None)


def _is_message(data: dict[str, Any]) -> bool:
    return all(_key(data, keys) is not None for keys in (_ID_KEYS, ROLE_KEYS, CONTENT_KEYS))


def _is_nested(data: dict[str, Any]) -> bool:
    """Return whether a row is a tree of OpenAssistant: a prompt with its replies inside."""
    prompt = data.get("prompt")
    return isinstance(prompt, dict) and "replies" in prompt and _is_message(prompt)


def _key(data: dict[str, Any], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in data), None)


def _conversations(file: DataFile, rows: Iterable[Row]) -> Iterator[Row]:
    flat: list[Row] = []
    chars = 0
    for row in rows:
        if _is_nested(row.data):
            yield from _joined(_nested_nodes(row))
        elif _is_message(row.data):
            flat.append(Row(row.line, _kept(row.data)))
            chars += len(str(flat[-1].data["message"]["content"]))
            if len(flat) > MAX_MESSAGES or chars > MAX_TEXT_CHARS:
                raise _too_large(file)
        else:
            yield row
    yield from _joined(_flat_nodes(flat))


def _too_large(file: DataFile) -> Exception:
    what = (
        f"has more than {MAX_MESSAGES:,} messages or {MAX_TEXT_CHARS // MIB} MiB of text, the "
        "maximum for messages that are joined by parent_id."
    )
    remedy = "Divide it into files with whole trees, or write one conversation per row (messages)."
    return read_error(file.name, what, remedy, code="tree-too-large")


def _kept(data: dict[str, Any]) -> dict[str, Any]:
    """Return what is needed of a message."""
    role, content = _key(data, ROLE_KEYS), _key(data, CONTENT_KEYS)
    assert role is not None
    assert content is not None
    more = {key: data[key] for key in _MORE_KEYS if data.get(key) is not None}
    rank = data.get("rank")
    return {
        "message": {"role": data[role], "content": data[content], **more},
        "ids": (_id(data, _ID_KEYS), _id(data, _PARENT_KEYS)),
        "rank": _number(rank),
        "is_deleted": _is(data.get("deleted"), "true") or _is(data.get("review_result"), "false"),
    }


def _id(data: dict[str, Any], keys: Sequence[str]) -> str:
    """Return an id as text; "" for none. Numbers beside nulls may have become floats."""
    key = _key(data, keys)
    text = str(data[key]).strip().removesuffix(".0") if key else ""
    return "" if text.lower() in _NO_PARENT else text


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None


def _is(value: Any, text: str) -> bool:
    return str(value).strip().lower() == text


def _flat_nodes(rows: Sequence[Row]) -> list[_Node]:
    index_by_id: dict[str, int] = {}
    for index, row in enumerate(rows):
        index_by_id.setdefault(row.data["ids"][0], index)
    nodes = []
    for index, (line, data) in enumerate(rows):
        own, parent = data["ids"]
        place = index_by_id.get(parent, _MISSING) if parent else _ROOT
        is_duplicate = own != "" and index_by_id[own] != index
        nodes.append(_Node(line, place, is_duplicate=is_duplicate, **data))
    return nodes


def _nested_nodes(row: Row) -> list[_Node]:
    """Return the messages of a tree in one row, parents before their replies."""
    nodes: list[_Node] = []
    waiting = [(row.data["prompt"], _ROOT)]
    while waiting:
        data, parent = waiting.pop()
        if not isinstance(data, dict) or not _is_message(data):
            continue
        nodes.append(_Node(row.line, parent, **_kept(data)))
        replies = data.get("replies")
        if isinstance(replies, list):
            waiting += [(reply, len(nodes) - 1) for reply in reversed(replies)]
    return nodes


def _joined(nodes: Sequence[_Node]) -> Iterator[Row]:
    """Yield the conversations of these messages, then the messages that are left out."""
    states, order = _states(nodes)
    has_answer = [node.is_answer for node in nodes]  # at the message or below it
    ends = has_answer.copy()
    for index in reversed(order):
        parent = nodes[index].parent
        if has_answer[index] and parent >= 0:
            has_answer[parent] = True
            ends[parent] = False
    for index in order:
        # A prompt without any answer is a row of its own, which the checks report.
        if ends[index] or (nodes[index].parent == _ROOT and not has_answer[index]):
            yield Row(nodes[index].line, {"messages": _path(nodes, index)})
    for node, state in zip(nodes, states, strict=True):
        code = CYCLE if state is None else state
        if code in LEFT_OUT_CODES:
            own, parent_id = node.ids
            left_out = {"message_id": own, "parent_id": parent_id, LEFT_OUT: code}
            yield Row(node.line, {"messages": left_out})


def _states(nodes: Sequence[_Node]) -> tuple[list[str | None], list[int]]:
    """Return the state of every message, and the used messages with parents before replies.

    The state is "" for a used message, None if no path leads to it, else why it is not used.
    """
    replies: dict[int, list[int]] = defaultdict(list)
    states: list[str | None] = [None] * len(nodes)
    waiting: list[tuple[int, str]] = []
    for index, node in enumerate(nodes):
        if node.is_duplicate:
            states[index] = DUPLICATE
        elif node.parent >= 0:
            replies[node.parent].append(index)
        else:
            waiting.append((index, ORPHAN if node.parent == _MISSING else ""))
    waiting.reverse()
    order = []
    while waiting:
        index, state = waiting.pop()
        states[index] = state = state or (DELETED if nodes[index].is_deleted else "")
        if not state:
            order.append(index)
        best = _best(nodes, replies[index])
        for reply in reversed(replies[index]):
            is_used = best is None or reply == best or nodes[reply].is_deleted
            waiting.append((reply, state or ("" if is_used else _NOT_BEST)))
    return states, order


def _best(nodes: Sequence[_Node], replies: Sequence[int]) -> int | None:
    """Return the reply with the lowest rank; None if none has a rank."""
    ranks = [
        (rank, reply)
        for reply in replies
        if (rank := nodes[reply].rank) is not None and not nodes[reply].is_deleted
    ]
    return min(ranks)[1] if ranks else None


def _path(nodes: Sequence[_Node], index: int) -> list[dict[str, Any]]:
    messages = []
    while index >= 0:
        messages.append(nodes[index].message)
        index = nodes[index].parent
    return messages[::-1]
