"""Learning from preferences: real TRL on a tiny model, with every loss and every kind of row."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from modelforge.config.learning_groups import Trainer
from modelforge.runs.events import Event
from modelforge.runs.layout import RunFolder

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

PAIRS = [
    {"prompt": f"What is {n}?", "chosen": f"It is {n}, of course.", "rejected": "No idea at all"}
    for n in range(12)
]
CHATS = [
    {
        "chosen": [
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": f"It is {n}."},
        ],
        "rejected": [
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": "Who knows?"},
        ],
    }
    for n in range(12)
]
JUDGED = [
    {"prompt": f"What is {n}?", "completion": f"It is {n}.", "label": n % 2 == 0} for n in range(12)
]
LOSSES = get_args(Trainer.model_fields["preference_loss"].annotation)


def told(events: list[Event], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.kind == kind]


@pytest.fixture
def compared(bench, tmp_path):
    """Prepare a short run that learns from preferences; `trainer` are its settings there."""

    def prepare(rows: list[dict[str, Any]] = PAIRS, **answers: Any) -> RunFolder:
        bench.rows = tmp_path / "pairs.jsonl"
        text = "".join(json.dumps(row) + "\n" for row in rows)
        bench.rows.write_text(text, encoding="utf-8")
        return bench.prepare(**{"strategy": "dpo", "max_steps": 2} | answers)

    return prepare


@pytest.mark.parametrize("loss", ["sigmoid", "kto", "orpo"])
def test_pairs_are_learned_from_and_the_adapter_loads_with_plain_peft(bench, compared, loss):
    import torch
    from peft import AutoPeftModelForCausalLM

    run = compared(eval_split=0.25, trainer={"preference_loss": loss})
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    (plan,) = told(events, "plan")
    answers = 2 if loss == "kto" else 1
    assert (plan["train_rows"], plan["eval_rows"]) == (9 * answers, 3 * answers)
    steps = told(events, "step")
    assert [step["step"] for step in steps] == [1, 2]
    wanted = {"rewards/chosen", "rewards/rejected", "rewards/margins"}
    assert wanted <= steps[-1]["metrics"].keys() | set().union(*(s["metrics"] for s in steps))
    assert all(step["tokens"] > 0 for step in steps)
    (check,) = told(events, "eval")
    assert wanted <= check["metrics"].keys()
    model = AutoPeftModelForCausalLM.from_pretrained(run.output)
    moved = [each for name, each in model.named_parameters() if "lora_B" in name]
    assert any(bool(torch.any(each != 0)) for each in moved)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(bench, compared, loss):
    events = bench.work(compared(trainer={"preference_loss": loss}, max_steps=1))
    assert events[-1].kind == "finished", events[-1].data
    (step,) = told(events, "step")
    assert isinstance(step["loss"], float)


@pytest.mark.parametrize("loss", ["sigmoid", "kto", "orpo"])
def test_whole_chats_are_told_apart_where_their_answers_begin(bench, compared, loss):
    events = bench.work(compared(CHATS, trainer={"preference_loss": loss}, max_steps=1))
    assert events[-1].kind == "finished", events[-1].data


def test_single_answers_are_for_kto_alone(bench, compared):
    events = bench.work(compared(JUDGED, trainer={"preference_loss": "kto"}))
    assert events[-1].kind == "finished", events[-1].data
    assert told(events, "plan")[0]["train_rows"] == 12
    events = bench.work(compared(JUDGED))
    assert (events[-1].kind, events[-1].data["cause"]) == ("failed", "nothing-to-learn")
    assert "answers to compare" in events[-1].data["what"]


@pytest.mark.parametrize("how", [{"use_4bit": True}, {"use_8bit": True, "use_4bit": False}])
def test_quantized_weights_learn_from_preferences_too(bench, compared, how):
    events = bench.work(compared(**how))
    assert events[-1].kind == "finished", events[-1].data


@pytest.mark.parametrize("loss", ["sigmoid", "kto"])
def test_the_reference_can_be_asked_beforehand(bench, compared, loss):
    trainer = {"preference_loss": loss, "precompute_ref_log_probs": True}
    asked = bench.work(compared(trainer=trainer))
    assert asked[-1].kind == "finished", asked[-1].data
    plainly = bench.work(compared(trainer={"preference_loss": loss}))
    losses = [[step["loss"] for step in told(events, "step")] for events in (asked, plainly)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize(("truncation", "length"), [("right", 512), ("right", 40), ("left", 24)])
def test_what_the_view_shows_is_what_is_trained(bench, compared, truncation, length):
    from modelforge.config.method import method_of
    from modelforge.data.sources import rows_of
    from modelforge.train.collating import row_settings
    from modelforge.train.compared import read_compared
    from modelforge.train.dialect import learn_dialect, stops_of
    from modelforge.train.job import Job
    from modelforge.train.manner import Manner
    from modelforge.train.providers.huggingface import load
    from modelforge.train.strategies.preferences import build
    from modelforge.train.view import token_view

    said = {"truncation_strategy": truncation}
    job = Job.read(compared(data=said, max_seq_length=length, per_device_train_batch_size=4))
    loaded = load(job.plan, job.config, lambda _done, _total: None)
    dialect = learn_dialect(loaded.tokenizer, stops_of(loaded.model.generation_config))
    manner = Manner.of(job.config, job.plan)
    rows = [row for _, row in rows_of(job.dataset, 0)]
    found = read_compared(
        ((row, False) for row in rows), dialect, manner, method_of(job.config, "decoder")
    )
    trainer = build(loaded, found, job)
    batch = trainer.data_collator([found.train[at] for at in range(len(found.train))])
    shown = token_view(rows, dialect, manner, row_settings(job.config, job.plan)).rows
    chosen, rejected = shown[::2], shown[1::2]
    for row, ids, mask, learned in zip(
        [*chosen, *rejected],
        batch["input_ids"].tolist(),
        batch["attention_mask"].tolist(),
        batch["completion_mask"].tolist(),
        strict=True,
    ):
        seen = [(token, role) for token, role in row.tokens if role not in ("cut", "pad")]
        assert [token for token, _ in seen] == [i for i, m in zip(ids, mask, strict=True) if m]
        trained = [t for t, role in seen if role in ("trained", "end")]
        assert trained == [i for i, m in zip(ids, learned, strict=True) if m]


def test_a_pair_that_is_too_long_is_left_out_and_told(bench, compared):
    long = {"prompt": "Why? " * 200, "chosen": "So.", "rejected": "No."}
    events = bench.work(compared([*PAIRS, long], max_seq_length=64))
    assert events[-1].kind == "finished", events[-1].data
    assert "rows-dropped" in {note["code"] for note in told(events, "note")}
    assert told(events, "plan")[0]["train_rows"] == 12
