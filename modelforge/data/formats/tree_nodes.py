"""Link rows by the id of the row before them, and find those that no path leads to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.data.canonical.cells import CALL, ROLE_ALIASES
from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.joining import JoinOptions
from modelforge.data.formats.sniff import DataFile, Row
from modelforge.units import MIB

# The rows of a file are kept in memory, because a reply may precede its parent.
MAX_MESSAGES = 500_000
MAX_TEXT_CHARS = 128 * MIB
# Without this limit, a deep tree with many ends is a number of messages that no memory holds.
MAX_DEPTH = 1_000
# The key, beside the ids of a message, of the reason for which it is in no conversation.
LEFT_OUT = "left_out"
ORPHAN, CYCLE, TOO_DEEP = "orphan-message", "message-cycle", "deep-message"
DUPLICATE, DELETED = "duplicate-message", "deleted-message"
LEFT_OUT_CODES = frozenset({ORPHAN, CYCLE, TOO_DEEP, DUPLICATE, DELETED})
# The state of a reply that is not the best of those with a rank.
NOT_BEST = "not-best"

_NO_PARENT = frozenset({"", "none", "null", "nan", "root", "<na>"})
ROOT, MISSING = -1, -2


@dataclass(frozen=True, slots=True)
class Node:
    """A message or row, and the index of the one before it.

    Args:
        content: the message, or the whole row.
        ids: those of the row and of its parent.
        rank: the place among the replies to the same message, the best first.
    """

    line: int
    parent: int
    content: dict[str, Any]
    ids: tuple[str, str]
    rank: float | None = None
    is_deleted: bool = False
    is_duplicate: bool = False

    @property
    def is_answer(self) -> bool:
        """Whether it is a message of the assistant."""
        role = ROLE_ALIASES.get(str(self.content.get("role")).strip().lower())
        return role in ("assistant", CALL)


def key_of(data: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """Return the first of these keys that a row has."""
    return next((key for key in keys if key in data), None)


def ids_of(data: Mapping[str, Any], options: JoinOptions) -> tuple[str, str]:
    """Return the id of a row and that of its parent as text, "" for none."""
    return _id(data, options.id_keys), _id(data, options.parent_keys)


def _id(data: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return an id as text; "" for none. Numbers beside nulls may have become floats."""
    key = key_of(data, keys)
    text = str(data[key]).strip().removesuffix(".0") if key else ""
    return "" if text.lower() in _NO_PARENT else text


def refuse_too_large(file: DataFile, messages: int, chars: int) -> None:
    """Raise ReadError for more messages or text than are kept in memory."""
    if messages > MAX_MESSAGES or chars > MAX_TEXT_CHARS:
        raise _too_large(file)


def _too_large(file: DataFile) -> ReadError:
    what = (
        f"has more than {MAX_MESSAGES:,} messages or {MAX_TEXT_CHARS // MIB} MiB of text, the "
        "maximum for messages that are joined by parent_id."
    )
    remedy = (
        "Divide it into files with whole trees, write one conversation per row (messages), or set "
        "parent_id as not used."
    )
    return read_error(file.name, what, remedy, code="tree-too-large")


def link_rows(rows: Sequence[Row]) -> list[Node]:
    """Return rows, whose data are the arguments of a node, linked by their ids."""
    index_by_id: dict[str, int] = {}
    for index, row in enumerate(rows):
        index_by_id.setdefault(row.data["ids"][0], index)
    nodes = []
    for index, (line, data) in enumerate(rows):
        own, parent = data["ids"]
        place = index_by_id.get(parent, MISSING) if parent else ROOT
        is_duplicate = own != "" and index_by_id[own] != index
        nodes.append(Node(line, place, is_duplicate=is_duplicate, **data))
    return nodes


def find_states(nodes: Sequence[Node]) -> tuple[list[str], list[int]]:
    """Return the state of every node, and the used nodes with parents before replies.

    The state is "" for a used node, NOT_BEST for a reply that another one is better than, else the
    reason for which it is left out.
    """
    replies: dict[int, list[int]] = defaultdict(list)
    states: list[str] = [CYCLE] * len(nodes)  # of those that no path leads to
    waiting: list[tuple[int, str, int]] = []
    for index, node in enumerate(nodes):
        if node.is_duplicate:
            states[index] = DUPLICATE
        elif node.parent >= 0:
            replies[node.parent].append(index)
        else:
            waiting.append((index, ORPHAN if node.parent == MISSING else "", 1))
    waiting.reverse()
    order = []
    while waiting:
        index, state, depth = waiting.pop()
        state = state or _own_state(nodes[index], depth)
        states[index] = state
        if not state:
            order.append(index)
        best = _best(nodes, replies[index])
        for reply in reversed(replies[index]):
            is_used = best is None or reply == best or nodes[reply].is_deleted
            waiting.append((reply, state or ("" if is_used else NOT_BEST), depth + 1))
    return states, order


def _own_state(node: Node, depth: int) -> str:
    if node.is_deleted:
        return DELETED
    return TOO_DEEP if depth > MAX_DEPTH else ""


def _best(nodes: Sequence[Node], replies: Sequence[int]) -> int | None:
    """Return the reply with the lowest rank; None if none has a rank."""
    ranks = [
        (rank, reply)
        for reply in replies
        if (rank := nodes[reply].rank) is not None and not nodes[reply].is_deleted
    ]
    return min(ranks)[1] if ranks else None


def path_to(nodes: Sequence[Node], index: int) -> list[dict[str, Any]]:
    """Return the contents from the root to a node."""
    contents = []
    while index >= 0:
        contents.append(nodes[index].content)
        index = nodes[index].parent
    return contents[::-1]


def left_out(node: Node, state: str) -> dict[str, str]:
    """Return what takes the place of the messages of a node that is left out."""
    own, parent_id = node.ids
    return {"message_id": own, "parent_id": parent_id, LEFT_OUT: state}
