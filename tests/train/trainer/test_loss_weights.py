"""Weights of tokens in the loss: what is trained, however the batches look."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.train.tiny_trainer import tiny_llama, trainer_for

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

# Rows of different lengths; the first token of a row is never trained.
ROWS = [
    ([1, 5, 9, 7], [-100, 5, 9, 7], [0.0, 0.1, 2.0, 1.0]),
    ([1, 6, 8], [-100, -100, 8], [0.0, 0.0, 0.5]),
    ([1, 11, 12, 13, 14, 15], [-100, 11, -100, 13, 14, 15], [0.0, 3.0, 0.0, 1.0, 0.25, 1.0]),
]
COLUMNS = {
    "input_ids": [ids for ids, _, _ in ROWS],
    "labels": [labels for _, labels, _ in ROWS],
    "loss_weights": [weights for _, _, weights in ROWS],
}
SETTINGS = {
    "adapter": {"enabled": False},
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
    "max_seq_length": 16,
}
LAYOUTS = {
    "padded": {},
    "recomputed": {"gradient_checkpointing": True},
    "padding-free": {"data": {"padding_free": True}},
    "packed": {"packing": True, "per_device_train_batch_size": 1},
    "without-row-losses": {"evaluation": {"row_losses": False}},
}


def expected(model: Any, weighted: bool = True) -> tuple[float, dict[str, Any]]:
    """Return the sum of the weighted losses over the number of tokens, and its gradients."""
    import torch

    total, count = torch.zeros(()), 0
    for ids, labels, weights in ROWS:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels[1:]), ignore_index=-100, reduction="none"
        )
        total = total + (losses * torch.tensor(weights[1:]) if weighted else losses).sum()
        count += sum(label != -100 for label in labels)
    (total / count).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return float(total / count), gradients


def batch_of(trainer: Any) -> tuple[Any, Any]:
    batches, items = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, "cpu")
    return batches[0], items


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_each_token_has_its_weight_in_the_loss_and_in_the_gradients(tmp_path, layout):
    model = tiny_llama()
    loss, gradients = expected(copy.deepcopy(model))
    trainer = trainer_for(model, tmp_path, COLUMNS, **SETTINGS | layout)
    trainer.model.train()
    batch, items = batch_of(trainer)
    if layout.get("gradient_checkpointing"):
        trainer.model.gradient_checkpointing_enable()
    found = trainer.training_step(trainer.model, batch, items)
    assert float(found) == pytest.approx(loss, abs=1e-5)
    for name, weight in trainer.model.named_parameters():
        assert weight.grad.sub(gradients[name]).abs().max() < 1e-6, name
    unweighted, _ = expected(tiny_llama(), weighted=False)
    assert abs(unweighted - loss) > 0.1


def test_microbatches_have_the_weights_of_their_rows(tmp_path):
    model = tiny_llama()
    loss, gradients = expected(copy.deepcopy(model))
    trainer = trainer_for(model, tmp_path, COLUMNS, **SETTINGS)
    trainer.model.train()
    import torch

    from modelforge.train.trainer.oom_recovery import enable_oom_recovery
    from modelforge.train.trainer.private import set_accumulated_loss

    set_accumulated_loss(trainer, torch.zeros(()))
    enable_oom_recovery(trainer, lambda _event: None)
    trainer.batch_splits.train = 3
    batch, items = batch_of(trainer)
    found = trainer.training_step(trainer.model, batch, items)
    assert float(found) == pytest.approx(loss, abs=1e-5)
    for name, weight in trainer.model.named_parameters():
        assert weight.grad.sub(gradients[name]).abs().max() < 1e-6, name


def test_evaluation_counts_every_trained_token_once(tmp_path):
    model = tiny_llama()
    loss, _ = expected(copy.deepcopy(model), weighted=False)
    trainer = trainer_for(model, tmp_path, COLUMNS, **SETTINGS)
    trainer.model.eval()
    batch, items = batch_of(trainer)
    found = trainer.compute_loss(trainer.model, batch, num_items_in_batch=items)
    assert float(found) == pytest.approx(loss, abs=1e-5)


def test_losses_of_rows_are_recorded_without_weights(tmp_path):
    from modelforge.train.trainer import row_losses

    def recorded(columns: Any) -> Any:
        trainer = trainer_for(tiny_llama(), tmp_path, columns, **SETTINGS)
        row_losses.attach(trainer, tmp_path / "losses", resumes=False)
        trainer.model.train()
        batch, items = batch_of(trainer)
        trainer.training_step(trainer.model, batch, items)
        return trainer.row_losses.sums.values

    plain = recorded({name: COLUMNS[name] for name in ("input_ids", "labels")})
    weighted = recorded(COLUMNS)
    assert plain["tokens"].sum() == 8
    assert all((plain[name] == weighted[name]).all() for name in plain)


def test_role_and_message_weights_of_a_run_change_what_is_learned(bench, write_rows):
    from safetensors.torch import load_file

    messages = [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Red.", "weight": 0.25},
        {"role": "user", "content": "And another one?"},
        {"role": "assistant", "content": "Blue, the colour of the sea."},
    ]
    bench.rows = write_rows([{"messages": messages}] * 8)

    def trained(**data: Any) -> Any:
        run = bench.prepare(data=data, lora_dropout=0.0)
        events = bench.work(run)
        assert events[-1].kind == "finished", events[-1].data
        return load_file(run.output / "adapter_model.safetensors")

    plain = trained()
    for data in ({"role_weights": "user=0.5"}, {"message_weights": True}):
        changed = trained(**data)
        assert any(not plain[name].equal(weight) for name, weight in changed.items()), data
    same = trained(role_weights="assistant=1")
    assert all(plain[name].sub(weight).abs().max() < 1e-6 for name, weight in same.items())
