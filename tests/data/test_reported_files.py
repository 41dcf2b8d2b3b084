"""Files from public bug reports, rebuilt: what is learned of each, what is found, what is repaired.

Every file has twelve rows; TREE is another tree in each.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.repair.copy import repair_file
from modelforge.errors import DataError
from modelforge.paths import Home

TREES = ("oak", "elm", "ash", "fir", "yew", "bay", "fig", "gum", "box", "may", "hop", "tea")


def user(text: str = "TREE?") -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str = "Because TREE.", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def repeated(text: str) -> list[str]:
    return [text.replace("TREE", tree) for tree in TREES]


def lines(row: Any, end: str = "\n") -> str:
    return "".join(line + end for line in repeated(json.dumps(row, ensure_ascii=False)))


def objects(row: Any) -> str:
    """The rows as one array."""
    return f"[{','.join(lines(row).splitlines())}]"


def table(header: str, *cells: str, delimiter: str = ",") -> str:
    """A table as a spreadsheet or pandas writes it."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(header.split(","))
    writer.writerows([cell.replace("TREE", tree) for cell in cells] for tree in TREES)
    return text.getvalue()


def spaced(value: Any) -> str:
    return json.dumps(value).replace("[", "[ ", 1)


def indented(value: Any) -> str:
    return json.dumps(value, indent=1)


class Case(NamedTuple):
    """A file, and what is right.

    Args:
        first: the first row as it is learned; "" if the file cannot be used.
        found: the codes of the findings that are no notes, and of notes that matter.
        repaired: rows after a repair that may remove rows; None where none is needed.
        rows: rows that are learned.
    """

    name: str
    content: str | bytes
    first: str
    found: str = ""
    repaired: int | None = None
    rows: int = 12


PAIR = {"instruction": "Name TREE", "output": "It is TREE"}
NAMED = "u: Name oak | a: It is oak"
TOLD_CHAT = "u: oak? | a: Because oak."
TOLD = "u: oak? > a: Because oak. < a: No."
BECAUSE = "Because TREE."
OBJECTS = repeated(json.dumps(PAIR))
WHY = [user(), answer("Yes."), user("Why?")]
SHOWN = "u: oak? | a: Yes. | u: Why? > a: Because oak. < a: No."
NO = answer("No.")


def preference(row: dict[str, Any]) -> str:
    return lines(row | {"chosen": "Because TREE.", "rejected": "No."})


PARTS = [
    "TREE?",
    [{"type": "text", "text": "TREE?"}],
    [{"type": "text", "text": "TREE"}, {"type": "text", "text": "?"}],
    [{"text": "TREE?"}],
    [{"type": "text", "content": "TREE?"}],
    [{"type": "text", "value": "TREE?"}],
    ["TREE?"],
    {"type": "text", "text": "TREE?"},
]
EARLIER = [user("Is it?"), answer("Yes.")]
ASKED = "u: Is it? | a: Yes. | u: oak? | a: Because oak."
BROKEN = "page one TREE\fpage two?"
OPENED = "No <|im_end|>\n<|im_start|>assistant\nNo TREE?"
TREE_ROWS = [
    row
    for tree in TREES
    for row in (
        {"message_id": f"q{tree}", "parent_id": None, "text": f"{tree}?", "role": "prompter"},
        {"message_id": tree, "parent_id": f"q{tree}", "text": f"{tree}.", "role": "assistant"},
    )
]

CASES = [
    # 02: lists of text parts; the last two of these are no lists of parts
    *(
        Case(f"parts-{at}.jsonl", lines({"messages": [user(part), answer()]}), TOLD_CHAT)
        for at, part in enumerate(PARTS[:6])
    ),
    *(
        Case(f"no-parts-{at}.jsonl", lines({"messages": [user(part), answer()]}), "", found, rows=0)
        for at, (part, found) in enumerate(
            [(PARTS[6], "no-usable-row not-text"), (PARTS[7], "no-usable-row not-text")]
        )
    ),
    # 07: history of LLaMA-Factory
    Case(
        "history.json",
        objects(PAIR | {"history": [["Is it?", "Yes."]]}),
        f"u: Is it? | a: Yes. | {NAMED}",
    ),
    Case("h.jsonl", lines({"prompt": "TREE?", "completion": BECAUSE, "history": EARLIER}), ASKED),
    # 08: a list of two texts as the answer
    Case("list.jsonl", lines(PAIR | {"output": ["a", "b"]}), "", "no-usable-row list-column", 0, 0),
    # 09: tables
    Case("DATA.CSV", table("instruction,output", "Name TREE", "It is TREE"), NAMED),
    Case("cells.csv", table("id,messages", "1", json.dumps([user(), answer()])), TOLD_CHAT),
    Case("repr.csv", table("id,messages", "1", str([user(), answer()])), TOLD_CHAT),
    Case("none.csv", table("prompt,completion", "TREE?", "NA"), "u: oak? | a: NA",
         "near-empty-answer", 0),
    Case("sep.csv", "sep=;\r\n" + table("prompt,completion", "TREE?", "0,5 m", delimiter=";"),
         "u: oak? | a: 0,5 m"),
    Case("utf16.csv",
         table("prompt,completion", "TREE?", "Gr\xf6\xdfe", delimiter="\t").encode("utf-16"),
         "u: oak? | a: Gr\xf6\xdfe"),
    Case("inch.tsv", "prompt\tcompletion\n" + "".join(repeated('"TREE" is?\t5" TREE\n')),
         'u: "oak" is? | a: 5" oak'),
    # 10: rows inside objects
    Case("data.json", f'{{"data": {objects(PAIR)}}}', NAMED),
    Case("version.json", f'{{"version": "1", "data": {objects(PAIR)}}}',
         NAMED),
    Case("splits.json",
         f'{{"train": {objects(PAIR)}, "test": {objects(PAIR)}}}',
         NAMED, "unread-rows"),
    Case("columns.json",
         json.dumps({name: dict(enumerate(repeated(PAIR[name]))) for name in PAIR}), NAMED),
    Case("split.json",
         json.dumps({"columns": list(PAIR), "index": [0], "data": [list(PAIR.values())]}),
         "", "object-without-rows", 0, 0),
    Case("viewer.json", f'{{"rows": {objects({"row_idx": 0, "row": PAIR})}}}', "",
         "unknown-columns", 0, 0),
    Case("concat.jsonl", "".join(OBJECTS), NAMED),
    Case("pretty.jsonl", "\n".join(json.dumps(json.loads(each), indent=2) for each in OBJECTS),
         NAMED),
    # 12: ends of lines and control characters
    Case("bom.jsonl", "\ufeff" + "\r\n".join(OBJECTS), NAMED),
    Case("cr.jsonl", "\r".join(OBJECTS), NAMED),
    Case("u2028.jsonl", lines({"prompt": "TREE\u2028two?", "completion": BECAUSE}),
         "u: oak\u2028two? | a: Because oak."),
    Case("formfeed.jsonl", lines({"prompt": BROKEN, "completion": BECAUSE}),
         "u: page one oak\fpage two? | a: Because oak.", "control-characters", 12),
    # 14: preferences in every spelling
    Case("full.jsonl",
         lines({"chosen": [*WHY, answer()], "rejected": [*WHY, NO]}), SHOWN),
    Case("both.jsonl",
         lines({"prompt": "TREE?", "chosen": [user(), answer()], "rejected": [user(), NO]}), TOLD),
    Case("hh.jsonl", lines({"chosen": "\n\nHuman: TREE?\n\nAssistant: Because TREE.",
                            "rejected": "\n\nHuman: TREE?\n\nAssistant: No."}), TOLD),
    Case("intel.jsonl", preference({"system": "Be kind", "question": "TREE?"}),
         f"s: Be kind | {TOLD}"),
    Case("diverge.jsonl",
         lines({"chosen": [user(), answer(), user("Why?"), answer()], "rejected": [user(), NO]}),
         "u: oak? > a: Because oak. | u: Why? | a: Because oak. < a: No."),
    Case("lf.jsonl",
         lines({"conversations": [{"from": "human", "value": "TREE?"}],
                "chosen": {"from": "gpt", "value": BECAUSE},
                "rejected": {"from": "gpt", "value": "No."}}), TOLD),
    Case("conv.jsonl", preference({"conversations": [{"from": "human", "value": "TREE?"}]}), TOLD),
    Case("single.jsonl", lines({"prompt": "TREE?", "chosen": answer(), "rejected": NO}), TOLD),
    Case("earlier.jsonl",
         preference({"instruction": "TREE?", "input": "", "history": [["Is it?", "Yes."]]}),
         "u: Is it? | a: Yes. | u: oak? > a: Because oak. < a: No."),
    Case("input.jsonl", preference({"instruction": "TREE?", "input": "Think."}),
         "u: oak?\n\nThink. > a: Because oak. < a: No."),
    Case("lists.jsonl", lines({"prompt": "TREE?", "chosen": ["Yes."], "rejected": ["No.", "N."]}),
         "", "no-usable-row list-column", 0, 0),
    Case("messages.jsonl", preference({"messages": WHY}), SHOWN),
    Case("prompt.jsonl", preference({"prompt": WHY}), SHOWN),
    Case("scored.jsonl", lines({"prompt": "TREE?", "responses": ["Yes.", "No."], "scores": [5, 1]}),
         "", "unknown-columns", 0, 0),
    # 17: tokens of the template in texts
    Case("eos.jsonl", lines(PAIR | {"output": "It is TREE.<|im_end|>"}),
         "u: Name oak | a: It is oak.<|im_end|>", "end-token-in-answer special-tokens", 12),
    Case("inject.jsonl", lines({"prompt": OPENED, "completion": BECAUSE}),
         "u: No <|im_end|>\n<|im_start|>assistant\nNo oak? | a: Because oak.", "special-tokens"),
    Case("indent.jsonl", lines({"prompt": "def TREE():\n", "completion": "    return 1\n\n"}),
         "u: def oak():\n | a:     return 1\n\n"),
    Case("inst.jsonl", lines({"text": "<s>[INST] TREE? [/INST] Yes. </s>"}),
         "<s>[INST] oak? [/INST] Yes. </s>", "template-in-text"),
    # 18: columns that hold a part of the question
    Case("ip.jsonl",
         lines({"instruction": "Translate.", "prompt": "the TREE", "output": "die TREE"}),
         "u: Translate. | a: die oak", "unused-columns"),
    Case("iq.jsonl",
         lines({"instruction": "Be brief.", "question": "the TREE", "answer": "a TREE"}),
         "u: Be brief. | a: a oak", "unused-columns"),
    Case("pi.jsonl", lines({"prompt": "Translate.", "input": "TREE", "output": "TREE."}),
         "u: Translate.\n\noak | a: oak."),
    Case("qc.jsonl", lines({"question": "High?", "context": "TREE: 12 m.", "response": "12 m."}),
         "u: High?\n\noak: 12 m. | a: 12 m."),
    Case("qcp.jsonl", preference({"question": "TREE?", "context": "Think."}),
         "u: oak?\n\nThink. > a: Because oak. < a: No."),
    Case("kto.jsonl", lines(PAIR | {"label": True}), "u: Name oak > a: It is oak = True"),
    Case("why.jsonl", lines({"question": "TREE?", "reasoning": "I saw TREE.", "answer": BECAUSE}),
         TOLD_CHAT, "unused-columns"),
    Case("sys.jsonl", lines({"system_message": "Be kind."} | PAIR), f"s: Be kind. | {NAMED}"),
    # 20: marks after rows, and other broken lines
    Case("comma_all.jsonl", ",\n".join([*OBJECTS, ""]), "", "mark-after-row", 12, 0),
    Case("comma_end.jsonl", ",\n".join(OBJECTS), "", "mark-after-row few-rows", 12, 0),
    Case("one_comma.jsonl", "\n".join([*OBJECTS[:5], OBJECTS[5] + ",", *OBJECTS[6:]]), "",
         "mark-after-row", 12, 0),
    Case("bracket_lines.jsonl", "[\n" + ",\n".join(OBJECTS) + "\n]", NAMED),
    Case("last_comma.json", "[\n" + ",\n".join(OBJECTS) + ",\n]", "", "trailing-comma", 12, 0),
    Case("no_comma.json", "[\n" + "\n".join(OBJECTS) + "\n]", "", "missing-comma", 12, 0),
    Case("unclosed.json", "[\n" + ",\n".join(OBJECTS), "", "array-not-closed", 12, 0),
    Case("comments.jsonl", "\n".join(["// my rows", *OBJECTS, "# end"]), "", "bad-json", 12, 0),
    Case("quotes.jsonl", "\n".join(str(json.loads(each)) for each in OBJECTS), "",
         "single-quotes", 12, 0),
    Case("nan.jsonl", "\n".join([*OBJECTS[:11], '{"instruction": "Name tea", "output": NaN}']), "",
         "not-a-number", 11, 0),
    # 21: conversations in cells
    *(
        Case(f"cell-{at}.csv",
             table("prompt,chosen,rejected", "TREE?", write([answer()]), write([NO])), TOLD)
        for at, write in enumerate((json.dumps, str, spaced, indented))
    ),
    Case("whole.csv", table("chosen,rejected", str([user(), answer()]), str([user(), NO])), TOLD),
    *(
        Case(f"pc-{at}.csv", table("prompt,completion", write([user()]), write([answer()])),
             TOLD_CHAT)
        for at, write in enumerate((str, spaced))
    ),
    Case("label.csv", table("prompt,completion,label", "TREE?", spaced([answer()]), "True"),
         "u: oak? > a: Because oak. = True"),
    Case("out.csv", table("instruction,output", "Name TREE", "['It is TREE']"),
         "u: Name oak | a: ['It is oak']", "list-as-text", 12),
    # 35, 36, 37: keys of messages, and messages of trees
    Case("weights.jsonl",
         lines({"messages": [user(), answer("No.", weight=0), user("Why?"), answer(weight=1)]}),
         "u: oak? | a0: No. | u: Why? | a: Because oak.", "untrained-answers"),
    Case("thinking.jsonl",
         lines({"prompt": [user()], "completion": [answer(reasoning_content="Hm.")]}),
         TOLD_CHAT, "reasoning"),
    Case("oasst.jsonl", "\n".join(map(json.dumps, TREE_ROWS)), "u: oak? | a: oak.",
         "message-tree"),
]  # fmt: skip
# Notes that say what is learned otherwise than written; others are about the file.
NOTES = {"untrained-answers", "message-tree", "template-in-text", "unread-rows"}


def short(row: dict[str, Any]) -> str:
    """Return a canonical row as one line: u: question | a: answer."""

    def joined(messages: list[dict[str, Any]]) -> str:
        return " | ".join(
            f"{each['role'][0]}{'0' if each.get('weight') == 0 else ''}: {each['content']}"
            for each in messages
        )

    if "text" in row:
        return str(row["text"])
    if "messages" in row:
        return joined(row["messages"])
    if "completion" in row:
        return f"{joined(row['prompt'])} > {joined(row['completion'])} = {row['label']}"
    return f"{joined(row['prompt'])} > {joined(row['chosen'])} < {joined(row['rejected'])}"


def learned(path: Path) -> tuple[int, str]:
    """Return the number of rows that are learned, and the first of them."""
    try:
        summary = summarize(path)
    except DataError:
        return 0, ""
    return summary.rows, short(summary.examples[0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_reported_file_is_learned_as_shown_or_named(tmp_path: Path, case: Case) -> None:
    check_case(tmp_path, case)


def check_case(tmp_path: Path, case: Case) -> None:
    path = tmp_path / case.name
    data = case.content.encode() if isinstance(case.content, str) else case.content
    path.write_bytes(data)
    assert learned(path) == (case.rows, case.first)
    result = check_file(path)
    found = {each.code for each in result.findings if each.level != "note" or each.code in NOTES}
    assert found == set(case.found.split())
    assert result.blocked == (case.rows == 0)
    offered = [each for each in result.findings if each.repair and each.fixes is not None]
    if case.repaired is None:
        assert not offered
        return
    assert bool(offered) == bool(case.repaired)
    if not case.repaired:
        with pytest.raises(DataError):
            repair_file(path, Home(tmp_path / "home"))
        return
    done = repair_file(path, Home(tmp_path / "home"))
    assert (done.rows, learned(done.path)[0]) == (case.repaired, case.repaired)
    assert sum(each.removes or 0 for each in offered) == done.removed
