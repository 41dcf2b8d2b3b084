"""The part of Go's text/template that our templates use, with Ollama's way of filling it."""

from __future__ import annotations

import json
import re

_ACTION = re.compile(r"\{\{(?P<before>- )?(?P<code>.*?)(?P<after> -)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[()]|\$?[\w.]*\$?[\w.]+|\$|:?=|\S')


def render(source, messages):
    """Return what Ollama makes of a conversation with a template."""
    collated, system = [], []
    for message in messages:
        if message["role"] == "system":
            system.append(message["content"])
        if collated and collated[-1]["Role"] == message["role"]:
            collated[-1]["Content"] += f"\n\n{message['content']}"
        else:
            collated.append({"Role": message["role"], "Content": message["content"]})
    root = {"System": "\n\n".join(system), "Messages": collated}
    nodes, rest = _parse(_lex(source))
    assert not rest
    return _run(nodes, root, {"": root})


def _lex(source):
    parts, position, trim = [], 0, False
    for found in _ACTION.finditer(source):
        text = source[position : found.start()]
        text = text.lstrip() if trim else text
        parts.append(("text", text.rstrip() if found["before"] else text))
        parts.append(("code", found["code"].strip()))
        position, trim = found.end(), bool(found["after"])
    text = source[position:]
    return [*parts, ("text", text.lstrip() if trim else text)]


def _parse(parts):
    """Return the nodes until an `else` or `end`, and the parts from there."""
    nodes = []
    while parts:
        (kind, text), *rest = parts
        word, _, code = text.partition(" ") if kind == "code" else ("", "", "")
        if word in ("else", "end"):
            break
        if word == "if":
            node, rest = _parse_if(code, rest)
            nodes.append(node)
        elif word == "range":
            body, rest = _parse(rest)
            assert rest.pop(0) == ("code", "end")
            nodes.append((word, code, body))
        else:
            nodes.append((kind, text))
        parts = rest
    return nodes, parts


def _parse_if(condition, parts):
    body, parts = _parse(parts)
    (_, text), *parts = parts
    other = []
    if text.startswith("else if "):
        # It shares the `end` of the `if`.
        inner, parts = _parse_if(text.removeprefix("else if "), parts)
        return ("if", condition, body, [inner]), parts
    if text == "else":
        other, parts = _parse(parts)
        (_, text), *parts = parts
    assert text == "end", text
    return ("if", condition, body, other), parts


def _run(nodes, dot, variables):
    out = ""
    for node in nodes:
        if node[0] == "text":
            out += node[1]
        elif node[0] == "code":
            out += _action(node[1], dot, variables)
        elif node[0] == "if":
            chosen = node[2] if _value(node[1], dot, variables) else node[3]
            out += _run(chosen, dot, variables)
        else:
            names, _, code = node[1].rpartition(":=")
            for place, item in enumerate(_value(code, dot, variables)):
                for name, value in zip(names.split(","), (place, item), strict=False):
                    variables[name.strip().removeprefix("$")] = value
                out += _run(node[2], item, variables)
    return out


def _action(code, dot, variables):
    assigned = re.match(r"\$(\w+) :?= (.*)", code, re.DOTALL)
    if assigned:
        variables[assigned[1]] = _value(assigned[2], dot, variables)
        return ""
    return _value(code, dot, variables)


def _value(code, dot, variables):
    tokens = _TOKEN.findall(code)
    return _call(tokens, dot, variables)


def _call(tokens, dot, variables):
    """Return the value of a call, and take its tokens up to the closing parenthesis."""
    values = []
    name = tokens.pop(0) if tokens[0] in _FUNCTIONS else None
    while tokens and tokens[0] != ")":
        token = tokens.pop(0)
        if token == "(":
            values.append(_call(tokens, dot, variables))
            assert tokens.pop(0) == ")"
        else:
            values.append(_term(token, dot, variables))
    if name:
        return _FUNCTIONS[name](*values)
    (value,) = values
    return value


def _term(token, dot, variables):
    if token.startswith('"'):
        return json.loads(re.sub(r"\\U([0-9a-f]{8})", lambda code: chr(int(code[1], 16)), token))
    if token.isdigit():
        return int(token)
    name, *fields = token.split(".")
    value = variables[name.removeprefix("$")] if name.startswith("$") else dot
    for field in fields:
        value = value[field]
    return value


_FUNCTIONS = {
    "eq": lambda left, right: left == right,
    "ne": lambda left, right: left != right,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "len": len,
    "slice": lambda value, start: value[start:],
}
