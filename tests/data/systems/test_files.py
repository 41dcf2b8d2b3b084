"""Files of other systems are recognised by their shape: how they are read, and the reason shown.

The files are our own, written as the system's documentation shows; each has twelve examples about
twelve trees, of which the first is the oak.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import fingerprint
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.formats.read import read_stored_rows
from modelforge.data.formats.sniff import sniff_file
from modelforge.data.repair.copy import repair_file
from modelforge.data.sources.load import dataset_record, iterate_rows, load_sources, preview_rows
from modelforge.paths import Home

FILES = Path(__file__).parent / "files"
HIGH = "u: How high is the oak?"
ANSWER = "The oak is 12 metres high."
SYSTEM = "s: You know trees."
PREFERENCE = Source(path="x", type="preference")


class Case(NamedTuple):
    """A file and what is right.

    Args:
        origin: whose shape the reason names.
        first: the first row as it is trained.
        rows: the number of rows.
    """

    file: str
    kind: str
    origin: str
    first: str
    rows: int = 12
    source: Source | None = None
    found: str = ""


CASES = [
    Case("openai-chat.jsonl", "messages", "OpenAI's fine-tuning files with weights",
         f"{SYSTEM} | {HIGH} | a: call tree_height(tree=oak) | t: 12 metres | a0: I do not know. | "
         f"u: You looked it up. | a: {ANSWER}", found="untrained-answers"),
    Case("openai-preference.jsonl", "preference", "OpenAI's preference files",
         f"{HIGH} > a: {ANSWER} < a: Quite high."),
    Case("axolotl-segments.jsonl", "segments", "Axolotl's segments without a template",
         "[<s>Tree notes\n]Q: How high is the oak?\nA: [12 metres</s>]"),
    Case("gemini.jsonl", "messages", "Gemini's contents and parts",
         f'{SYSTEM} | {HIGH} | a: call tree_height(tree=oak) | t: {{"height":"12 metres"}} | '
         f"a: {ANSWER}"),
    Case("bedrock.jsonl", "messages", "Bedrock's content lists",
         f"{SYSTEM} | {HIGH} | a: {ANSWER}"),
    Case("openassistant-trees.jsonl", "messages", "",
         f"{HIGH} | a: {ANSWER} | u: Thanks! | a: You are welcome.", found="message-tree"),
    Case("openassistant-trees.jsonl", "preference", "",
         f"{HIGH} > a: {ANSWER} < a: About 12 metres.", 24, PREFERENCE, "message-tree"),
    Case("openassistant-messages.jsonl", "messages", "",
         f"{HIGH} | a: {ANSWER} | u: Thanks! | a: You are welcome.", found="message-tree"),
    Case("openassistant-messages.jsonl", "preference", "",
         f"{HIGH} > a: {ANSWER} < a: About 12 metres.", 24, PREFERENCE, "message-tree"),
    Case("h2o-chains.csv", "instruction", "H2O's rows with parent ids",
         f"{SYSTEM} | {HIGH} | a: {ANSWER} | u: Are you sure? | a: I am. | u: Thanks. | "
         "a: You are welcome.", found="message-tree"),
    Case("h2o-dpo.csv", "preference", "H2O's rows with parent ids",
         f"{HIGH} | a: {ANSWER} | u: Are you sure? > a: I am. < a: No.", found="message-tree"),
    Case("llama-factory-preference.json", "preference", "LLaMA-Factory's ShareGPT preference",
         f"u: Do you know the oak? | a: I do. | u: How high is it? > a: {ANSWER} < a: Quite high."),
    Case("llama-factory-kto.json", "preference-label", "LLaMA-Factory's KTO tags",
         f"{HIGH} > a: No idea, oak. = False"),
    Case("llama-factory-kto-alpaca.json", "preference-label", "LLaMA-Factory's KTO tags",
         "u: How high is the tree?\n\noak > a: No idea, oak. = False"),
    Case("ms-swift-rejected.jsonl", "preference", "ms-swift's rejected_response",
         f"{SYSTEM} | {HIGH} > a: {ANSWER} < a: Quite high."),
]  # fmt: skip
IDS = [f"{case.file}{'-pairs' if case.source else ''}" for case in CASES]


def _shown_message(message: dict[str, Any]) -> str:
    role = message["role"][0] + ("0" if message.get("weight") == 0 else "")
    calls = "".join(
        f"call {call['function']['name']}"
        f"({','.join(f'{key}={value}' for key, value in call['function']['arguments'].items())})"
        for call in message.get("tool_calls", ())
    )
    return f"{role}: {message['content']}{calls}"


def shown(row: dict[str, Any]) -> str:
    """A canonical row as text: > chosen < rejected = label, and trained segments in brackets."""
    if "segments" in row:
        pieces = ((row["text"][start:end], trained) for start, end, trained in row["segments"])
        return "".join(f"[{text}]" if trained else text for text, trained in pieces)
    parts = {part: " | ".join(map(_shown_message, row[part])) for part in row if part in _LISTS}
    if "messages" in parts:
        return parts["messages"]
    if "label" in row:
        return f"{parts['prompt']} > {parts['completion']} = {row['label']}"
    return f"{parts['prompt']} > {parts['chosen']} < {parts['rejected']}"


_LISTS = ("messages", "prompt", "chosen", "rejected", "completion")


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_file_is_recognised_and_read(case: Case) -> None:
    summary = summarize(FILES / case.file, source=case.source)
    assert (summary.mapping.kind, summary.rows, summary.skipped) == (case.kind, case.rows, 0)
    assert shown(summary.examples[0]) == case.first
    where = f"This is the shape of {case.origin}."
    assert where in summary.mapping.reason if case.origin else "shape" not in summary.mapping.reason
    assert "parent_id" not in summary.mapping.reason.partition("Not used")[2]


def _table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as a table, with lists and objects as JSON in its cells."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {
                    name: json.dumps(cell) if isinstance(cell, list | dict) else cell
                    for name, cell in row.items()
                }
            )
    return path


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_same_rows_in_tables_are_read_alike(tmp_path: Path, case: Case) -> None:
    rows = [row.data for row, _ in read_stored_rows(sniff_file(FILES / case.file))]
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    for path in (parquet, _table(tmp_path / "a.csv", rows)):
        summary = summarize(path, source=case.source)
        assert (summary.mapping.kind, summary.rows, summary.skipped) == (case.kind, case.rows, 0)
        assert shown(summary.examples[0]) == case.first
        assert case.origin in summary.mapping.reason


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_check_of_a_file_names_only_what_is_there(case: Case) -> None:
    found = {each.code for each in check_file(FILES / case.file, case.source).findings}
    assert found == set(case.found.split())


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_run_a_preview_and_a_copy_read_the_same_rows(tmp_path: Path, case: Case) -> None:
    home = Home(tmp_path)
    source = (case.source or Source(path="x")).model_copy(update={"path": str(FILES / case.file)})
    loaded = load_sources([source], home)
    trained = [row for _, row in iterate_rows(dataset_record(loaded), seed=0)]
    assert len(trained) == case.rows
    previewed = [row["reads"] for row in preview_rows(loaded)]
    assert [shown(row) for row in previewed] == [shown(row) for row in trained]
    done = repair_file(FILES / case.file, home, source=case.source)
    copied = summarize(done.path, source=case.source)
    assert (done.rows, copied.rows, copied.skipped) == (case.rows, case.rows, 0)
    assert [fingerprint(row) for row in copied.examples[:5]] == [*map(fingerprint, trained[:5])]


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.found == "message-tree"],
    ids=lambda case: f"{case.file}-{case.kind}",
)
def test_the_note_on_a_tree_says_whose_shape_it_is(case: Case) -> None:
    shape = {
        "openassistant-trees.jsonl": "the shape of OpenAssistant's trees",
        "openassistant-messages.jsonl": "the shape of OpenAssistant's messages",
    }
    note = next(
        each
        for each in summarize(FILES / case.file, source=case.source).findings
        if each.code == "message-tree"
    )
    assert shape.get(case.file, "the shape of H2O's rows") in note.what
    noun = "preference pairs" if case.kind == "preference" else "conversations"
    assert f"they are {case.rows} {noun}." in note.what


def test_tools_are_functions_whatever_their_spelling() -> None:
    for file in ("openai-chat.jsonl", "gemini.jsonl"):
        (tool,) = summarize(FILES / file).examples[0]["tools"]
        assert tool["type"] == "function"
        assert tool["function"]["name"] == "tree_height"
        assert "tree" in tool["function"]["parameters"]["properties"]
