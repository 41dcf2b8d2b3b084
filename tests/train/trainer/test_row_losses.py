"""Losses of rows: as the model computes them, whatever the batches look like."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelforge.runs.row_losses import RowLossSums, read_row_losses, read_sums

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

# Rows of different lengths, so that no two can be confused.
ROWS = [
    {"input": f"What is {n}?", "output": " ".join(["It", "is", str(n * n), *["so"] * n])}
    for n in range(8)
]
# Nothing is learned and nothing is random: every epoch sees the losses of the base model.
STILL = {
    "learning_rate": 1e-12,
    "lora_dropout": 0.0,
    "max_steps": -1,
    "num_train_epochs": 2,
    "max_seq_length": 64,
}


def losses_alone(model_path, rows):
    """Return the mean loss of the answer of each row, computed by Transformers one by one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from modelforge.modeling.tokenize.encode import encode
    from modelforge.modeling.tokenize.template import load_chat_template

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path).eval()
    template = load_chat_template(tokenizer, [2])
    chats = [
        {
            "messages": [
                {"role": "user", "content": row["input"]},
                {"role": "assistant", "content": row["output"]},
            ]
        }
        for row in rows
    ]
    losses = []
    for example in encode(chats, template, "completion"):
        with torch.no_grad():
            ids, labels = (torch.tensor([part]) for part in (example.input_ids, example.labels))
            losses.append(float(model(input_ids=ids, labels=labels).loss))
    return losses


LAYOUTS = {
    "padded": {"per_device_train_batch_size": 4},
    "padding-free": {"per_device_train_batch_size": 4, "data": {"padding_free": True}},
    "packed": {"packing": True},
    "packed-split": {"packing": True, "data": {"packing_strategy": "bfd_split"}},
    "accumulated": {"gradient_accumulation_steps": 2, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_loss_of_a_row_is_that_of_the_row_alone(bench, write_rows, layout):
    bench.rows = write_rows(ROWS)
    run = bench.prepare(**(STILL | layout))
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    found = read_row_losses(run)
    assert list(found.rows) == list(range(8))
    alone = losses_alone(bench.model, ROWS)
    assert len({round(loss, 4) for loss in alone}) > 4
    for losses in (found.before, found.after, found.mean):
        assert losses == pytest.approx(alone, abs=2e-3)
    assert list(np.diff(found.tokens)) == pytest.approx([1] * 7, abs=2)
    assert found.share.sum() == pytest.approx(1)


def test_wrapped_packing_counts_every_token_for_its_row(bench, write_rows):
    bench.rows = write_rows(ROWS)
    wrapped = {"packing": True, "data": {"packing_strategy": "wrapped"}, "max_seq_length": 48}
    run = bench.prepare(**(STILL | wrapped))
    assert bench.work(run)[-1].kind == "finished"
    found = read_row_losses(run)
    assert list(found.rows) == list(range(8))
    # At most the first token of a sequence has no loss.
    assert found.tokens[-1] > found.tokens[0]


def test_rows_for_evaluation_have_no_training_loss(bench, write_rows):
    bench.rows = write_rows(ROWS)
    run = bench.prepare(**STILL, eval_split=0.25, eval_steps=1)
    events = bench.work(run)
    plan = next(event.data for event in events if event.kind == "plan")
    found = read_row_losses(run)
    assert len(found.rows) == plan["train_rows"] == 6
    assert set(found.rows) < set(range(8))


def test_a_learned_row_has_a_lower_loss_after_than_before(bench, write_rows):
    bench.rows = write_rows(ROWS)
    learning = STILL | {"learning_rate": 0.02, "num_train_epochs": 6}
    run = bench.prepare(**learning)
    bench.work(run)
    found = read_row_losses(run)
    assert (found.after < found.before).all()
    assert ((found.after < found.mean) & (found.mean < found.before)).all()


def test_losses_of_rows_are_kept_only_if_set_and_change_nothing_about_the_training(bench):
    losses = []
    for keeps in (True, False):
        run = bench.prepare(lora_dropout=0.2, evaluation={"row_losses": keeps})
        (end,) = [event.data for event in bench.work(run) if event.kind == "finished"]
        assert run.row_losses.exists() == keeps
        assert (read_row_losses(run) is not None) == keeps
        losses.append(end["loss"])
    assert losses[0] == losses[1]


def test_a_resumed_run_continues_with_its_losses(bench, write_rows, at):
    from modelforge.runs.atomic_files import write_json
    from modelforge.runs.events import last_number

    bench.rows = write_rows(ROWS)
    whole = bench.prepare(**STILL)
    bench.work(whole)
    run = bench.prepare(**STILL)
    at("on_step_end", 3, lambda: run.stop.write_text("keep"))
    bench.work(run)
    partial = read_row_losses(run)
    assert len(partial.rows) == 6
    assert np.isnan(partial.after).all()
    run.stop.unlink()
    write_json(run.process, {"after": last_number(run.events)})
    bench.work(run)
    both = [read_row_losses(each) for each in (whole, run)]
    for name in ("rows", "before", "after", "mean", "share", "tokens"):
        first, second = (getattr(each, name) for each in both)
        assert second == pytest.approx(first, rel=1e-4), name


def test_microbatches_after_a_lack_of_memory_keep_the_rows_apart(bench, write_rows, monkeypatch):
    import torch

    from modelforge.train.strategies.sft import SftTrainer

    bench.rows = write_rows(ROWS)
    true = SftTrainer.compute_loss

    def scarce(trainer, model, inputs, *args, **kwargs):
        if model.training and len(inputs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return true(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SftTrainer, "compute_loss", scarce)
    run = bench.prepare(**(STILL | {"per_device_train_batch_size": 4}))
    events = bench.work(run)
    assert any(event.kind == "adjusted" for event in events)
    assert read_row_losses(run).before == pytest.approx(losses_alone(bench.model, ROWS), abs=2e-3)


def test_a_damaged_or_missing_file_is_not_read(tmp_path):
    path = tmp_path / "row-losses.npz"
    assert read_sums(path) is None
    sums = RowLossSums(3)
    sums.add(np.array([2, 2, 0]), np.array([1.0, 3.0, 0.0]), 0)
    sums.write(path)
    found = read_sums(path).losses()
    assert list(found.rows) == [0, 2]
    assert list(found.before) == [0.0, 2.0]
    assert list(found.share) == [0.0, 1.0]
    whole = path.read_bytes()
    for damaged in (b"", b"PK", whole[:-40], json.dumps({}).encode()):
        path.write_bytes(damaged)
        assert read_sums(path) is None
    np.savez(path, **{name: np.zeros(1 + (name == "loss")) for name in sums.values})
    assert read_sums(path) is None
