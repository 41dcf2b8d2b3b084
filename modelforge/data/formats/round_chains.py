"""Join rows that have a prompt, a completion and the id of the row before them, as in H2O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from modelforge.data.columns.names import (
    COMPLETION_COLUMNS,
    HISTORY_COLUMNS,
    PREFERENCE_COLUMNS,
    PROMPT_COLUMNS,
)
from modelforge.data.formats.joining import JoinOptions
from modelforge.data.formats.json import RawRow
from modelforge.data.formats.sniff import DataFile, Row
from modelforge.data.formats.tree_nodes import (
    LEFT_OUT_CODES,
    Node,
    find_states,
    ids_of,
    key_of,
    left_out,
    link_rows,
    path_to,
    refuse_too_large,
)

HISTORY = HISTORY_COLUMNS[0]
# Of a row without text as well, so that a table of many columns does not fill the memory.
_CHARS_OF_NAME = 8
_ANSWERS = frozenset({*COMPLETION_COLUMNS, *(chosen for chosen, _ in PREFERENCE_COLUMNS[:2])})


def is_round(data: Mapping[str, Any], options: JoinOptions) -> bool:
    """Return whether a row has an id, a prompt and a completion, and no history of its own."""
    if key_of(data, options.id_keys) is None or not options.rounds:
        return False
    names = {str(name).strip().lower() for name in data}
    prompts = options.prompts or tuple(names.intersection(PROMPT_COLUMNS))
    answers = options.answers or tuple(names & _ANSWERS)
    columns = names.union(map(str, data))
    return (
        HISTORY not in names
        and any(name in columns for name in prompts)
        and any(name in columns for name in answers)
    )


def chain_rounds(file: DataFile, rows: Iterable[RawRow]) -> Iterator[RawRow]:
    """Yield the last row of every conversation, with the earlier rows as its history.

    If no row names another row as its parent, the rows are yielded as they are. Rows that belong to
    no conversation are yielded last, as unusable rows.
    """
    kept: list[Row] = []
    chars = 0
    for (line, data), raw in rows:
        kept.append(Row(line, {"content": data, "ids": ids_of(data, file.join)}))
        chars += _size(data) if raw is None else len(raw)
        refuse_too_large(file, len(kept), chars)
    nodes = link_rows(kept)
    if all(node.parent < 0 for node in nodes):
        yield from ((Row(node.line, node.content), None) for node in nodes)
        return
    yield from ((row, None) for row in _joined(nodes))


def _size(data: Mapping[str, Any]) -> int:
    """Return about as many characters as the row would have in JSON, with short names."""
    return sum(len(str(value)) + _CHARS_OF_NAME for value in data.values())


def _joined(nodes: Sequence[Node]) -> Iterator[Row]:
    states, order = find_states(nodes)
    has_reply = {nodes[index].parent for index in order}
    for index in order:
        if index not in has_reply:
            earlier = path_to(nodes, nodes[index].parent) if nodes[index].parent >= 0 else []
            yield Row(nodes[index].line, {**nodes[index].content, HISTORY: earlier})
    for node, state in zip(nodes, states, strict=True):
        if state in LEFT_OUT_CODES:
            yield Row(node.line, {**node.content, HISTORY: left_out(node, state)})
