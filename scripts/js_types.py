"""Write the shapes of the server's replies to assets/js/types.d.ts; --check compares only."""

from __future__ import annotations

import sys
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ui import contract

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "assets" / "js" / "types.d.ts"
HEAD = "// Generated from ui/contract.py by scripts/js_types.py. Do not edit.\n"
SIMPLE: dict[Any, str] = {
    str: "string", int: "number", float: "number", bool: "boolean", Any: "any", type(None): "null",
}  # fmt: skip


# Every dataclass of the contract, in its order.
REPLIES = [
    value
    for value in vars(contract).values()
    if isinstance(value, type) and is_dataclass(value) and value.__module__ == contract.__name__
]


def main() -> int:
    """Write the file, or return 1 if `--check` is given and it is out of date."""
    if "--check" not in sys.argv:
        TARGET.write_text(declarations(), encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == declarations():
        return 0
    print("assets/js/types.d.ts is out of date: run python scripts/js_types.py.")
    return 1


def declarations() -> str:
    """Return one TypeScript interface per reply."""
    return HEAD + "".join(f"\n{_interface(reply)}" for reply in REPLIES)


def _interface(reply: type[Any]) -> str:
    hints = get_type_hints(reply)
    lines = [f"  {item.name}: {_name(hints[item.name])};" for item in fields(reply)]
    summary = (reply.__doc__ or "").splitlines()[0]
    return "\n".join([f"/** {summary} */", f"export interface {reply.__name__} {{", *lines, "}\n"])


def _name(hint: Any) -> str:
    if hint in SIMPLE:
        return SIMPLE[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(_name(argument) for argument in arguments)
    if origin is list:
        return f"{_name(arguments[0])}[]"
    if origin is dict:
        return f"Record<string, {_name(arguments[1])}>"
    return str(hint.__name__)


if __name__ == "__main__":
    sys.exit(main())
