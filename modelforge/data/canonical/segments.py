"""Convert text in segments, each trained or only read: Axolotl's files without a template."""

from __future__ import annotations

from typing import Any

from modelforge.data.canonical.cells import parse_cell
from modelforge.data.canonical.messages import UnusableRowError

# Start and end of a segment in the characters of the text, and whether it is trained.
Segment = list[int | bool]
_LABELS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def to_segments(value: Any) -> tuple[str, list[Segment]]:
    """Return the whole text and its segments.

    Raises UnusableRowError for a list without text, a segment without text or label, and if no
    segment is trained.
    """
    items = parse_cell(value)
    if not isinstance(items, list) or not items:
        raise UnusableRowError("bad-segments")
    texts: list[str] = []
    segments: list[Segment] = []
    position = 0
    for item in items:
        text, is_trained = _read(item)
        if text:
            segments.append([position, position + len(text), is_trained])
            texts.append(text)
            position += len(text)
    whole = "".join(texts)
    if not whole.strip():
        raise UnusableRowError("empty-text")
    if not any(is_trained for _, _, is_trained in segments):
        raise UnusableRowError("no-trained-segment")
    return whole, segments


def are_segments(value: Any) -> bool:
    """Return whether a value is a list of segments."""
    return isinstance(value, list) and bool(value) and all(map(is_segment, value))


def is_segment(item: Any) -> bool:
    """Return whether a value is a segment with text and label."""
    try:
        _read(item)
    except UnusableRowError:
        return False
    return True


def _read(item: Any) -> tuple[str, bool]:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise UnusableRowError("bad-segments")
    label = _LABELS.get(str(item.get("label")).strip().lower())
    if label is None:
        raise UnusableRowError("bad-segments")
    return item["text"], label
