"""How the rows of a source are joined by the id of the row before them."""

from __future__ import annotations

from modelforge.config.rules.data import declared_type
from modelforge.config.schema.data import Source
from modelforge.data.formats.joining import NO_OPTIONS, JoinOptions

_PROMPTS = ("instruction_field", "prompt_field")
_ANSWERS = ("output_field", "chosen_field", "rejected_field")


def join_options(source: Source | None) -> JoinOptions:
    """Return how the rows of a source are joined."""
    if source is None:
        return NO_OPTIONS
    kind = declared_type(source)
    return JoinOptions(
        pairs=source.type == "preference",
        prompts=_named(source, _PROMPTS),
        answers=_named(source, _ANSWERS),
        own_id=source.id_field or "",
        parent=source.parent_field or "",
        unused=tuple(source.unused_columns),
        rounds=kind not in ("text", "conversation"),
    )


def _named(source: Source, settings: tuple[str, ...]) -> tuple[str, ...]:
    names = (getattr(source, setting) for setting in settings)
    return tuple(name for name in names if name)
