"""The catalogue of broken data sets: every file is made here, with the cause that is expected."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

Maker = Callable[[Path], None]


class Case(NamedTuple):
    """A file, and what the doctor must say of it."""

    number: int
    kind: str
    title: str
    file: str
    make: Maker
    code: str
    level: str
    line: int | None = None
    column: int | str | None = None
    repaired: bool = False
    options: Mapping[str, Any] = MappingProxyType({})


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"input": f"What is {number} and one?", "output": f"It is {number + 1} in all."} | more


PAIRS = [pair(number) for number in range(20)]


def lines(rows: Sequence[Any]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def text(content: str | bytes) -> Maker:
    data = content.encode() if isinstance(content, str) else content
    return lambda path: path.write_bytes(data) and None


def with_line(at: int, line: str, rows: Sequence[Any] = PAIRS) -> Maker:
    """The rows as lines, with one line of its own at number `at`."""
    all_lines = lines(rows).splitlines()
    all_lines[at - 1] = line
    return text("\n".join(all_lines) + "\n")


def chats(*turns: tuple[str, Any], more: Sequence[Any] = ()) -> Maker:
    """Good conversations, and one that is odd at line 13."""
    rows: list[Any] = [chat(("user", f"Question {n}?"), ("assistant", f"Answer {n}."))
                       for n in range(15)]  # fmt: skip
    rows[12] = chat(*turns)
    return text(lines([*rows, *more]))


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {
        "messages": [
            content
            if isinstance(content, dict) and "role" in content
            else {"role": role, "content": content}
            for role, content in turns
        ]
    }


def preferences(at: int, **odd: Any) -> Maker:
    rows: list[dict[str, Any]] = [
        {"prompt": f"Question {n}, please?", "chosen": f"Better {n}.", "rejected": f"Worse {n}."}
        for n in range(15)
    ]
    rows[at - 1] |= odd
    return text(lines([{k: v for k, v in row.items() if v != "GONE"} for row in rows]))


def scores(path: Path) -> None:
    rows = [
        {"prompt": f"Q {n}?", "chosen": f"Good {n}.", "rejected": f"Bad {n}.",
         "score_chosen": 8 if n != 6 else 1, "score_rejected": 3}
        for n in range(15)
    ]  # fmt: skip
    path.write_text(lines(rows))


def implicit(path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": [{"role": "user", "content": f"Q {n}?"}],
         "chosen": [{"role": "assistant", "content": f"Good {n}."}],
         "rejected": [{"role": "assistant", "content": f"Bad {n}."}]}
        for n in range(15)
    ]  # fmt: skip
    asked = {"role": "user", "content": "Q?"}
    rows[8] = {
        "chosen": [asked, {"role": "assistant", "content": "Good."}],
        "rejected": [asked, {"role": "assistant", "content": "Bad."}],
    }
    path.write_text(lines(rows))


def parquet(rows: list[dict[str, Any]], spoil: Callable[[bytes], bytes] | None = None) -> Maker:
    def make(path: Path) -> None:
        pq.write_table(pa.Table.from_pylist(rows), path)
        if spoil:
            path.write_bytes(spoil(path.read_bytes()))

    return make


def no_groups(path: Path) -> None:
    schema = pa.schema({"input": pa.string(), "output": pa.string()})
    pq.ParquetWriter(path, schema).close()


def huge_line(path: Path) -> None:
    with path.open("w") as file:
        file.write('{"input": "a", "output": "' + "x" * 50_000_000 + '"}\n' + lines(PAIRS))


def nested(depth: int) -> str:
    return '{"input": "a", "output": "b", "more": ' + "[" * depth + "]" * depth + "}"


def table(*rows: str, header: str = "input,output") -> Maker:
    good = [f"question {n},answer {n}" for n in range(12)]
    return text("\n".join([header, *good, *rows]) + "\n")


WIDE = json.dumps(pair(1) | {f"c{n}": n for n in range(100_000)})
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "clock", "arguments": {}}}]}  # fmt: skip
PICTURE = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": "x.png"}]
LONG = "word " * 2_000
SMALL = {"longest": 2_000}

# number, kind, title, file, make, code, level, line, column, repaired
_ROWS: list[tuple[Any, ...]] = [
    ("JSONL", "empty", "a.jsonl", text(""), "empty-file", "blocker", 1),
    ("JSONL", "only blanks", "a.jsonl", text("\n \n\t\n"), "blank-file", "blocker", 1),
    ("JSONL", "BOM", "a.jsonl", text(codecs.BOM_UTF8 + lines(PAIRS).encode()), "byte-order-mark",
     "note", 1, 1, True),
    ("JSONL", "UTF-16", "a.jsonl", text(lines(PAIRS).encode("utf-16")), "other-encoding", "note",
     1, 1, True),
    ("JSONL", "Latin-1", "a.jsonl",
     text(lines([*PAIRS, pair(1, output="Ein Café für zwei")]).encode("latin-1")),
     "guessed-encoding", "note", 21, 51, True),
    ("JSONL", "NUL bytes", "a.jsonl",
     text(lines(PAIRS).encode().replace(b"It is 3", b"It is\x003")), "zero-bytes", "blocker",
     3, 49, True),
    ("JSONL", "CRLF mix", "a.jsonl",
     text(lines(PAIRS[:9]) + lines(PAIRS[9:]).replace("\n", "\r\n")),
     "mixed-line-ends", "note", 1, None, True),
    ("JSONL", "trailing comma", "a.jsonl", with_line(7, '{"input": "a", "output": "b",}'),
     "trailing-comma", "blocker", 7, 29, True),
    ("JSONL", "truncated last line", "a.jsonl", with_line(20, '{"input": "a", "outp'),
     "truncated-json", "blocker", 20, 21, True),
    ("JSONL", "one bad line in 10k", "a.jsonl",
     with_line(6543, '{"input": "a" "output": "b"}', [pair(n) for n in range(10_000)]), "bad-json",
     "blocker", 6543, 15, True),
    ("JSONL", "array instead of lines", "a.jsonl", text(json.dumps(PAIRS)), "json-array",
     "note", 1, 1, True),
    ("JSONL", "duplicate keys", "a.jsonl",
     with_line(5, '{"input": "a", "output": "first", "output": "second"}'), "duplicate-key",
     "caution", 5, "output", True),
    ("JSONL", "NaN/Infinity", "a.jsonl", with_line(4, '{"input": "a", "output": "b", "x": NaN}'),
     "not-a-number", "blocker", 4, 36, True),
    ("JSONL", "50 MB single line", "a.jsonl", huge_line, "row-too-long", "blocker", 1),
    ("JSONL", "100k columns", "a.jsonl", with_line(3, WIDE), "many-columns", "caution", 3),
    ("JSONL", "depth 1,000", "a.jsonl", with_line(6, nested(1_000)), "deep-nesting", "caution", 6,
     "more"),
    ("JSONL", "lone surrogates", "a.jsonl", with_line(8, '{"input": "a", "output": "x \\ud800"}'),
     "lone-surrogate", "blocker", 8, 29, True),
    ("JSONL", "gzip renamed .jsonl", "a.jsonl", text(gzip.compress(lines(PAIRS).encode())),
     "undeclared-compression", "note", 1, 1, True),
    ("JSON", "object not list", "a.json", text('{"name": {"a": 1}, "count": 3}'),
     "object-without-rows", "blocker", 1, 1),
    ("JSON", "list of strings", "a.json", text(json.dumps(["One text.", "Another."])),
     "row-is-text", "blocker", 1, 2, True),
    ("JSON", "list of lists", "a.json", text(json.dumps([["a", "b"], ["c", "d"]])), "row-is-list",
     "blocker", 1, 2, True),
    ("JSON", "mixed schemas", "a.json",
     text(json.dumps([*PAIRS, {"frage": "x", "antwort": "y"}], indent=1)), "mixed-schemas",
     "caution", 82, None, True),
    ("JSON", "number keys", "a.json",
     text(json.dumps([{"0": f"Q {n}", "1": "A"} for n in range(12)])),
     "numeric-keys", "blocker", 1, 1, True),
    ("JSON", "root null", "a.json", text("null"), "row-is-null", "blocker", 1, 1),
    ("CSV", "wrong delimiter", "a.csv",
     text("input^output\n" + "".join(f"q{n}^a{n}\n" for n in range(12))), "wrong-delimiter",
     "blocker", 1, 6, True),
    ("CSV", "ragged rows", "a.csv", table("one,two,three"), "ragged-row", "blocker", 14, 3, True),
    ("CSV", "unclosed quote", "a.csv", table('"open,answer', "later,row"), "unclosed-quote",
     "blocker", 14, None, True),
    ("CSV", "no header", "a.csv",
     text("".join(f"What is {n} and one?,{n + 1}\n" for n in range(12))), "no-header", "blocker",
     1, 1, True),
    ("CSV", "duplicate headers", "a.csv", text("input,output,input\na,b,c\nd,e,f\ng,h,i\n"),
     "duplicate-column", "blocker", 1, 3, True),
    ("CSV", "header only", "a.csv", text("input,output\n"), "header-only", "blocker", 1),
    ("CSV", "formula cells", "a.csv", table('"=HYPERLINK(1)",answer'), "formula-cells", "note", 14,
     "input"),
    ("CSV", "quoted newlines", "a.csv", table('"two\nlines",answer'), "line-breaks-in-cells",
     "note", 14, "input"),
    ("CSV", "mixed types", "a.csv", table("question,42"), "mixed-types", "note", 14, "output"),
    ("CSV", "1-column", "a.csv", text("sentence\nOne here.\nTwo there.\n"), "one-column", "blocker",
     1, 1, True),
    ("Parquet", "truncated footer", "a.parquet", parquet(PAIRS, lambda data: data[:-20]),
     "truncated-table", "blocker"),
    ("Parquet", "wrong magic", "a.parquet", parquet(PAIRS, lambda data: b"XXXX" + data[4:]),
     "bad-signature", "blocker"),
    ("Parquet", "nested struct", "a.parquet",
     parquet([{"input": f"Q {n}?", "output": {"text": f"A {n}"}} for n in range(12)]),
     "nested-column", "caution", 1, "output", True),
    ("Parquet", "int column as text", "a.parquet",
     parquet([{"input": f"Q {n}?", "output": n} for n in range(12)]), "numbers-as-text", "note",
     1, "output"),
    ("Parquet", "zero row groups", "a.parquet", no_groups, "no-rows", "blocker", 1),
    ("Parquet", "encrypted", "a.parquet", text(b"PARE" + b"x" * 200 + b"PARE"), "encrypted",
     "blocker"),
    ("Chat", "unknown role", "a.jsonl", chats(("user", "Q?"), ("narrator", "A.")), "unknown-role",
     "caution", 13, "message 2", True),
    ("Chat", "two system", "a.jsonl",
     chats(("system", "One."), ("system", "Two."), ("user", "Q?"), ("assistant", "A.")),
     "several-system-messages", "caution", 13, "message 2", True),
    ("Chat", "assistant first", "a.jsonl",
     chats(("assistant", "Hi."), ("user", "Q?"), ("assistant", "A.")), "assistant-message-first",
     "caution", 13, "message 1", True),
    ("Chat", "empty content", "a.jsonl", chats(("user", "Q?"), ("assistant", "  ")),
     "empty-answer", "caution", 13, "message 2", True),
    ("Chat", "content null", "a.jsonl", chats(("user", "Q?"), ("assistant", None)),
     "null-content", "caution", 13, "message 2", True),
    ("Chat", "images to a text model", "a.jsonl", chats(("user", PICTURE), ("assistant", "A cat.")),
     "image-content", "caution", 13, "message 1", True),
    ("Chat", "tool call without result", "a.jsonl",
     chats(("user", "What time?"), ("assistant", CALL), ("assistant", "Noon.")),
     "tool-call-without-result", "caution", 13, "message 2", True),
    ("Chat", "user/user", "a.jsonl", chats(("user", "Q?"), ("user", "And?"), ("assistant", "A.")),
     "consecutive-user-messages", "caution", 13, "message 2", True),
    ("Chat", "missing completion", "a.jsonl",
     with_line(9, '{"prompt": "x?"}', [{"prompt": f"{n}?", "completion": f"A {n}."}
                                       for n in range(15)]),
     "missing-field", "caution", 9, "completion", True),
    ("Chat", "prompt == completion", "a.jsonl",
     with_line(9, json.dumps(pair(1, output="What is 1 and one?"))),
     "answer-is-question", "caution", 9, "output", True),
    ("Chat", "all rows over max length", "a.jsonl",
     text(lines([pair(n, output=f"{n} {LONG}") for n in range(12)])),
     "all-too-long", "caution", 1, None, False, SMALL),
    ("Chat", "every label masked", "a.jsonl",
     text(lines([pair(n, input=f"{n} {LONG}") for n in range(12)])),
     "all-answers-truncated", "blocker", 1, None, False, SMALL),
    ("Chat", "1 row", "a.jsonl", text(lines(PAIRS[:1])), "few-rows", "caution", 1),
    ("Chat", "eval split = train rows", "a.jsonl", text(lines(PAIRS)), "leaked-rows", "caution", 1,
     None, False, {"validation": True}),
    ("Preference", "chosen == rejected", "a.jsonl", preferences(5, rejected="Better 4."),
     "identical-answers", "caution", 5, "rejected", True),
    ("Preference", "missing rejected", "a.jsonl", preferences(5, rejected="GONE"),
     "missing-rejected", "caution", 5, "rejected", True),
    ("Preference", "prompt inside chosen", "a.jsonl",
     preferences(5, chosen="Question 4, please? Better."), "prompt-inside-chosen", "caution", 5,
     "chosen", True),
    ("Preference", "scores reversed type", "a.jsonl", scores, "scores-reversed", "caution", 7,
     "score_chosen", True),
    ("Preference", "mixed implicit/explicit prompt", "a.jsonl", implicit, "mixed-prompts",
     "caution", 9, "prompt"),
    ("Preference", "empty rejected", "a.jsonl", preferences(5, rejected=" "), "empty-rejected",
     "caution", 5, "rejected", True),
]  # fmt: skip
CASES = [Case(number, *row) for number, row in enumerate(_ROWS, start=1)]
