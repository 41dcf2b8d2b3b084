"""Learning from preferences: real TRL on a tiny model, with every loss and every kind of row."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from modelforge.config.schema.training import Trainer
from modelforge.runs.events import EventRecord
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
SHORT = [
    {"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "Who knows?"}
    for n in range(12)
]
JUDGED = [
    {"prompt": f"What is {n}?", "completion": f"It is {n}.", "label": n % 2 == 0} for n in range(12)
]
LOSSES = get_args(Trainer.model_fields["preference_loss"].annotation)


def reported(events: list[EventRecord], kind: str) -> list[dict[str, Any]]:
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


METHODS = ["sigmoid", "kto", "orpo"]
REWARDS = {"rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen"}


def kept(events: list[EventRecord]) -> dict[str, Any]:
    """Return the plan of a run that is to have finished."""
    assert events[-1].kind == "finished", events[-1].data
    return reported(events, "plan")[0]


@pytest.mark.parametrize("loss", METHODS)
def test_pairs_are_learned_from_and_the_adapter_loads_with_plain_peft(bench, compared, loss):
    import torch
    from peft import AutoPeftModelForCausalLM

    run = compared(eval_split=0.25, trainer={"preference_loss": loss})
    events = bench.work(run)
    plan = kept(events)
    answers = 2 if loss == "kto" else 1
    assert (plan["train_rows"], plan["eval_rows"]) == (9 * answers, 3 * answers)
    assert plan["method"] == {"sigmoid": "dpo"}.get(loss, loss)
    steps = reported(events, "step")
    assert [step["step"] for step in steps] == [1, 2]
    assert all(step["tokens"] > 0 and step["tokens_per_s"] > 0 for step in steps)
    (check,) = reported(events, "eval")
    wanted = REWARDS if loss == "kto" else {*REWARDS, "rewards/accuracies"}
    assert wanted <= check["metrics"].keys()
    assert wanted <= set().union(*(step["metrics"] for step in steps))
    if loss != "orpo":
        assert steps[0]["metrics"]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert check["metrics"]["rewards/margins"] > 0
    assert not (run.output / "ref").exists()
    model = AutoPeftModelForCausalLM.from_pretrained(run.output)
    moved = [each for name, each in model.named_parameters() if "lora_B" in name]
    assert any(bool(torch.any(each != 0)) for each in moved)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(bench, compared, loss):
    events = bench.work(compared(trainer={"preference_loss": loss}))
    kept(events)
    steps = reported(events, "step")
    assert all(isinstance(step["loss"], float) and step["grad_norm"] > 0 for step in steps)


def test_whole_chats_are_split_where_their_answers_begin(bench, compared):
    chats, plain = (
        kept(bench.work(compared(rows, max_steps=1)))["trained_tokens"] for rows in (CHATS, SHORT)
    )
    assert chats == plain


def test_single_answers_are_for_kto_alone(bench, compared):
    kto = {"preference_loss": "kto"}
    assert kept(bench.work(compared(JUDGED, trainer=kto)))["train_rows"] == 12
    for loss in ("sigmoid", "orpo"):
        failed = bench.work(compared(JUDGED, trainer={"preference_loss": loss}))[-1]
        assert (failed.kind, failed.data["cause"]) == ("failed", "wrong-kind")
        assert "choose the preference loss kto" in failed.data["remedy"]


def test_rows_without_any_judgement_are_refused(bench, compared):
    rows = [{"input": f"What is {n}?", "output": "So."} for n in range(4)]
    for loss in METHODS:
        failed = bench.work(compared(rows, trainer={"preference_loss": loss}))[-1]
        assert failed.data["cause"] == "wrong-kind"
        assert failed.data["remedy"].startswith("Give rows with prompt")


def test_kto_takes_two_answers_at_once_where_one_is_asked_for_and_says_so(bench, compared):
    values = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "max_steps": -1}
    events = bench.work(compared(JUDGED, trainer={"preference_loss": "kto"}, **values))
    assert kept(events)["total_steps"] == 3
    assert "batch-raised" in {note["code"] for note in reported(events, "note")}


@pytest.mark.parametrize("how", [{"use_4bit": True}, {"use_8bit": True}])
@pytest.mark.parametrize("loss", METHODS)
def test_quantized_weights_learn_from_preferences_too(bench, compared, how, loss):
    kept(bench.work(compared(**how, trainer={"preference_loss": loss})))


def test_half_precision_and_checkpointing_learn_from_preferences_too(bench, compared):
    for loss in METHODS:
        values = {"bf16": True, "gradient_checkpointing": True}
        kept(bench.work(compared(trainer={"preference_loss": loss}, **values)))


@pytest.mark.parametrize("loss", ["sigmoid", "kto"])
def test_the_reference_can_be_asked_beforehand(bench, compared, loss):
    trainer = {"preference_loss": loss, "precompute_ref_log_probs": True}
    asked = bench.work(compared(trainer=trainer, eval_split=0.25))
    plainly = bench.work(compared(trainer={"preference_loss": loss}, eval_split=0.25))
    losses = [[step["loss"] for step in reported(events, "step")] for events in (asked, plainly)]
    kept(asked)
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    reported_for = [data["text"] for data in reported(asked, "phase")]
    assert "Computing reference log-probabilities" in reported_for


def made(run: RunFolder, loss: str) -> Any:
    """Return the trainer of a run as it is before its first update, and what it was made from."""
    from modelforge.modeling.providers.huggingface import load
    from modelforge.modeling.tokenize import preference
    from modelforge.modeling.tokenize.dataset import DatasetRequest
    from modelforge.modeling.tokenize.options import TokenizeOptions
    from modelforge.modeling.tokenize.template import load_chat_template, stop_ids_of
    from modelforge.train.job import Job
    from modelforge.train.strategies import dpo, kto, orpo
    from modelforge.train.strategies import preference as references
    from modelforge.train.strategies.preference import Reference

    job = Job.read(run)
    loaded = load(job.plan, job.config, lambda _done, _total: None)
    chat_template = load_chat_template(
        loaded.tokenizer, stop_ids_of(loaded.model.generation_config)
    )
    tokenize_options = TokenizeOptions.from_plan(job.config, job.plan)
    read = preference.tokenize_unpaired if loss == "kto" else preference.tokenize_pairs
    order = DatasetRequest(job.dataset, 0.0, job.config.trainer.seed, tokenize_options)
    tokenized = read(order, chat_template, lambda _done, _total: None)

    def again(_head: str) -> Any:
        return load(job.plan, job.config, lambda _done, _total: None)

    reference = Reference(references.load_reference(SimpleNamespace(job=job, load=again)))
    strategy = {"kto": kto, "orpo": orpo}.get(loss, dpo)
    trainer = strategy.build_trainer(job, loaded, tokenized, reference)
    return SimpleNamespace(
        trainer=trainer, chat_template=chat_template, tokenize_options=tokenize_options, job=job
    )


def seen_by(trainer: Any, loss: str) -> list[tuple[list[int], list[int]]]:
    """Return every sequence of the trainer's batch, and of it what is learned."""
    batch = trainer.data_collator(list(trainer.train_dataset))
    if loss == "orpo":
        sides = ("chosen", "rejected")
        parts = ("input_ids", "attention_mask", "labels")
        ids, masks, labels = (
            [row for side in sides for row in batch[f"{side}_{part}"].tolist()] for part in parts
        )
        learned = [[int(label != -100) for label in row] for row in labels]
    else:
        names = ("input_ids", "attention_mask", "completion_mask")
        ids, masks, learned = (batch[name].tolist() for name in names)
    return [
        (
            [one for one, is_read in zip(row, mask, strict=True) if is_read],
            [one for one, is_learned in zip(row, marks, strict=True) if is_learned],
        )
        for row, mask, marks in zip(ids, masks, learned, strict=True)
    ]


@pytest.mark.parametrize(
    ("loss", "rows"),
    [("sigmoid", PAIRS), ("orpo", PAIRS), ("kto", JUDGED), ("kto", PAIRS)],
    ids=["dpo", "orpo", "kto", "kto-on-pairs"],
)
@pytest.mark.parametrize(
    ("truncation", "length"), [("right", 512), ("right", 40), ("left", 24), ("split", 40)]
)
def test_what_the_view_shows_is_what_is_trained(compared, loss, rows, truncation, length):
    from modelforge.data.sources.load import iterate_rows
    from modelforge.modeling.tokenize.collate import sft_data_arguments
    from modelforge.modeling.tokenize.preview import preview_tokens

    trainer = {"preference_loss": loss}
    values = {"data": {"truncation_strategy": truncation}, "max_seq_length": length}
    run = made(compared(rows, trainer=trainer, **values), loss)
    canonical = [row for _, row in iterate_rows(run.job.dataset, 0)]
    settings = sft_data_arguments(run.job.config, run.job.plan)
    shown = preview_tokens(canonical, run.chat_template, run.tokenize_options, settings).rows
    expected = [
        (
            [token for token, role in row.tokens if role not in ("cut", "pad")],
            [token for token, role in row.tokens if role in ("trained", "end")],
        )
        for row in shown
    ]
    assert sorted(expected) == sorted(seen_by(run.trainer, loss))
    assert any(row.totals["cut"] for row in shown) is (length < 512)


def test_rows_that_do_not_fit_are_left_out_and_reported(bench, compared):
    long = {"prompt": "Why? " * 200, "chosen": "So.", "rejected": "No."}
    for loss in METHODS:
        trainer = {"preference_loss": loss}
        events = bench.work(compared([*PAIRS, long], max_seq_length=64, trainer=trainer))
        assert kept(events)["train_rows"] == (24 if loss == "kto" else 12)
        assert "rows-dropped" in {note["code"] for note in reported(events, "note")}


def test_long_pairs_are_deleted_when_asked(bench, compared):
    long = {"prompt": "Why?", "chosen": "So. " * 200, "rejected": "No."}
    values = {"data": {"truncation_strategy": "delete"}, "max_seq_length": 64}
    events = bench.work(compared([*PAIRS, long], **values))
    assert kept(events)["train_rows"] == 12
    assert {note["code"] for note in reported(events, "note")} == {"rows-deleted"}


@pytest.mark.parametrize("loss", METHODS)
def test_a_higher_beta_changes_the_loss_of_the_same_model(compared, loss):
    """Before the first step DPO and KTO see no difference to the reference, so one is made."""
    import torch

    def loss_with(beta: float) -> float:
        values = {"preference_loss": loss, "preference_beta": beta}
        torch.manual_seed(0)
        trainer = made(compared(lora_dropout=0, trainer=values), loss).trainer
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(std=0.2)
        batch = trainer.data_collator(list(trainer.train_dataset))
        with torch.no_grad():
            return float(trainer.compute_loss(trainer.model, batch))

    assert abs(loss_with(0.1) - loss_with(0.9)) > 1e-3


@pytest.mark.parametrize("loss", METHODS)
def test_all_weights_can_learn_with_a_second_copy_as_the_reference(compared, loss):
    whole = {"adapter": {"enabled": False}, "trainer": {"preference_loss": loss}}
    trainer = made(compared(**whole), loss).trainer
    trainer.train()
    first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
    if loss != "orpo":
        assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)
        assert trainer.ref_model is not None
    assert second["grad_norm"] > 0


def test_a_reference_asked_beforehand_needs_no_second_copy(compared):
    trainer = {"precompute_ref_log_probs": True}
    run = made(compared(adapter={"enabled": False}, trainer=trainer), "sigmoid")
    assert run.trainer.ref_model is None
    run.trainer.train()
    assert run.trainer.state.log_history[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", METHODS)
@pytest.mark.parametrize(("init", "bits"), [("pissa", False), ("olora", True), ("loftq", True)])
def test_a_near_start_is_held_against_itself(bench, compared, loss, init, bits):
    trainer = {"preference_loss": loss}
    run = compared(adapter={"init": init}, use_4bit=bits, trainer=trainer)
    events = bench.work(run)
    kept(events)
    first, second = (step["metrics"] for step in reported(events, "step"))
    if loss != "orpo":
        assert first["rewards/margins"] == pytest.approx(0, abs=1e-4)
        assert first["rewards/chosen"] == pytest.approx(0, abs=1e-3)
    assert second["logps/chosen"] < 0
    assert not (run.output / "ref").exists()


def test_a_run_of_all_weights_leaves_a_model(bench, compared):
    from transformers import AutoModelForCausalLM

    for loss in METHODS:
        run = compared(adapter={"enabled": False}, trainer={"preference_loss": loss})
        kept(bench.work(run))
        assert AutoModelForCausalLM.from_pretrained(run.output).num_parameters() > 0


def test_a_run_that_is_stopped_is_kept(bench, compared):
    from tests.train.test_worker import stop_at

    run = compared(max_steps=50)
    stop_at(run, 2, "keep")
    end = bench.work(run)[-1]
    assert (end.kind, end.data["kept"]) == ("stopped", True)
    assert (run.output / "adapter_model.safetensors").exists()
