"""Whole runs on several sources and with every way of learning from rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.sources.load import dataset_record, load_sources
from modelforge.paths import Home
from modelforge.runs.events import EventRecord

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

LONG = [{"input": f"What is {n}?", "output": f"It is {n}. " * 12} for n in range(6)]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"{n}?"},
            {"role": "assistant", "content": "First."},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "Second."},
        ]
    }
    for n in range(6)
]


def reported(events: list[EventRecord], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.kind == kind]


def codes(events: list[EventRecord]) -> set[str]:
    return {data["code"] for data in reported(events, "note")}


def planned(bench: Any, **answers: Any) -> tuple[dict[str, Any], set[str]]:
    """Return the plan and the notes of a run that is to finish."""
    events = bench.work(bench.prepare(max_steps=1, **answers))
    assert events[-1].kind == "finished", events[-1].data
    return reported(events, "plan")[0], codes(events)


@pytest.fixture
def write(tmp_path):
    def make(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return make


def test_several_sources_with_weights_and_their_own_checks_are_trained_on(bench, write, tmp_path):
    home = Home(tmp_path / "home")
    sources = [
        Source(path=str(write("pairs.jsonl", LONG)), weight=2),
        Source(path=str(write("chats.jsonl", CHATS)), samples=3),
    ]
    checks = [Source(path=str(write("checks.jsonl", CHATS[:2])))]
    record = dataset_record(load_sources(sources, home), load_sources(checks, home))
    data = {
        "sources": [source.model_dump(exclude_unset=True) for source in sources],
        "validation_sources": [source.model_dump(exclude_unset=True) for source in checks],
    }
    plan, notes = planned(bench, dataset=record, data=data, eval_split=0.5)
    assert (plan["train_rows"], plan["eval_rows"]) == (15, 2)
    assert notes == set()


@pytest.mark.parametrize(
    ("strategy", "rows", "note"),
    [
        ("right", 6, "rows-cut"),
        ("left", 6, "rows-cut"),
        ("split", 12, "rows-split"),
    ],
)
def test_rows_too_long_are_cut_as_asked_and_it_is_reported(bench, write, strategy, rows, note):
    bench.rows = write("long.jsonl", LONG)
    data = {"truncation_strategy": strategy}
    plan, notes = planned(bench, max_seq_length=60, data=data)
    assert (plan["train_rows"], plan["truncated_rows"]) == (rows, 6)
    assert notes == {note}


def test_rows_too_long_are_left_out_when_asked(bench, write):
    bench.rows = write("long.jsonl", [*LONG, *LONG[:1], {"input": "Why?", "output": "So."}])
    plan, notes = planned(bench, max_seq_length=60, data={"truncation_strategy": "delete"})
    assert plan["train_rows"] == 1
    assert notes == {"rows-deleted"}


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_packing_that_splits_rows_loses_no_token(bench, write, strategy):
    bench.rows = write("long.jsonl", LONG)
    answers = {"packing": True, "data": {"packing_strategy": strategy}, "eval_split": 0.34}
    whole, _ = planned(bench, max_seq_length=512, **answers)
    short, notes = planned(bench, max_seq_length=60, **answers)
    if strategy == "bfd":
        assert short["all_tokens"] < whole["all_tokens"]
        assert notes == {"rows-cut"}
    else:
        assert short["all_tokens"] == whole["all_tokens"]


def test_without_padding_a_run_learns_the_same_as_with(bench):
    losses = []
    for data in ({}, {"padding_free": True}):
        events = bench.work(bench.prepare(max_steps=2, data=data, group_by_length=False))
        assert events[-1].kind == "finished", events[-1].data
        losses.append([step["loss"] for step in reported(events, "step")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_more_is_trained_the_more_is_asked_for(bench, write):
    bench.rows = write("chats.jsonl", CHATS)
    counts = [
        planned(bench, data={"loss_on": loss})[0]["trained_tokens"]
        for loss in ("last_round", "assistant", "completion", "all")
    ]
    assert counts[0] < counts[1] == counts[2] < counts[3]


def test_text_without_turns_leaves_nothing_and_the_setting_is_named(bench, write):
    bench.rows = write("text.jsonl", [{"text": f"Once {n}."} for n in range(4)])
    failed = bench.work(bench.prepare(data={"loss_on": "assistant"}))[-1]
    assert failed.data["cause"] == "nothing-to-learn"
    assert "Loss on assistant trains assistant messages" in failed.data["what"]


def test_a_named_template_and_a_system_message_are_saved_and_used(bench, write):
    from transformers import AutoTokenizer

    bench.rows = write("chats.jsonl", CHATS)
    run = bench.prepare(
        max_steps=1, model={"chat_template": "qwen", "system_prompt": "Be a captain."}
    )
    assert bench.work(run)[-1].kind == "finished"
    tokenizer = AutoTokenizer.from_pretrained(run.output)
    assert "<tool_call>" in tokenizer.chat_template


@pytest.mark.parametrize("mapped", [{}, {"instruction_field": "prompt", "output_field": "answer"}])
def test_no_token_of_an_unused_column_is_trained(bench, write, tmp_path, mapped):
    rows = [{"prompt": f"What is {n}?", "answer": f"It is {n}."} for n in range(4)]
    more = {"system": "Be brief.", "history": [["Is it?", "It is."]]}
    paths = [write("whole.jsonl", [row | more for row in rows]), write("rows.jsonl", rows)]
    counts = []
    for path, unused in zip([paths[0], *paths], ([], ["system", "history"], []), strict=True):
        source = Source(path=str(path), unused_columns=unused, **mapped)
        record = dataset_record(load_sources([source], Home(tmp_path / "home")))
        settings = {"sources": [source.model_dump(exclude_unset=True)]}
        plan, _ = planned(bench, dataset=record, data=settings)
        counts.append((plan["all_tokens"], plan["trained_tokens"]))
    assert counts[0][0] > counts[1][0]
    assert counts[1] == counts[2]


def test_tools_that_the_template_cannot_write_are_noted(bench, write):
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    bench.rows = write("tools.jsonl", [{**row, "tools": tools} for row in CHATS])
    assert planned(bench)[1] == {"tools-unwritten"}
    assert planned(bench, model={"chat_template": "qwen"})[1] == set()
