"""The vocabulary of a setting: what a person is told about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SettingInfo:
    """How one setting is shown. Type, bounds and default stand in the schema beside it.

    `help` is one line under the control; `more` is what the `?` opens. `unit` follows the number.
    A text with `lines` may have several.
    """

    label: str
    help: str
    more: str = ""
    unit: str = ""
    group: str = ""
    basic: bool = False
    multiline: bool = False
