"""Join message trees, which have one message or one round per row, to conversations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

from modelforge.data.canonical.cells import (
    CONTENT_KEYS,
    REASONING_KEYS,
    ROLE_KEYS,
    WEIGHT_KEYS,
    parse_cell,
)
from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.joining import NO_OPTIONS, JoinOptions
from modelforge.data.formats.json import RawRow
from modelforge.data.formats.round_chains import chain_rounds, is_round
from modelforge.data.formats.sniff import DataFile, Row
from modelforge.data.formats.tree_nodes import (
    LEFT_OUT_CODES,
    NOT_BEST,
    ROOT,
    Node,
    find_states,
    ids_of,
    key_of,
    left_out,
    link_rows,
    path_to,
    refuse_too_large,
)

# Messages with the id of their parent, whole trees, or rounds of a prompt and a completion.
Tree = Literal["messages", "trees", "rounds"]

_MORE_KEYS = ("tool_calls", "function_call", "name", "tool_call_id", *REASONING_KEYS, *WEIGHT_KEYS)
_MAX_PEEKED = 100


def join_messages(file: DataFile, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """Yield the conversations of a message tree; the rows of any other file unchanged.

    Every answer that no other answer follows ends a conversation. Of replies with a rank, only the
    best is used; if pairs are asked for, it is chosen over each of the others. Messages that belong
    to no conversation are yielded last, as unusable rows.
    """
    first = peek(rows, file.join)
    all_rows = chain(first, rows)
    kind = tree_of(first, file.join)
    if kind == "rounds":
        yield from chain_rounds(file, all_rows)
    elif kind is not None:
        for row in _conversations(file, (row for row, _ in all_rows)):
            yield row, None
    else:
        yield from all_rows


def peek(rows: Iterator[RawRow], options: JoinOptions = NO_OPTIONS) -> list[RawRow]:
    """Return the first rows, as many as tell whether they are messages of a tree."""
    first = []
    for row in rows:
        first.append(row)
        # The first messages may have no parent, not even null.
        may_be_tree = _is_message(row[0].data, options) or is_round(row[0].data, options)
        if tree_of([row], options) or not may_be_tree or len(first) >= _MAX_PEEKED:
            break
    return first


def tree_of(rows: Sequence[RawRow], options: JoinOptions = NO_OPTIONS) -> Tree | None:
    """Return what is joined by the id of a parent, if a row names its parent or is a tree."""
    for row, _ in rows:
        if _nested_prompt(row.data) is not None:
            return "trees"
        if key_of(row.data, options.parent_keys) is None:
            continue
        if _is_message(row.data, options):
            return "messages"
        if is_round(row.data, options):
            return "rounds"
    return None


def _is_message(data: dict[str, Any], options: JoinOptions = NO_OPTIONS) -> bool:
    keys_of_message = (options.id_keys, ROLE_KEYS, CONTENT_KEYS)
    return all(key_of(data, keys) is not None for keys in keys_of_message)


def _nested_prompt(data: dict[str, Any]) -> dict[str, Any] | None:
    """Return the root of a tree of OpenAssistant, with its replies inside; None for other rows."""
    prompt = data.get("prompt")
    if isinstance(prompt, str) and prompt.startswith("{") and "replies" in prompt:
        prompt = parse_cell(prompt)
    is_tree = isinstance(prompt, dict) and "replies" in prompt and _is_message(prompt)
    return prompt if is_tree else None


def _conversations(file: DataFile, rows: Iterable[Row]) -> Iterator[Row]:
    flat: list[Row] = []
    chars = joined = 0
    for row in rows:
        prompt = _nested_prompt(row.data)
        if prompt is not None:
            for each in _joined(_nested_nodes(row.line, prompt), file.join):
                joined += _is_joined(each)
                yield each
        elif _is_message(row.data, file.join):
            flat.append(Row(row.line, _kept(row.data, file.join)))
            chars += len(str(flat[-1].data["content"]))
            refuse_too_large(file, len(flat), chars)
        else:
            yield row
    for each in _joined(link_rows(flat), file.join):
        joined += _is_joined(each)
        yield each
    if file.join.pairs and not joined:
        raise _no_pairs(file)


def _is_joined(row: Row) -> bool:
    return isinstance(next(iter(row.data.values())), list)


def _no_pairs(file: DataFile) -> ReadError:
    what = "has no message with two replies of different rank, of which preference pairs are made."
    remedy = "Set the row type to auto or conversation, or give the replies a rank (0 is the best)."
    return read_error(file.name, what, remedy, code="no-ranked-replies")


def _kept(data: dict[str, Any], options: JoinOptions = NO_OPTIONS) -> dict[str, Any]:
    """Return what is needed of a message."""
    role, content = key_of(data, ROLE_KEYS), key_of(data, CONTENT_KEYS)
    assert role is not None
    assert content is not None
    more = {key: data[key] for key in _MORE_KEYS if data.get(key) is not None}
    rank = data.get("rank")
    return {
        "content": {"role": data[role], "content": data[content], **more},
        "ids": ids_of(data, options),
        "rank": _number(rank),
        "is_deleted": _is(data.get("deleted"), "true") or _is(data.get("review_result"), "false"),
    }


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None


def _is(value: Any, text: str) -> bool:
    return str(value).strip().lower() == text


def _nested_nodes(line: int, prompt: dict[str, Any]) -> list[Node]:
    """Return the messages of a tree in one row, parents before their replies."""
    nodes: list[Node] = []
    waiting: list[tuple[Any, int]] = [(prompt, ROOT)]
    while waiting:
        data, parent = waiting.pop()
        if not isinstance(data, dict) or not _is_message(data):
            continue
        nodes.append(Node(line, parent, **_kept(data)))
        replies = data.get("replies")
        if isinstance(replies, list):
            waiting += [(reply, len(nodes) - 1) for reply in reversed(replies)]
    return nodes


def _joined(nodes: Sequence[Node], options: JoinOptions) -> Iterator[Row]:
    """Yield the conversations or pairs of these messages, then the messages that are left out."""
    states, order = find_states(nodes)
    yield from _pairs(nodes, states) if options.pairs else _paths(nodes, order)
    for node, state in zip(nodes, states, strict=True):
        if state in LEFT_OUT_CODES:
            value = left_out(node, state)
            columns = ("chosen", "rejected", "prompt") if options.pairs else ("messages",)
            yield Row(node.line, dict.fromkeys(columns, value))


def _paths(nodes: Sequence[Node], order: Sequence[int]) -> Iterator[Row]:
    """Yield the messages from the root to each answer that no other answer follows."""
    has_answer = [node.is_answer for node in nodes]  # at the message or below it
    ends = has_answer.copy()
    for index in reversed(order):
        parent = nodes[index].parent
        if has_answer[index] and parent >= 0:
            has_answer[parent] = True
            ends[parent] = False
    for index in order:
        # A prompt without any answer is a row of its own, which the checks report.
        if ends[index] or (nodes[index].parent == ROOT and not has_answer[index]):
            yield Row(nodes[index].line, {"messages": path_to(nodes, index)})


def _pairs(nodes: Sequence[Node], states: Sequence[str]) -> Iterator[Row]:
    """Yield the best answer to each message with every answer that has a worse rank."""
    ranked: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for index, node in enumerate(nodes):
        is_used = states[index] in ("", NOT_BEST) and node.parent >= 0
        if is_used and node.rank is not None and node.is_answer:
            ranked[node.parent].append((node.rank, index))
    for parent, replies in ranked.items():
        best_rank, best = min(replies)
        prompt, chosen = path_to(nodes, parent), [nodes[best].content]
        for rank, index in sorted(replies):
            if rank > best_rank:
                rejected = [nodes[index].content]
                row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
                yield Row(nodes[index].line, row)
