"""Evaluations of every task and method, on short runs of the real worker."""

from __future__ import annotations

from typing import Any

import pytest

from modelforge.runs.events import read_events
from tests.evaluate.conftest import animal_rows, evaluate
from tests.train.conftest import tiny_reader, tiny_rewriter  # noqa: F401
from tests.train.strategies.test_tasks import QA, documents, questions

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

QUICK: dict[str, Any] = {"max_steps": 2, "learning_rate": 1e-3, "eval_split": 0.4}
PAIRS = [
    {"prompt": row["input"], "chosen": row["output"], "rejected": "I do not know it at all."}
    for row in animal_rows()
]
MARKED = [
    {"prompt": row["input"], "completion": row["output"] if n % 2 else "Who knows?", "label": n % 2}
    for n, row in enumerate(animal_rows())
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "sound_of",
            "description": "The sound of an animal.",
            "parameters": {"type": "object", "properties": {"animal": {"type": "string"}}},
        },
    }
]
CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if tools %}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def names(report):
    return [each["name"] for each in report["metrics"]]


def contestants(report, name):
    return next(each for each in report["metrics"] if each["name"] == name)["contestants"]


@pytest.mark.parametrize("loss", ["sigmoid", "orpo"])
def test_pairs_have_a_margin_against_the_base_model(trained, learner, loss):
    settings = QUICK | {"strategy": "dpo", "trainer": {"preference_loss": loss}, "max_steps": 12}
    run = trained(learner, PAIRS, **settings | {"learning_rate": 5e-3})
    report = evaluate(run, learner, general=False)
    assert names(report) == ["reward_margin", "loss", "perplexity"]
    assert report["verdict"]["metric"] == "reward_margin"
    assert report["verdict"]["kind"] == "better"
    margin = report["metrics"][0]
    means = {key: entry["value"] for key, entry in margin["contestants"].items() if entry}
    assert margin["difference"]["value"] == pytest.approx(means["tuned"] - means["base"])
    assert means["tuned"] > means["base"]
    assert set(means) == {"base", "prompted", "tuned"}
    assert report["learned"]["kind"] != "answers"


def test_marked_completions_have_a_margin_by_their_mark(trained, learner):
    settings = QUICK | {"strategy": "dpo", "trainer": {"preference_loss": "kto"}}
    run = trained(learner, MARKED, **settings)
    report = evaluate(run, learner, general=False, prompted=False)
    margin, loss = report["metrics"][:2]
    assert (margin["name"], margin["rows"]) == ("reward_margin", 26)
    assert 5 < loss["rows"] < 21


@pytest.mark.parametrize(("reward", "rows"), [("length", 26), ("model", 0)])
def test_rewards_are_measured_by_rule_or_refused_in_words(trained, learner, reward, rows):
    trainer = {"reward": reward, "num_generations": 2, "max_completion_length": 6}
    settings = QUICK | {"strategy": "rlhf", "trainer": trainer, "per_device_train_batch_size": 2}
    run = trained(learner, PAIRS, **settings)
    report = evaluate(run, learner, general=False, prompted=False)
    if rows:
        assert report["metrics"][0]["name"] == "reward"
        assert report["metrics"][0]["rows"] == rows
        assert report["verdict"]["metric"] == "reward"
        return
    assert "reward" not in names(report)
    assert any("reward model" in note for note in report["notes"])
    assert report["verdict"]["kind"] == "too-few-rows"


def test_summaries_of_an_encoder_decoder_are_scored_with_rouge(trained, tiny_rewriter):  # noqa: F811
    settings = QUICK | {"task": "summarization", "kind": "encoder-decoder", "max_seq_length": 64}
    run = trained(tiny_rewriter, documents() * 1, **settings)
    report = evaluate(run, tiny_rewriter)
    assert names(report) == ["rougeL", "loss", "perplexity", "exact_match"]
    assert report["verdict"]["metric"] == "rougeL"
    assert contestants(report, "loss")["prompted"] is None
    assert report["forgetting"] is None
    assert report["learned"]["rows"] > 0


def unlike(rows):
    """Return rows of which none repeats another one."""
    return [{**row, "context": f"{row['context']} day {n}."} for n, row in enumerate(rows)]


def test_answers_that_are_spans_are_scored_as_the_training_scores_them(
    trained,
    tiny_reader,  # noqa: F811
):
    settings = QUICK | {
        "task": QA,
        "kind": "encoder",
        "max_steps": 60,
        "learning_rate": 3e-3,
        "max_seq_length": 64,
        "per_device_train_batch_size": 6,
        "adapter": {"enabled": False},
    }
    run = trained(tiny_reader, unlike(questions()), **settings)
    report = evaluate(run, tiny_reader)
    assert names(report) == ["f1", "exact_match", "loss", "perplexity"]
    scored = next(event for event in read_events(run.events)[0] if event.kind == "scores")
    for name, value in scored.data["after"].items():
        assert contestants(report, name)["tuned"]["value"] == pytest.approx(value, abs=1e-5)
    loss = contestants(report, "loss")
    assert loss["tuned"]["value"] < loss["base"]["value"]
    assert any("no head" in note for note in report["notes"])
    (folder,) = (run.path.parents[1] / "evaluations").iterdir()
    lines = (folder / "answers.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 2 * report["facts"]["rows_used"]


def test_questions_about_a_text_that_a_decoder_answers(trained, learner):
    rows = questions()
    run = trained(learner, rows, **QUICK, task=QA)
    report = evaluate(run, learner, general=False)
    assert names(report)[:2] == ["f1", "exact_match"]
    assert report["metrics"][0]["rows"] == report["facts"]["rows_used"]


def test_plain_text_has_losses_alone(trained, learner):
    rows = [{"text": f"{row['input']} {row['output']}"} for row in animal_rows()]
    run = trained(learner, rows, **QUICK)
    report = evaluate(run, learner, general=False)
    assert names(report) == ["loss", "perplexity"]
    assert contestants(report, "loss")["prompted"] is not None
    assert report["learned"] is None
    assert report["examples"] == []


def test_expected_json_is_checked_for_being_json(trained, learner):
    rows = [{**row, "output": f'{{"sound": "{row["output"]}"}}'} for row in animal_rows()]
    run = trained(learner, rows, **QUICK)
    report = evaluate(run, learner, general=False, prompted=False)
    assert "valid_json" in names(report)
    assert contestants(report, "valid_json")["tuned"]["value"] == 0


def test_rows_with_tools_are_scored_by_their_calls(trained, learner, tmp_path):
    rows = []
    for n, row in enumerate(animal_rows()):
        call = {"function": {"name": "sound_of", "arguments": {"animal": row["input"].split()[3]}}}
        called = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", **call}]}
        plain = {"role": "assistant", "content": "Nothing to look up."}
        answer = called if n % 2 else plain
        rows.append(
            {"messages": [{"role": "user", "content": row["input"]}, answer], "tools": TOOLS}
        )
    template = tmp_path / "calls.jinja"
    template.write_text(CALLS, "utf-8")
    settings = QUICK | {"max_steps": 200, "learning_rate": 5e-3, "max_seq_length": 128}
    run = trained(
        learner,
        rows,
        **settings,
        adapter={"enabled": False},
        model={"chat_template": str(template)},
    )
    template.unlink()
    report = evaluate(run, learner, general=False, prompted=False)
    calls = report["tool_calls"]
    assert calls["rows"] == 26
    assert calls["name"]["base"]["value"] == 0
    assert calls["name"]["tuned"]["value"] > 0.5
    assert calls["no_call"]["base"]["value"] == 1
    assert "tool_call" in names(report)
    assert any("sound_of" in example["expected"] for example in report["examples"])


def test_rows_of_an_evaluation_file_that_were_trained_on_are_left_out(trained, learner, tmp_path):
    import json

    from modelforge.data.checks.summary import summarize
    from modelforge.runs.atomic_files import write_json

    rows = animal_rows()
    run = trained(learner, rows[:40], **QUICK | {"eval_split": 0})
    entries = []
    for name, part in (("train", rows[:40]), ("eval", rows[20:])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")
        summary = summarize(path)
        mapping = summary.mapping.as_dict()
        entry = {"files": [str(path)], "sha256": summary.sha256, "mapping": mapping}
        entries.append(entry | {"rows": summary.rows, "encoding": None, "weight": 1.0})
    record = json.loads(run.config.read_text("utf-8"))
    record["dataset"] = {"sources": entries[:1], "validation": entries[1:]}
    write_json(run.config, record)
    report = evaluate(run, learner, general=False, prompted=False, answers=False)
    assert report["facts"]["evaluation_rows"] == 44
    assert report["facts"]["rows_used"] == 24
    assert any(note.startswith("20 rows are left out") for note in report["notes"])


def test_questions_with_two_answers_are_rows_to_look_at(trained, learner):
    rows = animal_rows()
    rows[3] = {"input": rows[0]["input"], "output": "It says nothing."}
    run = trained(learner, rows, **QUICK | {"eval_split": 0.05})
    report = evaluate(run, learner, general=False, prompted=False, answers=False)
    (found,) = (row for row in report["rows"] if row["kind"] == "contradicting")
    assert found["lines"] == [1, 4]
    assert "It says moo." in found["text"]
    assert report["verdict"]["kind"] == "too-few-rows"
