"""Options of joining rows by the id of the row before them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

ID_KEYS = ("message_id", "id")
PARENT_KEYS = ("parent_id", "parent_message_id")


@dataclass(frozen=True)
class JoinOptions:
    """How the rows of a message tree are joined.

    Args:
        pairs: whether ranked replies become preference pairs instead of conversations.
        prompts: the columns of the prompt that the source names.
        answers: the columns of the completions that the source names.
        own_id: the column with the id of a row, if the source names it.
        parent: the column with the id of the row before, if the source names it.
        unused: the columns that are not used; without an id or a parent, rows are not joined.
        rounds: whether rows with a prompt and a completion are joined, and not only messages.
    """

    pairs: bool = False
    prompts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    own_id: str = ""
    parent: str = ""
    unused: tuple[str, ...] = ()
    rounds: bool = True

    @property
    def id_keys(self) -> tuple[str, ...]:
        """The keys that may hold the id of a row, without unused ones."""
        return self._used((self.own_id,) if self.own_id else ID_KEYS)

    @property
    def parent_keys(self) -> tuple[str, ...]:
        """The keys that may hold the id of the row before, without unused ones."""
        return self._used((self.parent,) if self.parent else PARENT_KEYS)

    def _used(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(key for key in keys if key not in self.unused)

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain data; an empty object if all have their default."""
        return {} if self == JoinOptions() else asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JoinOptions:
        """Return the options from the result of `as_dict`, also after a way through JSON."""
        values = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        for name in ("prompts", "answers", "unused"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


NO_OPTIONS = JoinOptions()
