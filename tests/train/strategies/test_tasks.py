"""Summaries and answers: what they are scored, what is learned, and what the token view shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.runs.events import EventRecord

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

SHIPS = ("ada", "brig", "cora", "dora", "elsa", "flora", "greta", "hulda")
COLOURS = ("red", "blue", "green", "black")
QA = "extractive-question-answering"


@pytest.fixture(scope="module", autouse=True)
def one_core() -> Iterator[None]:
    """Models so small are faster on one core."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def of(events: list[EventRecord], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.kind == kind]


def questions() -> list[dict[str, Any]]:
    """Questions on short texts; every fourth has no answer."""
    rows = []
    for number, ship in enumerate(SHIPS * 3):
        colour = COLOURS[number % 3 + (number // 8) % 2]
        context = f"the ship {ship} is {colour} today."
        answered = number % 4 != 3
        rows.append(
            {
                "context": context,
                "question": "which colour?" if answered else "how many masts?",
                "answers": {
                    "text": [colour] if answered else [],
                    "answer_start": [context.index(colour)] if answered else [],
                },
            }
        )
    return rows


def documents() -> list[dict[str, str]]:
    return [
        {"document": f"The ship {ship} set sail {n} times and came home.", "summary": f"{ship} {n}"}
        for n, ship in enumerate(SHIPS * 2)
    ]


# Scores, against examples worked by hand


# Whole runs


def test_a_span_head_learns_and_is_scored_at_every_check(bench, write_rows, tiny_reader):
    bench.rows = write_rows(questions())
    run = bench.prepare(
        model_path=str(tiny_reader),
        kind="encoder",
        task=QA,
        max_steps=30,
        eval_split=0.25,
        eval_steps=10,
        per_device_train_batch_size=6,
        max_seq_length=64,
        adapter={"enabled": False},
        learning_rate=0.003,
    )
    events = bench.work(run)
    assert of(events, "finished"), of(events, "failed")
    checks = of(events, "eval")
    assert [check["step"] for check in checks] == [10, 20, 30]
    assert all({"exact_match", "f1"} <= set(check["metrics"]) for check in checks)
    steps = of(events, "step")
    assert steps[-1]["loss"] < steps[0]["loss"] / 2
    (scores,) = of(events, "scores")
    best = min(checks, key=lambda check: check["loss"])
    assert scores["after"]["f1"] == pytest.approx(best["metrics"]["f1"], abs=1e-5)
    assert scores["rows"] == 6
    assert all(step["tokens_per_s"] > 0 for step in of(events, "step"))


def test_a_summary_is_scored_before_and_after(bench, write_rows, tiny_rewriter):
    bench.rows = write_rows(documents())
    run = bench.prepare(
        model_path=str(tiny_rewriter),
        kind="encoder-decoder",
        task="summarization",
        max_steps=4,
        eval_split=0.25,
        eval_steps=2,
        max_seq_length=64,
        evaluation={"generated_rows": 3},
    )
    events = bench.work(run)
    assert of(events, "finished"), of(events, "failed")
    (scores,) = of(events, "scores")
    assert scores["rows"] == 3
    assert set(scores["before"]) == set(scores["after"]) == {"rouge1", "rouge2", "rougeL"}
    assert all(step["tokens_per_s"] > 0 for step in of(events, "step"))
    scoring = [phase for phase in of(events, "phase") if phase["name"] == "scoring"]
    assert (scoring[-1]["done"], scoring[-1]["total"]) == (6, 6)


def test_a_decoder_answers_in_words_and_every_evaluation_has_its_perplexity(bench, write_rows):
    bench.rows = write_rows(questions())
    run = bench.prepare(
        task=QA, max_steps=2, eval_split=0.25, eval_steps=2, evaluation={"generated_rows": 2}
    )
    events = bench.work(run)
    assert of(events, "finished"), of(events, "failed")
    (check,) = of(events, "eval")
    assert check["metrics"]["perplexity"] > 1
    assert check["metrics"]["bits_per_byte"] > 0
    (scores,) = of(events, "scores")
    assert set(scores["after"]) == {"exact_match", "f1"}
    assert scores["before"] is not None


def test_the_perplexity_reported_is_that_of_the_model_over_its_tokens(bench):
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    run = bench.prepare(max_steps=1, eval_split=0.25, eval_steps=1, per_device_eval_batch_size=2)
    (check,) = of(bench.work(run), "eval")
    tokenizer = AutoTokenizer.from_pretrained(run.output)
    model = AutoPeftModelForCausalLM.from_pretrained(run.output).eval()
    from modelforge.config.plan.make import Plan
    from modelforge.modeling.tokenize import dataset
    from modelforge.modeling.tokenize.options import TokenizeOptions
    from modelforge.modeling.tokenize.template import load_chat_template
    from modelforge.runs.atomic_files import read_json

    record = read_json(run.config)
    config = TrainingConfig.from_record(record["config"])
    tokenize_options = TokenizeOptions.from_plan(
        config, Plan.from_dict(record["plan"], record["config"])
    )
    order = dataset.DatasetRequest(record["dataset"], 0.25, config.trainer.seed, tokenize_options)
    held_out = dataset.tokenize(order, load_chat_template(tokenizer, [2]), lambda *_: None).eval
    nats, tokens, size = 0.0, 0, 0
    for row in held_out:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            count = int((labels[:, 1:] != -100).sum())
            nats += float(model(ids, labels=labels).loss) * count
        tokens += count
        trained = [token for token in row["labels"] if token != -100]
        size += len(tokenizer.decode(trained, skip_special_tokens=True).encode())
    assert check["metrics"]["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-3)
    assert check["metrics"]["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-3)


def test_a_stop_while_answers_are_scored_keeps_what_was_learned(
    bench, write_rows, tiny_rewriter, monkeypatch
):
    from modelforge.train.event_log import EventLog

    bench.rows = write_rows(documents())
    run = bench.prepare(
        model_path=str(tiny_rewriter),
        kind="encoder-decoder",
        task="summarization",
        max_steps=1,
        eval_split=0.25,
        eval_steps=1,
        max_seq_length=64,
    )
    scoring = EventLog.phase

    def stop_now(log: EventLog, name: str, *rest: Any, **more: Any) -> None:
        scoring(log, name, *rest, **more)
        if name == "scoring":
            run.stop.write_text("keep")

    monkeypatch.setattr(EventLog, "phase", stop_now)
    events = bench.work(run)
    assert of(events, "finished")
    assert not of(events, "scores")
    assert run.has_adapter


# What is shown


def shown(kind: str, tokenizer: Any, rows: list[dict[str, Any]], task: str, **answers: Any) -> Any:
    from modelforge.modeling.tokenize.collate import sft_data_arguments
    from modelforge.modeling.tokenize.options import TokenizeOptions
    from modelforge.modeling.tokenize.preview import preview_tokens
    from modelforge.modeling.tokenize.template import seq2seq_template

    config = TrainingConfig(
        task=task, model_name="x", dataset="x", compute_specs="low_end", use_4bit=False, **answers
    )
    plan = make_plan(config, PlanContext("cpu", "x", context=512, kind=kind))
    chat_template = seq2seq_template(tokenizer, [], "summarize: ")
    return preview_tokens(
        rows,
        chat_template,
        TokenizeOptions.from_plan(config, plan),
        sft_data_arguments(config, plan),
    )


def canonicals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from modelforge.data.canonical.convert import to_canonical
    from modelforge.data.columns.detect import detect_mapping

    mapping = detect_mapping(rows)
    return [to_canonical(row, mapping) for row in rows]


def test_the_view_marks_the_tokens_that_the_span_head_is_taught(tiny_reader):
    from transformers import AutoTokenizer

    from modelforge.modeling.tokenize.qa import encode_qa

    tokenizer = AutoTokenizer.from_pretrained(tiny_reader)
    rows = canonicals(questions())[:4]
    view = shown("encoder", tokenizer, rows, QA)
    for row, laid in zip(rows, view.rows, strict=True):
        (window,) = encode_qa(row, tokenizer, 512)
        marked = [at for at, (_, role) in enumerate(laid.tokens) if role == "trained"]
        if row["answers"]:
            assert marked == list(range(window.start, window.end + 1))
        else:
            assert (window.start, window.end, marked) == (0, 0, [])


def test_the_view_shows_the_lead_the_document_and_the_summary(tiny_rewriter):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_rewriter)
    (row,) = shown("encoder-decoder", tokenizer, canonicals(documents())[:1], "summarization").rows
    read = tokenizer.decode([token for token, role in row.tokens if role == "masked"])
    written = tokenizer.decode([token for token, role in row.tokens if role == "trained"])
    assert read == "summarize: The ship ada set sail 0 times and came home."
    assert written == "ada 0"
    assert row.tokens[-1][1] == "end"


def test_a_long_document_is_cut_where_it_was_asked(tiny_rewriter):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_rewriter)
    rows = canonicals([{"document": "one two three four " * 40, "summary": "one"}])
    for way, kept in (("right", "summarize: one"), ("left", "three four")):
        (row,) = shown(
            "encoder-decoder", tokenizer, rows, "summarization", max_seq_length=32,
            data={"truncation_strategy": way},
        ).rows  # fmt: skip
        assert row.totals["masked"] == 32
        assert row.totals["cut"] > 100
        read = tokenizer.decode([token for token, role in row.tokens if role == "masked"])
        assert kept in read
    view = shown(
        "encoder-decoder", tokenizer, rows, "summarization", max_seq_length=32,
        data={"truncation_strategy": "delete"},
    )  # fmt: skip
    assert view.rows[0].name.startswith("Left out")
