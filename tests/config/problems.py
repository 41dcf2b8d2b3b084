from collections.abc import Mapping
from typing import Any

from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ConfigError, Problem


def find_problems(values: Mapping[str, Any]) -> list[Problem]:
    """Return every problem of the values; empty when they are valid."""
    try:
        resolve(Layer("form", values))
    except ConfigError as error:
        return error.problems
    return []
