"""Tool calls in formats other than JSON: XML tags, Python calls and Gemma's braces.

Each parser returns pairs of a name and its arguments, and raises ValueError for other text.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

Calls = list[tuple[str, Any]]

_FUNCTION = re.compile(r"<function=([\w.:-]{1,128})>")
_PARAMETER = re.compile(r"<parameter=([\w.:-]{1,128})>")
_GEMMA_NAME = re.compile(r"call:([\w.:-]{1,128})(?=\{)")
_GEMMA_KEY = re.compile(r"([{,]\s{0,20})([A-Za-z_]\w{0,127}):")
_GEMMA_QUOTES = ("<escape>", '<|"|>')
_CODE = ("<code>", "</code>")
_LONGEST_PYTHON = 20_000
_PARSE_ERRORS = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)


class ArgumentTypes:
    """Types and order of the arguments of the tools, from their schemas."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        self._schemas = schemas

    def knows(self, name: str) -> bool:
        """Return whether there is a tool of that name."""
        return name in self._schemas

    def names(self, tool: str) -> list[str]:
        """Return the names of the arguments of a tool in order; none of an unknown tool."""
        return list(self._schemas.get(tool, ()))

    def value(self, tool: str, argument: str, text: str) -> Any:
        """Return the value of an argument that is written as text without quotes."""
        schema = self._schemas.get(tool, {}).get(argument)
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        if kind == "string":
            return text
        try:
            return json.loads(text.lower() if text in ("True", "False") else text)
        except (ValueError, RecursionError):
            return text


def parse_xml_calls(body: str, types: ArgumentTypes) -> Calls:
    """Parse `<function=NAME><parameter=KEY>VALUE</parameter></function>`, or JSON arguments."""
    calls: Calls = []
    starts = list(_FUNCTION.finditer(body))
    ends = [*(start.start() for start in starts[1:]), len(body)]
    for start, end in zip(starts, ends, strict=True):
        inner = body[start.end() : end].partition("</function>")[0].strip()
        if inner.startswith("{"):
            calls.append((start[1], json.loads(inner)))
            continue
        if inner and not _PARAMETER.match(inner):
            raise ValueError("text instead of parameters")
        calls.append((start[1], _xml_arguments(start[1], inner, types)))
    return calls


def _xml_arguments(name: str, inner: str, types: ArgumentTypes) -> dict[str, Any]:
    arguments = {}
    starts = list(_PARAMETER.finditer(inner))
    ends = [*(start.start() for start in starts[1:]), len(inner)]
    for start, end in zip(starts, ends, strict=True):
        text = inner[start.end() : end].rpartition("</parameter>")[0]
        text = text.removeprefix("\n").removesuffix("\n")
        arguments[start[1]] = types.value(name, start[1], text)
    return arguments


def parse_glm_call(body: str, types: ArgumentTypes) -> Calls:
    """Parse `NAME` and pairs of `<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>`."""
    name, *parts = body.split("<arg_key>")
    name, arguments = name.strip(), {}
    if not name or " " in name:
        raise ValueError("a call without a name")
    for part in parts:
        key, _, rest = part.partition("</arg_key>")
        _, found, rest = rest.partition("<arg_value>")
        if not found:
            raise ValueError("an argument without a value")
        text = rest.partition("</arg_value>")[0]
        arguments[key.strip()] = types.value(name, key.strip(), text)
    return [(name, arguments)]


def parse_gemma_call(body: str, types: ArgumentTypes) -> Calls:
    """Parse `call:NAME{KEY:<escape>TEXT<escape>,KEY:2}`; the types are in the text."""
    del types
    name = _GEMMA_NAME.match(body)
    if name is None:
        raise ValueError("a call without braces")
    quote = next((quote for quote in _GEMMA_QUOTES if quote in body), _GEMMA_QUOTES[0])
    parts = body[name.end() :].strip().split(quote)
    if len(parts) % 2 == 0:
        raise ValueError("a text without an end")
    parts[::2] = [_GEMMA_KEY.sub(r'\1"\2":', part) for part in parts[::2]]
    parts[1::2] = [json.dumps(part) for part in parts[1::2]]
    return [(name[1], json.loads("".join(parts)))]


def parse_python_calls(body: str, types: ArgumentTypes) -> Calls:
    """Parse `name(key=value)`, a list of such calls, or one per line; values are literals."""
    for tag in _CODE:
        body = body.replace(tag, "")
    if len(body) > _LONGEST_PYTHON or "(" not in body:
        raise ValueError("not a Python call")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(body.strip())
            return [_python_call(node, types) for node in _call_nodes(tree)]
    except _PARSE_ERRORS as error:
        raise ValueError("not a Python call") from error


def _call_nodes(tree: ast.Module) -> list[ast.Call]:
    nodes: list[ast.expr] = []
    for statement in tree.body:
        if not isinstance(statement, ast.Expr):
            raise ValueError("a statement is not a call")
        value = statement.value
        nodes += value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    calls = [_without_print(node) for node in nodes]
    if not calls:
        raise ValueError("no call")
    return calls


def _without_print(node: ast.expr) -> ast.Call:
    """Return a call, also one in print(), as Gemma writes it; raises ValueError for others."""
    if not isinstance(node, ast.Call):
        raise ValueError("an expression is not a call")
    is_print = isinstance(node.func, ast.Name) and node.func.id == "print"
    if is_print and len(node.args) == 1 and isinstance(node.args[0], ast.Call):
        return node.args[0]
    return node


def _python_call(node: ast.Call, types: ArgumentTypes) -> tuple[str, dict[str, Any]]:
    name = ast.unparse(node.func)
    names = types.names(name)
    if len(node.args) > len(names) or any(word.arg is None for word in node.keywords):
        raise ValueError("arguments without names")
    values = [ast.literal_eval(value) for value in node.args]
    arguments = dict(zip(names, values, strict=False))
    return name, arguments | {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
